"""The attempts at one operation: which failures count, when it is tried again, and when its failure is final."""

from __future__ import annotations

import random
from typing import Final

from promptreel.providers.service_health import FAULT_CODES, CallTicket, ServiceHealth
from promptreel.schemas.errors import ModelError
from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.settings import CallSettings

FIRST_BACKOFF_S: Final = 0.5
MAX_BACKOFF_S: Final = 60.0
# If the service requests a longer wait, the operation fails as retryable instead of waiting.
MAX_RETRY_AFTER_S: Final = 120.0
# The rate limiter handles rate-limited calls, so they do not use up `max_attempts`; they have this multiple of it.
RATE_LIMITED_ATTEMPTS_FACTOR: Final = 4
# While many calls of other operations fail too, an operation has at most this multiple of its attempts.
CHANCE_ATTEMPTS_FACTOR: Final = 4
# Without a back-off, so that operations that wait together do not all wake at once.
_SPREAD_S: Final = 0.05


class OperationAttempts:
    """Counts the failures of one operation.

    Faults during an outage of the service do not count, nor do rejections while its rate limit grants no call at all.
    """

    def __init__(self, operation: str, settings: CallSettings, health: ServiceHealth, jitter: random.Random) -> None:
        self._operation = operation
        self._settings = settings
        self._health = health
        self._jitter = jitter
        self._faults = 0
        self._failed_calls: list[int] = []
        self._rate_limited = 0
        self._outages = health.outages
        self._grants = health.grants

    def pause_after(self, error: ModelError, ticket: CallTicket | None) -> float:
        """Return the seconds before the next attempt, not counting those that all calls wait for the service.

        Args:
            ticket: the failed call; None if it does not go through the rate limit.

        Raises:
            ModelError: the failure is final, or the attempts are used up.
        """
        if not error.retryable or FAILURE_CODES[error.code].halts_run:
            raise error
        if self._outages != self._health.outages:
            self._forgive()
        if self._health.is_down and error.code in (*FAULT_CODES, "rate_limited"):
            return self._jitter.uniform(0, _SPREAD_S)
        if (error.retry_after_s or 0) > MAX_RETRY_AFTER_S:
            raise error
        if error.code == "rate_limited" and ticket is not None:
            # The limiter delays the next call of a rate-limited operation.
            self._count_rate_limited(error)
            return self._jitter.uniform(0, _SPREAD_S)
        self._count_fault(error, ticket)
        return self._backoff(error)

    def _count_rate_limited(self, error: ModelError) -> None:
        if self._settings.max_outage_s <= 0 or self._health.grants > self._grants:
            self._rate_limited += 1
            self._grants = self._health.grants
        if self._rate_limited >= self._settings.max_attempts * RATE_LIMITED_ATTEMPTS_FACTOR:
            raise error

    def _count_fault(self, error: ModelError, ticket: CallTicket | None) -> None:
        self._faults += 1
        if ticket is not None:
            self._failed_calls.append(ticket.number)
        is_of_service = error.code in FAULT_CODES and ticket is not None and self._settings.max_outage_s > 0
        if is_of_service and self._health.has_given_up_on(self._operation):
            raise error
        if self._faults < self._settings.max_attempts:
            return
        if not is_of_service or not (self._may_be_chance() or self._waits_for_service()):
            raise error

    def _forgive(self) -> None:
        self._outages = self._health.outages
        self._faults = self._rate_limited = 0
        self._failed_calls.clear()

    def _waits_for_service(self) -> bool:
        return self._health.wait_for_service(self._operation, self._failed_calls)

    def _may_be_chance(self) -> bool:
        limit = self._settings.max_attempts * CHANCE_ATTEMPTS_FACTOR
        return self._faults < limit and self._health.may_be_chance(self._operation, self._faults)

    def _backoff(self, error: ModelError) -> float:
        """Return the seconds before the next attempt: full jitter over an exponential back-off, but no less than the
        service requested (M. Brooker, "Exponential Backoff and Jitter", 2015)."""
        doublings = min(self._faults, self._settings.max_attempts) - 1  # further attempts do not wait longer
        ceiling = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2**doublings)
        return max(error.retry_after_s or 0.0, self._jitter.uniform(0, ceiling))
