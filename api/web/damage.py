"""Damaged runs among others: they are left out, and the log and the response say so."""

from __future__ import annotations

import logging

from promptreel.schemas.errors import RunDamaged

_log = logging.getLogger(__name__)


def left_out(error: RunDamaged) -> str:
    """Logs that a damaged run is left out; returns the same for the response."""
    _log.warning("a damaged run is left out: %s", error, extra={"run_id": error.run_id})
    return f"run {error.run_id} is damaged and left out: {error.file} {error.cause}"
