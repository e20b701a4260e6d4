"""The status of a run, from its files."""

from __future__ import annotations

from typing import Literal

from promptreel.tables.attempts import is_running, last_attempt
from promptreel.tables.manifest import Manifest, ManifestStatus
from promptreel.tables.storage import Storage

FileStatus = ManifestStatus | Literal["running", "interrupted"]


def run_status(storage: Storage, run_id: str, manifest: Manifest | None) -> FileStatus:
    """Return the newest manifest's status, unless a later attempt is running or died before its commit."""
    if is_running(storage, run_id):
        return "running"
    if manifest is None or manifest.is_interim or last_attempt(storage, run_id) > manifest.attempt:
        return "interrupted"
    return manifest.status
