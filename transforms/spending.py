"""The tokens that one process used in an attempt of a run, and the health of the services that it called.

All stages of the process share both, although each stage has its own session.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from promptreel.providers.call_policy import Halted
from promptreel.providers.service_health import ServiceHealth
from promptreel.schemas.service_state import ServiceState

_spendings: dict[tuple[str, str, int], Spending] = {}
_spendings_lock = threading.Lock()


class Spending:
    """Tokens used so far, and the health of each called model. Thread-safe."""

    def __init__(self) -> None:
        self.tokens = 0
        self._healths: dict[str, ServiceHealth] = {}
        self._lock = threading.Lock()

    def add(self, tokens: int) -> None:
        """Add the tokens of one call."""
        with self._lock:
            self.tokens += tokens

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
