"""Wait for operations of the service to finish, up to a deadline."""

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

FINAL_RUN_STATUSES: Final = frozenset({"completed", "completed_with_failures", "failed", "cancelled"})
FINAL_RETRY_STATUSES: Final = frozenset({"completed", "failed"})
# Default timeouts of a wait.
RUN_TIMEOUT_S: Final = 3600.0
DELETION_TIMEOUT_S: Final = 600.0
# The poll interval grows to this limit, unless the caller's interval is longer.
_MAX_POLL_INTERVAL_S: Final = 5.0
_POLL_INTERVAL_GROWTH: Final = 1.5
# The last poll is made at the deadline and may take this long.
FINAL_POLL_TIMEOUT_S: Final = 2.0
# Once a first poll has succeeded, these errors do not end the wait.
_TRANSIENT_ERRORS = (ConnectionFailed, RequestTimedOut, RateLimitError, ServerError)


@dataclass(frozen=True, slots=True)
class Pollable(Generic[State]):
    """An operation to wait for.

    Attributes:
        call: gets the state.
        name: for messages, e.g. "run run_1".
        is_final: whether the operation has finished.
        describe: describes the state for a message.
        fix: suggested fix for a wait that timed out.
        min_interval_s: seconds to the next poll that the service requests.
    """

    call: Call[State]
    name: str
    is_final: Callable[[State], bool]
    describe: Callable[[State], str]
    fix: str
    min_interval_s: Callable[[State], float] = lambda state: 0.0


@dataclass(frozen=True, slots=True)
class PollSettings:
    """How long and how often to poll.

    Attributes:
        timeout_s: maximum wait in seconds.
        poll_interval_s: seconds between the first two polls; the interval then grows.
    """

    timeout_s: float
    poll_interval_s: float

    def __post_init__(self) -> None:
        for name, value in (("timeout_s", self.timeout_s), ("poll_interval_s", self.poll_interval_s)):
            if not value > 0:
                raise ValueError(f"{name} is {value}; it must be above 0 seconds")

    def intervals_s(self) -> Iterator[float]:
        """Yield the seconds between polls, indefinitely."""
        interval_s = self.poll_interval_s
        while True:
            yield interval_s
            interval_s = max(self.poll_interval_s, min(interval_s * _POLL_INTERVAL_GROWTH, _MAX_POLL_INTERVAL_S))


def wait_for(
    sender: Sender,
    pollable: Pollable[State],
    settings: PollSettings,
    on_progress: Callable[[State], object] | None = None,
) -> State:
    """Poll until the operation has finished and return its final state.

    Args:
        on_progress: called with every polled state, including the final one.

    Raises:
        WaitTimedOut: the operation did not finish in time.
        PromptReelError: the first poll failed, or a later one failed with an error that is not transient.
    """
    deadline = sender.now() + settings.timeout_s
    state: State | None = None
    last_error: PromptReelError | None = None
    for interval_s in settings.intervals_s():
        try:
            state = sender.send(pollable.call, deadline + FINAL_POLL_TIMEOUT_S)
        except _TRANSIENT_ERRORS as error:
            if state is None:
                raise
            last_error = error
        else:
            last_error = None
            if on_progress is not None:
                on_progress(state)
            if pollable.is_final(state):
                return state
        remaining_s = deadline - sender.now()
        if remaining_s <= 0:
            break
        sender.sleep(min(remaining_s, max(interval_s, _min_interval_s(pollable, state, last_error))))
    raise _wait_timed_out(pollable, settings, state) from last_error


async def wait_for_async(
    sender: AsyncSender,
    pollable: Pollable[State],
    settings: PollSettings,
    on_progress: Callable[[State], object | Awaitable[object]] | None = None,
) -> State:
    """See `wait_for`; `on_progress` may be a coroutine function."""
    deadline = sender.now() + settings.timeout_s
    state: State | None = None
    last_error: PromptReelError | None = None
    for interval_s in settings.intervals_s():
        try:
            state = await sender.send(pollable.call, deadline + FINAL_POLL_TIMEOUT_S)
        except _TRANSIENT_ERRORS as error:
            if state is None:
                raise
            last_error = error
        else:
            last_error = None
            if on_progress is not None and inspect.isawaitable(progress := on_progress(state)):
                await progress
            if pollable.is_final(state):
                return state
        remaining_s = deadline - sender.now()
        if remaining_s <= 0:
            break
        await sender.sleep(min(remaining_s, max(interval_s, _min_interval_s(pollable, state, last_error))))
    raise _wait_timed_out(pollable, settings, state) from last_error


def pollable_run(call: Call[PromptRunBody], run_id: str) -> Pollable[PromptRunBody]:
    """Describe how to wait for a run."""
    return Pollable(
        call,
        f"run {run_id}",
        lambda run: run.status in FINAL_RUN_STATUSES,
        lambda run: f"{run.status}, {run.completed_segments} of {run.total_segments} segments",
        "Wait again with a longer timeout_s, or cancel the run",
    )


def pollable_retry(call: Call[SegmentRetry], run_id: str, retry_id: str) -> Pollable[SegmentRetry]:
    """Describe how to wait for a retry."""
    return Pollable(
        call,
        f"retry {retry_id} of run {run_id}",
        lambda retry: retry.status in FINAL_RETRY_STATUSES,
        lambda retry: retry.status,
        "Wait again with a longer timeout_s",
    )


def pollable_deletion(call: Call[DeletionStatus], identifier: str) -> Pollable[DeletionStatus]:
    """Describe how to wait for a deletion."""
    return Pollable(
        call,
        f"the deletion of {identifier}",
        lambda deletion: deletion.status == "deleted",
        lambda deletion: deletion.status,
        "Wait again with a longer timeout_s, or request the deletion again to resume it",
        lambda deletion: float(deletion.retry_after_seconds or 0),
    )


def checked_run(run: PromptRunBody, raise_on_failure: bool) -> PromptRunBody:
    """Return the run.

    Raises:
        RunFailed: the run failed and `raise_on_failure` is set.
    """
    if raise_on_failure and run.status == "failed":
        reason = run.error_message or "no segment succeeded"
        raise RunFailed(
            f"run {run.run_id} failed: {reason}. "
            f"client.prompt_runs.get_failed_segments({run.run_id!r}) lists the failures",
            run,
        )
    return run


def checked_retry(retry: SegmentRetry, raise_on_failure: bool) -> SegmentRetry:
    """Return the retry.

    Raises:
        RunFailed: the retry failed and `raise_on_failure` is set.
    """
    if raise_on_failure and retry.status == "failed":
        reason = retry.error or "the service gave no reason"
        raise RunFailed(
            f"retry {retry.retry_id} of run {retry.run_id} failed: {reason}. "
            f"client.prompt_runs.get_failed_segments({retry.run_id!r}) lists what can be retried",
            retry,
        )
    return retry


def _min_interval_s(pollable: Pollable[State], state: State | None, last_error: PromptReelError | None) -> float:
    """Return the seconds to the next poll that the service requests."""
    if last_error is not None:
        return getattr(last_error, "retry_after_s", None) or 0.0
    return pollable.min_interval_s(state) if state is not None else 0.0


def _wait_timed_out(pollable: Pollable[Any], settings: PollSettings, state: Any) -> WaitTimedOut:
    status = pollable.describe(state) if state is not None else "unknown"
    return WaitTimedOut(
        f"{pollable.name} did not finish within {settings.timeout_s:g} s and continues on the service; "
        f"last status: {status}. {pollable.fix}",
        state,
    )
