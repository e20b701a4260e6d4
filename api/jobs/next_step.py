"""The supervisor's next step for a run, as a pure function of its state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from promptreel.tables.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Facts:
    """The state of a run that the supervisor executes.

    Attributes:
        now: current `time.monotonic`.
        starts_at: `time.monotonic` at which to start its runner; None if one was started.
        is_alive: whether a runner is executing the run.
        commit: the manifest committed by this job; None before the first.
        starts: how often the job's runner was started.
        last_start: maximum number of starts.
    """

    now: float
    starts_at: float | None
    is_alive: bool = False
    commit: Manifest | None = None
    starts: int = 0
    last_start: int = 1


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Start:
    """Start the runner."""


@dataclass(frozen=True, slots=True)
class Follow:
    """Forward a stop request to the runner, and its progress to the database."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Store the result of the committed manifest."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Resume:
    """Restart the dead runner after a delay that grows with its starts."""

    starts: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Fail the job: it has no starts left."""


Step: TypeAlias = Wait | Start | Follow | Finish | Resume | GiveUp


def next_step(facts: Facts) -> Step:
    """Choose the next step. A commit counts only after its runner has ended; then it precedes a restart."""
    if facts.starts_at is not None:
        return Start() if facts.now >= facts.starts_at else Wait()
    if facts.is_alive:
        return Follow()
    if facts.commit is not None:
        return Finish(facts.commit)
    if facts.starts >= facts.last_start:
        return GiveUp()
    return Resume(facts.starts)
