"""The status of a run in one sentence, with what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promptreel.api.db.models import RunRecord
from promptreel.api.runs.service_status import shown_service_state


def status_text(run: RunRecord | Any) -> str:
    """Return the status, the number of finished segments, the error, why calls wait, and the warnings of a run."""
    summary: Mapping[str, Any] = run.summary
    segments = f"{summary.get('completed_segments', 0)} of {summary.get('total_segments', 0)} segments"
    cancelled = summary.get("cancelled_segments", 0)
    parts = [f"{run.status}: {segments}" + (f", {cancelled} cancelled" if cancelled else "")]
    parts += [run.error_message] if run.error_message else []
    state = shown_service_state(summary, run.status)
    parts += [state] if state is not None else []
    parts += [f"warning: {warning}" for warning in summary.get("warnings", ())]
    return "; ".join(parts)
