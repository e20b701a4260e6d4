"""Waiting for something that the service does, up to an overall deadline."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from promptreel.schemas.wire.common import DeletionStatus
from promptreel.schemas.wire.prompt_runs import PromptRunBody, SegmentRetry
from promptreel.sdk.errors import (
    ConnectionFailed,
    PromptReelError,
    RateLimitError,
    RequestTimedOut,
    RunFailed,
    ServerError,
    WaitTimedOut,
)
from promptreel.sdk.request import Call
from promptreel.sdk.sender import AsyncSender, Sender

State = TypeVar("State")

RUN_FINAL: Final = frozenset({"completed", "completed_with_failures", "failed", "cancelled"})
RETRY_FINAL: Final = frozenset({"completed", "failed"})
# Seconds that a wait lasts, unless the caller says otherwise.
RUN_TIMEOUT_S: Final = 3600.0
DELETION_TIMEOUT_S: Final = 600.0
# Looks become rarer up to this, unless the caller's own interval is longer.
_RAREST_S: Final = 5.0
_GROWTH: Final = 1.5
# The last look is made at the deadline and may take this long.
FINAL_POLL_S: Final = 2.0
# What passes by itself: once the first look has succeeded, it is waited out.
_PASSING = (ConnectionFailed, RequestTimedOut, RateLimitError, ServerError)


@dataclass(frozen=True, slots=True)
class Awaited(Generic[State]):
    """What is waited for.

    Attributes:
        call: looks at it.
        name: what it is, e.g. "run run_1".
        is_final: whether nothing more will change.
        words: its status, for a message.
        fix: what can be done where the wait ends first.
        asked_s: seconds after which the service wants to be asked again.
    """

    call: Call[State]
    name: str
    is_final: Callable[[State], bool]
    words: Callable[[State], str]
    fix: str
    asked_s: Callable[[State], float] = lambda state: 0.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long, and how often, something is looked at.

    Attributes:
        timeout_s: seconds after which the wait ends.
        poll_interval_s: seconds between the first two looks; later ones are rarer.
    """

    timeout_s: float
    poll_interval_s: float

    def __post_init__(self) -> None:
        for name, value in (("timeout_s", self.timeout_s), ("poll_interval_s", self.poll_interval_s)):
            if not value > 0:
                raise ValueError(f"{name} is {value}; give seconds above 0")

    def pauses_s(self) -> Iterator[float]:
        """Seconds between looks, without end."""
        pause_s = self.poll_interval_s
        while True:
            yield pause_s
            pause_s = max(self.poll_interval_s, min(pause_s * _GROWTH, _RAREST_S))


def wait_for(
    sender: Sender, awaited: Awaited[State], patience: Patience, on_progress: Callable[[State], object] | None = None
) -> State:
    """Looks until it is final; returns its last state.

    Args:
        on_progress: is told each state that was seen, the last too.

    Raises:
        WaitTimedOut: it was not final at the deadline.
        PromptReelError: the first look failed, or a later one did in a way that does not pass by itself.
    """
    deadline = sender.now() + patience.timeout_s
    state: State | None = None
    trouble: PromptReelError | None = None
    for pause_s in patience.pauses_s():
        try:
            state = sender.send(awaited.call, deadline + FINAL_POLL_S)
        except _PASSING as error:
            if state is None:
                raise
            trouble = error
        else:
            trouble = None
            if on_progress is not None:
                on_progress(state)
            if awaited.is_final(state):
                return state
        left_s = deadline - sender.now()
        if left_s <= 0:
            break
        sender.sleep(min(left_s, max(pause_s, _asked_s(awaited, state, trouble))))
    raise _timed_out(awaited, patience, state) from trouble


async def wait_for_async(
    sender: AsyncSender,
    awaited: Awaited[State],
    patience: Patience,
    on_progress: Callable[[State], object | Awaitable[object]] | None = None,
) -> State:
    """See `wait_for`; `on_progress` may be a coroutine function."""
    deadline = sender.now() + patience.timeout_s
    state: State | None = None
    trouble: PromptReelError | None = None
    for pause_s in patience.pauses_s():
        try:
            state = await sender.send(awaited.call, deadline + FINAL_POLL_S)
        except _PASSING as error:
            if state is None:
                raise
            trouble = error
        else:
            trouble = None
            if on_progress is not None and inspect.isawaitable(told := on_progress(state)):
                await told
            if awaited.is_final(state):
                return state
        left_s = deadline - sender.now()
        if left_s <= 0:
            break
        await sender.sleep(min(left_s, max(pause_s, _asked_s(awaited, state, trouble))))
    raise _timed_out(awaited, patience, state) from trouble


def awaited_run(call: Call[PromptRunBody], run_id: str) -> Awaited[PromptRunBody]:
    """A run that shall end."""
    return Awaited(
        call,
        f"run {run_id}",
        lambda run: run.status in RUN_FINAL,
        lambda run: f"{run.status}, {run.completed_segments} of {run.total_segments} segments",
        "wait again with a longer timeout_s, or cancel it",
    )


def awaited_retry(call: Call[SegmentRetry], run_id: str, retry_id: str) -> Awaited[SegmentRetry]:
    """A retry that shall end."""
    return Awaited(
        call,
        f"retry {retry_id} of run {run_id}",
        lambda retry: retry.status in RETRY_FINAL,
        lambda retry: retry.status,
        "wait again with a longer timeout_s",
    )


def awaited_deletion(call: Call[DeletionStatus], identifier: str) -> Awaited[DeletionStatus]:
    """A deletion that shall end."""
    return Awaited(
        call,
        f"the deletion of {identifier}",
        lambda deletion: deletion.status == "deleted",
        lambda deletion: deletion.status,
        "wait again with a longer timeout_s; asking for the deletion again resumes it",
        lambda deletion: float(deletion.retry_after_seconds or 0),
    )


def checked_run(run: PromptRunBody, raise_on_failure: bool) -> PromptRunBody:
    """The run.

    Raises:
        RunFailed: it failed, and that is to be raised.
    """
    if raise_on_failure and run.status == "failed":
        why = run.error_message or "no segment has succeeded"
        raise RunFailed(
            f"run {run.run_id} failed: {why}. client.prompt_runs.get_failed_segments({run.run_id!r}) says what failed",
            run,
        )
    return run


def checked_retry(retry: SegmentRetry, raise_on_failure: bool) -> SegmentRetry:
    """The retry.

    Raises:
        RunFailed: it failed, and that is to be raised.
    """
    if raise_on_failure and retry.status == "failed":
        why = retry.error or "the service gave no reason"
        raise RunFailed(
            f"retry {retry.retry_id} of run {retry.run_id} failed: {why}. "
            f"client.prompt_runs.get_failed_segments({retry.run_id!r}) says what may be tried again",
            retry,
        )
    return retry


def _asked_s(awaited: Awaited[State], state: State | None, trouble: PromptReelError | None) -> float:
    """Seconds that the service asked to be left alone."""
    if trouble is not None:
        return getattr(trouble, "retry_after_s", None) or 0.0
    return awaited.asked_s(state) if state is not None else 0.0


def _timed_out(awaited: Awaited[Any], patience: Patience, state: Any) -> WaitTimedOut:
    words = awaited.words(state) if state is not None else "not seen"
    return WaitTimedOut(
        f"{awaited.name} was not finished after {patience.timeout_s:g} s ({words}); it goes on. {awaited.fix.capitalize()}",
        state,
    )
