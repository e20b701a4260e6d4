"""The tokens and the money that one process used in an attempt of a run, and the health of the services that it called.

All stages of the process share both, although each stage has its own session.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from promptreel.providers.call_policy import Halted
from promptreel.providers.service_health import ServiceHealth
from promptreel.schemas.money import nanos_of
from promptreel.schemas.service_state import ServiceState

_spendings: dict[tuple[str, str, int], Spending] = {}
_spendings_lock = threading.Lock()


class Spending:
    """Tokens used so far, and the health of each called model. Thread-safe."""

    def __init__(self) -> None:
        self.tokens = 0
        self.cost_nanos = 0
        self._healths: dict[str, ServiceHealth] = {}
        self._lock = threading.Lock()

    def add(self, tokens: int, cost_nanos: int = 0) -> None:
        """Add the tokens of one call, and its cost in billionths of the currency."""
        with self._lock:
            self.tokens += tokens
            self.cost_nanos += cost_nanos

    def check_cost(self, limit: float | None, earlier_nanos: int) -> None:
        """Raise Halted once all calls of the run have cost as much as the limit.

        The calls of all models of the process count, so the limit is exceeded at most by the calls in flight.

        Args:
            limit: in units of the currency; None means no limit.
            earlier_nanos: cost of earlier attempts at the run.
        """
        if limit is not None and self.cost_nanos + earlier_nanos >= nanos_of(limit):
            raise Halted(
                "budget_exhausted", f"the run reached its cost limit of {limit:g}; raise it and resume the run"
            )

    def health_of(
        self, model: str, patience_s: float, on_change: Callable[[ServiceState | None], None]
    ) -> ServiceHealth:
        """Return the health of a model's service, always the same object. Overload and quotas differ between models.

        Args:
            patience_s, on_change: see `ServiceHealth`; used when the model is called first.
        """
        with self._lock:
            if model not in self._healths:
                self._healths[model] = ServiceHealth(patience_s, on_change=on_change)
            return self._healths[model]

    def check_halted(self) -> None:
        """Raise Halted if the calls of a model were halted: the run makes no more calls of any model."""
        halts = [health.halt for health in tuple(self._healths.values()) if health.halt is not None]
        if halts:
            message = f"not called because an earlier call failed: {halts[0].message}"
            raise Halted(halts[0].code, message)


def spending_of(data_root: str, run_id: str, attempt: int) -> Spending:
    """Return this process's spending on one attempt of a run, always the same object."""
    key = (data_root, run_id, attempt)
    with _spendings_lock:
        return _spendings.setdefault(key, Spending())
