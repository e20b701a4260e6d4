"""The health of the model's service as all calls of a run see it: when calls wait, which call probes, and when to halt.

A circuit breaker (M. Nygard, "Release It!", 2007) over all operations. While nearly all calls fail with overload,
connection errors or time-outs, or the quota is 0, one call at a time probes the service, and the others wait.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from promptreel.providers.repeated_errors import repeated_operations
from promptreel.schemas.errors import ModelError
from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.service_state import ServiceState, ServiceStatus

CallResult = Literal["answered", "fault", "limited", "no quota", "rejected"]

FAULT_CODES: Final = frozenset({"model_unavailable", "model_timeout"})
# The service is down if this many of the last RECENT_CALLS calls, in the order of their starts, failed. A call without
# an answer yet counts as neither, because failures arrive before answers.
RECENT_CALLS: Final = 15
DOWN_CALLS: Final = 14
# An operation that always fails must not look like a service that is down.
DOWN_OPERATIONS: Final = 3
# Fewer calls are enough if all failed and few failed before: so many that chance does not explain them. The share of calls
# that fail by chance is never estimated lower or higher than this.
MIN_FAULT_SHARE: Final = 0.1
MAX_FAULT_SHARE: Final = 0.37
FIRST_PROBE_S: Final = 1.0
MAX_PROBE_INTERVAL_S: Final = 30.0
# The wait that a service may request between probes.
MAX_REQUESTED_WAIT_S: Final = 120.0
# The quota of a minute may be used up by others for a minute.
MIN_RATE_LIMIT_PATIENCE_S: Final = 120.0
# A quota of 0 does not refill; only the owner of the project can raise it.
NO_QUOTA_PATIENCE_S: Final = 60.0
REMEMBERED_CALLS: Final = 100
# An operation keeps failing by chance, not by its own fault, with a probability above this.
CHANCE: Final = 1e-6


@dataclass(slots=True)
class CallTicket:
    """One call to the service. `number` increases in the order of the starts."""

    number: int
    operation: str
    is_probe: bool
    result: CallResult | None = None
    error: ModelError | None = None
    ended_at: float = 0.0


class ServiceHealth:
    """Outcomes of recent calls, and the gate before the next one. Thread-safe: the stages of a run share it.

    Args:
        patience_s: how long calls wait while none succeeds; 0 disables waiting.
        clock: monotonic, in seconds.
        on_change: receives the state of the service when it changes; None while calls succeed.

    Attributes:
        grants: calls that were answered.
        outages: outages that ended.
        halt: the error that halted all calls.
    """

    def __init__(
        self,
        patience_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: random.Random | None = None,
        on_change: Callable[[ServiceState | None], None] = lambda state: None,
    ) -> None:
        self.patience_s = patience_s
        self.grants = 0
        self.outages = 0
        self.halt: ModelError | None = None
        self._clock = clock
        self._wall_offset_s = time.time() - clock()
        self._jitter = jitter or random.Random()
        self._on_change = on_change
        self._calls: deque[CallTicket] = deque(maxlen=REMEMBERED_CALLS)
        self._next_number = 0
        self._failing: set[str] = set()
        self._given_up: frozenset[str] = frozenset()
        self._reopened_number = 0
        self._failing_since: float | None = None
        self._first_failing_number = 0
        self._last_answered_number = -1
        self._limited_since: float | None = None
        self._down_since: float | None = None
        self._waits_for_quota = False
        self._suspect: tuple[str, tuple[int, ...]] | None = None  # what `wait_for_service` received
        self._first_probe_number = 0
        self._probe: CallTicket | None = None
        self._probe_interval_s = FIRST_PROBE_S
        self._next_probe = 0.0
        self._state: ServiceState | None = None
        self._lock = threading.RLock()

    @property
    def is_down(self) -> bool:
        """Whether calls wait for the service."""
        return self._down_since is not None

    @property
    def waits_for_quota(self) -> bool:
        """Whether calls wait because the quota is 0."""
        return self.is_down and self._waits_for_quota

    def wait_s(self) -> float:
        """Return the seconds until `begin` may admit a call; 0 for now."""
        with self._lock:
            if self._down_since is None:
                return 0.0
            if self._probe is not None:
                return FIRST_PROBE_S
            return max(0.0, self._next_probe - self._clock())

    def begin(self, operation: str) -> CallTicket | None:
        """Admit a call; None if it must wait. `end` or `drop` must follow."""
        with self._lock:
            if self.wait_s() > 0:
                return None
            ticket = CallTicket(self._next_number, operation, is_probe=self.is_down)
            self._next_number += 1
            self._calls.append(ticket)
            if ticket.is_probe:
                self._probe = ticket
                self._publish_down()
            return ticket

    def drop(self, ticket: CallTicket) -> None:
        """Forget a call that says nothing about the service, e.g. a cancelled one."""
        with self._lock:
            if ticket in self._calls:
                self._calls.remove(ticket)
            if self._probe is ticket:
                self._probe = None

    def end(self, ticket: CallTicket, error: ModelError | None) -> None:
        """Record the outcome of a call: its error, None for an answer."""
        with self._lock:
            if error is not None and error.code == "storage_failed":
                self.drop(ticket)
                return
            if error is not None and FAILURE_CODES[error.code].halts_run:
                self.halt_calls(error)
            ticket.result, ticket.error, ticket.ended_at = self._result_of(error), error, self._clock()
            if self._probe is ticket:
                self._probe = None
            if error is None:
                self._record_answer(ticket)
            elif ticket.result == "fault":
                self._record_fault(ticket, error)
            elif ticket.result == "rejected":
                self._record_rejection(ticket, error)
            else:
                self._record_rate_limit(ticket, error)
            if ticket.result not in ("fault", "no quota"):
                self._end_outage(ticket)

    def wait_for_service(self, operation: str, faults: Sequence[int]) -> bool:
        """Make all calls wait because an operation has used its attempts, unless the faults are its own.

        Args:
            faults: numbers of the operation's failed calls.

        Returns:
            whether calls wait now.
        """
        with self._lock:
            if self.patience_s <= 0 or self._given_up or self._failing_since is None:
                return False
            if self._are_own(operation, faults):
                return False
            if not self.is_down:
                self._go_down(self._failing_since)
                self._suspect = operation, tuple(faults)
            return True

    def _are_own(self, operation: str, faults: Sequence[int]) -> bool:
        """Whether calls that the service answered show that faults are those of their operation alone."""
        own = sum(number < self._last_answered_number for number in faults)
        return own > 0 and self._fault_share(operation) ** own <= CHANCE

    def has_given_up_on(self, operation: str) -> bool:
        """Return whether the patience ended while only this operation and few others failed."""
        return operation in self._given_up

    def may_be_chance(self, operation: str, faults: int) -> bool:
        """Return whether the share of failing calls of other operations explains an operation's faults in a row."""
        with self._lock:
            share = self._fault_share(operation)
            return share < 1 and share**faults > CHANCE

    def _fault_share(self, operation: str) -> float:
        """Return the share of recent calls of other operations that failed."""
        others = [call.result == "fault" for call in self._calls if call.operation != operation and call.result]
        return sum(others) / len(others) if others else 0.0

    def halt_calls(self, error: ModelError) -> None:
        """Halt all calls because each would fail with this error."""
        with self._lock:
            if self.halt is None:
                self.halt = error
                self._publish(ServiceState("halted", self._wall(self._clock()), error.message, code=error.code))

    def _result_of(self, error: ModelError | None) -> CallResult:
        if error is None:
            return "answered"
        if error.code == "rate_limited":
            # A service that also answers has a quota, so its rate limit only slows the calls.
            has_answered = any(call.result == "answered" for call in list(self._calls)[-RECENT_CALLS:])
            return "no quota" if error.has_no_quota and not has_answered else "limited"
        return "fault" if error.code in FAULT_CODES else "rejected"

    def _record_answer(self, ticket: CallTicket) -> None:
        self.grants += 1
        self._last_answered_number = max(self._last_answered_number, ticket.number)
        self._limited_since = None
        if ticket.number >= self._first_failing_number:  # an older call may have been accepted before the failures
            self._failing.clear()
            self._failing_since = None
            self._given_up = frozenset()
        is_older = ticket.number < self._first_probe_number
        if self.is_down and is_older and self._suspect is not None and self._are_own(*self._suspect):
            self._reopen(was_down=False)
        elif not self.is_down and self.halt is None:
            self._publish(None)

    def _record_fault(self, ticket: CallTicket, error: ModelError) -> None:
        now = self._clock()
        self._failing.add(ticket.operation)
        if self._failing_since is None:
            self._failing_since, self._first_failing_number = now, ticket.number
        if self._down_since is None:
            failed = self._failed_in_a_row()
            if self.patience_s > 0 and failed:
                self._go_down(failed[0].ended_at, error)
            return
        if ticket.is_probe:
            self._waits_for_quota = False
            if self._is_patience_over():
                self._give_up(error)
                return
        self._delay_probe(ticket, error)
        self._publish_down()

    def _failed_in_a_row(self) -> list[CallTicket]:
        """Return the recent calls that failed if these are nearly all; otherwise nothing."""
        newest = max((call.number for call in self._calls if call.result == "fault"), default=-1)
        # Calls of an earlier outage say nothing about the time since.
        calls = [call for call in self._calls if self._reopened_number <= call.number <= newest]
        failed = [call for call in calls[-RECENT_CALLS:] if call.result == "fault"]
        if len(failed) < DOWN_CALLS:
            failed = _failed_against_chance(calls)
        are_many = len({call.operation for call in failed}) >= DOWN_OPERATIONS
        return sorted(failed, key=lambda call: call.ended_at) if are_many else []

    def _go_down(self, since: float, error: ModelError | None = None) -> None:
        self._down_since = since
        self._suspect = None
        self._first_probe_number = self._next_number
        # The calls since the first failure were probes too, so their intervals go on growing.
        self._probe_interval_s = max(FIRST_PROBE_S, min(self._clock() - since, MAX_PROBE_INTERVAL_S))
        requested = min((error.retry_after_s if error is not None else None) or 0.0, MAX_REQUESTED_WAIT_S)
        self._schedule_probe(max(requested, self._jittered_interval()))
        self._publish_down()

    def _end_outage(self, ticket: CallTicket) -> None:
        """End an outage, if one is in progress, by the outcome of a call that started during it."""
        if self.is_down and self.halt is None and ticket.number >= self._first_probe_number:
            self._reopened_number = ticket.number
            self._reopen()

    def _reopen(self, *, was_down: bool = True) -> None:
        self._down_since = None
        self._waits_for_quota = False
        self._probe = None
        self.outages += was_down
        self._publish(None)

    def _schedule_probe(self, wait_s: float) -> None:
        self._next_probe = self._bounded(self._clock() + wait_s)

    def _delay_probe(self, ticket: CallTicket, error: ModelError) -> None:
        """Schedule the next probe after a call that failed during an outage."""
        requested = min(error.retry_after_s or 0.0, MAX_REQUESTED_WAIT_S)
        if ticket.is_probe:
            self._probe_interval_s = min(2 * max(self._probe_interval_s, requested), MAX_PROBE_INTERVAL_S)
            self._schedule_probe(max(requested, self._jittered_interval()))
        else:
            self._next_probe = max(self._next_probe, self._bounded(self._clock() + requested))

    def _bounded(self, probe_at: float) -> float:
        """Return the time of a probe, at the latest when the patience ends: that call may find the service back."""
        assert self._down_since is not None
        patience_s = self._no_quota_patience_s if self._waits_for_quota else self.patience_s
        return max(self._clock(), min(probe_at, self._down_since + patience_s))

    @property
    def _no_quota_patience_s(self) -> float:
        return min(self.patience_s, NO_QUOTA_PATIENCE_S)

    def _jittered_interval(self) -> float:
        return self._probe_interval_s * self._jitter.uniform(0.75, 1.25)

    def _is_patience_over(self) -> bool:
        return self._down_since is not None and self._clock() - self._down_since >= self.patience_s

    def _give_up(self, error: ModelError) -> None:
        if len(self._failing) < DOWN_OPERATIONS:
            self._given_up = frozenset(self._failing)  # these fail; others still try
            self._reopen()
        else:
            self._halt("model_unavailable", f"no call succeeded for {self.patience_s:g} s", error)

    def _record_rate_limit(self, ticket: CallTicket, error: ModelError) -> None:
        now = self._clock()
        self._limited_since = now if self._limited_since is None else self._limited_since
        waited = now - self._limited_since
        if error.has_no_quota and waited >= self._no_quota_patience_s:
            self._halt("quota_exhausted", "the quota for this model is 0", error)
            return
        if self.patience_s > 0 and waited >= max(self.patience_s, MIN_RATE_LIMIT_PATIENCE_S):
            self._halt("quota_exhausted", f"the rate limit granted no call for {waited:.0f} s", error)
            return
        if ticket.result == "no quota":
            self._wait_for_quota(ticket, error)
        if not self.is_down or self._waits_for_quota:
            self._publish(ServiceState("rate limited", self._wall(self._limited_since), error.message))

    def _wait_for_quota(self, ticket: CallTicket, error: ModelError) -> None:
        """Make all calls wait, because the rate limiter alone sends several while it measures the rate."""
        assert self._limited_since is not None
        if not self._waits_for_quota:
            self._end_outage(ticket)
        if not self.is_down:
            self._waits_for_quota = True
            self._go_down(self._limited_since, error)
        else:
            self._delay_probe(ticket, error)

    def _record_rejection(self, ticket: CallTicket, error: ModelError) -> None:
        earlier = [call for call in self._calls if call.number <= ticket.number]
        count = repeated_operations(
            [(call.operation, call.result == "answered", call.error) for call in earlier], error
        )
        if count:
            self._halt(error.code, f"{count} operations in a row failed with the same error", error)

    def _halt(self, code: str, reason: str, error: ModelError) -> None:
        if self.halt is None:
            self.halt = ModelError(code, f"{reason}: {error.message}", retryable=True)
            self._publish(ServiceState("halted", self._wall(self._clock()), error.message, code=code))

    def _publish_down(self) -> None:
        if self._down_since is None or self.halt is not None or self._waits_for_quota:
            return
        errors = [call.error for call in self._calls if call.result == "fault" and call.error is not None]
        message = errors[-1].message if errors else ""
        status: ServiceStatus = "unreachable" if "could not be reached" in message else "overloaded"
        next_probe = None if self._probe is not None else self._wall(self._next_probe)
        self._publish(ServiceState(status, self._wall(self._down_since), message, next_probe))

    def _publish(self, state: ServiceState | None) -> None:
        if state != self._state:
            self._state = state
            self._on_change(state)

    def _wall(self, moment: float) -> float:
        """Return seconds since the epoch, always the same for a moment, so that an equal state stays equal."""
        return self._wall_offset_s + moment


def _failed_against_chance(calls: Sequence[CallTicket]) -> list[CallTicket]:
    """Return the newest calls if all failed, and so many that the share of failures before does not explain them."""
    failed = list(itertools.takewhile(lambda call: call.result == "fault", reversed(calls)))
    before = [call.result == "fault" for call in calls[: len(calls) - len(failed)] if call.result]
    share = (sum(before) + 1) / (len(before) + 2)
    share = max(MIN_FAULT_SHARE, min(share, MAX_FAULT_SHARE))
    return failed if share ** len(failed) <= CHANCE else []
