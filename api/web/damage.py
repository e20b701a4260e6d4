"""Skip damaged runs, and report them in the log and the response."""

from __future__ import annotations

import logging

from promptreel.schemas.errors import RunDamaged

_log = logging.getLogger(__name__)


def report_skipped(error: RunDamaged) -> str:
    """Log that a damaged run was skipped; return the message for the response."""
    _log.warning("skipped a damaged run: %s", error, extra={"run_id": error.run_id})
    return f"run {error.run_id} is damaged and was skipped: {error.file} {error.cause}"
