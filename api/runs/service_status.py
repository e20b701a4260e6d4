"""Why the calls of a run in progress wait or were halted, as clients see it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from promptreel.tables.progress import read_service_states
from promptreel.tables.storage import Storage


def with_service_state(summary: dict[str, Any], storage: Storage, run_id: str) -> dict[str, Any]:
    """Return the summary of a running run with the current state of the model's service, None while calls succeed."""
    now = time.time()
    states = [state for state in read_service_states(storage, run_id) if state.is_shown(now)]
    state = states[0].describe() if states else None
    return summary if state == summary.get("service_state") else {**summary, "service_state": state}


def shown_service_state(summary: Mapping[str, Any], status: str) -> str | None:
    """Return the state to show in the body of a run; None once the run has ended."""
    return summary.get("service_state") if status == "processing" else None
