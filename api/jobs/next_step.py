"""What the supervisor does next with a run: a pure decision over what it knows of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from promptreel.tables.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a run that the supervisor executes.

    Attributes:
        now: `time.monotonic`.
        starts_at: moment at which its runner is to be started; None while one was started and has not died.
        is_alive: whether a runner works on it.
        commit: the manifest that was committed since the job began; None before that.
        starts: how often the job's runner was started.
        last_start: number of the start after which there is no other.
    """

    now: float
    starts_at: float | None
    is_alive: bool = False
    commit: Manifest | None = None
    starts: int = 0
    last_start: int = 1


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is due."""


@dataclass(frozen=True, slots=True)
class Start:
    """Start the runner."""


@dataclass(frozen=True, slots=True)
class Follow:
    """Pass a stop request on to the runner, and its progress to the database."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Take over what was committed."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Resume:
    """Start the dead runner again after a pause that grows with its starts."""

    starts: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Fail the job: its starts are used up."""


Step: TypeAlias = Wait | Start | Follow | Finish | Resume | GiveUp


def next_step(facts: Facts) -> Step:
    """The step that the facts call for. A commit counts only once its runner has ended, and before a dead runner does."""
    if facts.starts_at is not None:
        return Start() if facts.now >= facts.starts_at else Wait()
    if facts.is_alive:
        return Follow()
    if facts.commit is not None:
        return Finish(facts.commit)
    if facts.starts >= facts.last_start:
        return GiveUp()
    return Resume(facts.starts)
