"""What a run segments besides the strategy of each media type: windows that overlap, a time range, the user's own words."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, model_validator

from promptreel.schemas.strategies import MAX_DEFINITION_CHARS, MAX_HOP_S, MIN_HOP_S, MIN_RANGE_S
from promptreel.schemas.wire.common import ClosedModel


def integral(value: Any) -> Any:
    """Convert 15.0, which JSON does not distinguish from 15. Text and booleans stay as they are, to be rejected."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class SegmentOptions(ClosedModel):
    """How the segments of a run differ from those that its strategies cut from complete items.

    Attributes:
        hop: seconds from the start of one fixed segment to the next; null is their length. A shorter hop overlaps
            segments, a longer one leaves gaps.
        start_time, end_time: the part of each video and audio item to segment, in seconds; null is the item's end.
        definition: words for what one segment is, e.g. "one segment per product shown". A model marks such segments.
        dedupe: call the model once for neighbouring segments that are near-duplicates: the same still picture, e.g. a
            slide, without speech.
    """

    hop: Annotated[StrictInt, BeforeValidator(integral), Field(ge=MIN_HOP_S, le=MAX_HOP_S)] | None = None
    start_time: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    end_time: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    definition: Annotated[str, Field(min_length=1, max_length=MAX_DEFINITION_CHARS)] | None = None
    dedupe: StrictBool = False

    @model_validator(mode="after")
    def _check_range(self) -> SegmentOptions:
        if self.end_time is not None and self.end_time - self.start_time < MIN_RANGE_S:
            raise ValueError(
                f"end_time is {self.end_time:g}, but start_time is {self.start_time:g}; it must be at least "
                f"{MIN_RANGE_S:g} s later"
            )
        return self
