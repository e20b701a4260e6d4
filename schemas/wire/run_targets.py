"""The media of a run. A target rejects fields that it does not use: without them, the run would cover more media."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from promptreel.schemas.wire.common import ClosedModel

Id = Annotated[str, Field(min_length=1, max_length=255)]

_SELECTED_MEDIA = "to select media, use the type 'videos'"


class IndexTarget(ClosedModel):
    """All media of an index."""

    elsewhere = {"video_ids": _SELECTED_MEDIA}

    type: Literal["index"]
    index_id: str = Field(min_length=1)


class VideosTarget(ClosedModel):
    """Selected media of one index; without `index_id`, of the playground."""

    type: Literal["videos"]
    video_ids: list[Id] = Field(min_length=1, max_length=10_000)
    index_id: str | None = Field(default=None, min_length=1)


class PlaygroundTarget(ClosedModel):
    """All media that are in no index."""

    elsewhere = {"index_id": "for the media of an index, use the type 'index'", "video_ids": _SELECTED_MEDIA}

    type: Literal["playground"]


Target = Annotated[IndexTarget | VideosTarget | PlaygroundTarget, Field(discriminator="type")]
