"""The interface of a service's batch jobs: many requests in one job, answered later at a lower price."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from promptreel.schemas.errors import ModelError

if TYPE_CHECKING:
    from promptreel.providers.base import ModelAnswer

# "ended" includes a cancelled job, which may have some answers; "lost": the service does not know the job.
JobState = Literal["active", "ended", "expired", "failed", "lost"]


class BatchJobs(ABC):
    """Submits jobs and reads their answers. Every method makes calls once, without retries, and raises ModelError.

    A request file has one JSON object per line: {"key": ..., "request": ...}.
    """

    @abstractmethod
    async def submit(self, display_name: str, requests: Path) -> str:
        """Submit a request file as a job and return the job's name."""

    @abstractmethod
    async def find(self, display_name: str) -> str | None:
        """Return the name of the job with a display name; None if the service has none."""

    @abstractmethod
    async def state(self, job: str) -> JobState:
        """Return the state of a job."""

    @abstractmethod
    async def results(self, job: str) -> Mapping[str, ModelAnswer | ModelError]:
        """Return what a job that has ended answered, by key. A request without an answer is missing."""

    @abstractmethod
    async def cancel(self, job: str) -> None:
        """Cancel a job; one that has ended is unchanged."""
