"""A group of calls that is sent to a service as one batch job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# "planned": the job may exist; "submitted": it exists; "dropped": it was never created.
GroupState = Literal["planned", "submitted", "dropped"]


@dataclass(frozen=True, slots=True)
class BatchGroup:
    """One group of calls.

    Attributes:
        display_name: of its job; derives from the run and the group.
        attempt: the attempt of the run that created the group.
        planned_at: seconds since the epoch.
        keys: identify the calls, see `promptreel.providers.batch_policy.call_key`.
        job: name of the job at the service; None before it is known.
    """

    group_id: str
    display_name: str
    attempt: int
    planned_at: float
    keys: tuple[str, ...]
    state: GroupState = "planned"
    job: str | None = None
