"""Progress of a run on standard error: a live line on a terminal, otherwise a plain line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from promptreel.schemas.money import format_money, money_of
from promptreel.schemas.service_state import ServiceState
from promptreel.tables.progress import read_progress, read_service_states
from promptreel.tables.storage import Storage

_PLAIN_INTERVAL_S = 3.0
_LIVE_INTERVAL_S = 0.5


class RunProgress:
    """Shows the counters of the runner's progress files during a `with` block."""

    def __init__(self, storage: Storage, run_id: str, item_count: int) -> None:
        self._storage = storage
        self._run_id = run_id
        self._item_count = item_count
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._started = time.monotonic()
        self._next_update = 0.0
        self._last_printed: tuple[str, object] = ("", None)
        self._live: Live | None = None

    def __enter__(self) -> RunProgress:
        self.print(f"run {self._run_id}: {self._item_count} {'item' if self._item_count == 1 else 'items'}")
        if self._console.is_terminal:
            self._live = Live(Text("starting"), console=self._console, refresh_per_second=4, transient=True)
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)
            self._live = None
        state = self._service_state()
        ended = state if state is not None and state.status == "halted" else None
        self.print(f"{self._line(self._counters(), ended)}, done")

    def print(self, text: str) -> None:
        """Print one permanent line."""
        self._console.print(text, soft_wrap=True)  # a line of a log stays one line

    def update(self) -> None:
        """Show the current counters, if the update interval has passed."""
        now = time.monotonic()
        if now < self._next_update:
            return
        if self._live is not None:
            self._next_update = now + _LIVE_INTERVAL_S
            line = self._line(self._counters(), self._service_state())
            self._live.update(Text(line, no_wrap=True, overflow="ellipsis"))
            return
        counters, state = self._counters(), self._service_state()
        shown = (counters, None if state is None else (state.status, state.since, state.message))
        self._next_update = now + _LIVE_INTERVAL_S
        if shown != self._last_printed and now - self._started >= _PLAIN_INTERVAL_S:
            self._next_update = now + _PLAIN_INTERVAL_S
            self._last_printed = shown
            self.print(self._line(counters, state))

    def _counters(self) -> str:
        return describe(read_progress(self._storage, self._run_id), self._item_count)

    def _service_state(self) -> ServiceState | None:
        now = time.time()
        states = read_service_states(self._storage, self._run_id)
        return next((state for state in states if state.is_shown(now)), None)

    def _line(self, counters: str, state: ServiceState | None) -> str:
        reason = "" if state is None else f"; {state.describe(time.time())}"
        return f"{time.monotonic() - self._started:5.0f}s {counters}{reason}"


def describe(counts: Mapping[str, int], item_count: int) -> str:
    """Render the counters as one line."""
    parts = [f"media {counts.get('items_read', 0)}/{item_count}"]
    if counts.get("items_failed"):
        parts.append(f"unreadable {counts['items_failed']}")
    parts.append(f"segments {counts.get('segments_planned', 0)}")
    parts.append(f"operations {counts.get('operations_done', 0)}")
    for name, label in (
        ("operations_reused", "reused"),
        ("operations_failed", "failed"),
        ("operations_cancelled", "cancelled"),
    ):
        if counts.get(name):
            parts.append(f"{label} {counts[name]}")
    if counts.get("calls"):
        parts.append(f"calls {counts['calls']}")
        parts.append(f"tokens {counts.get('total_tokens', 0):,}")
    if (cost := format_money(money_of(counts))) is not None:
        parts.append(f"cost {cost}")
    return ", ".join(parts)
