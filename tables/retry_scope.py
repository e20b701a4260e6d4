"""Which failures of a finished run are tried again: a file in the run folder, made by whoever asks for the retry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.errors import RunError
from tables.layout import retry_file
from tables.storage import Storage

Target = tuple[str, str]


def target_of(failure: Mapping[str, Any]) -> Target:
    """What is tried again of a row of the failures table: its segment, or its whole item, named by its own id twice."""
    return failure["video_id"], failure["segment_id"] or failure["video_id"]


@dataclass(frozen=True)
class RetryScope:
    """What is tried again.

    Attributes:
        targets: (video id, segment id) pairs, see `target_of`.
    """

    targets: frozenset[Target]

    @property
    def video_ids(self) -> frozenset[str]:
        return frozenset(video_id for video_id, _ in self.targets)

    def holds(self, video_id: str, segment_id: str) -> bool:
        """Whether a segment is tried again: it is named, or its whole item is."""
        return (video_id, segment_id) in self.targets or (video_id, video_id) in self.targets


def write_retry(storage: Storage, run_id: str, retry_id: str, scope: RetryScope) -> None:
    """Writes a retry's file."""
    content = json.dumps({"targets": sorted(map(list, scope.targets))})
    storage.write_atomic(retry_file(run_id, retry_id), content.encode())


def read_retry(storage: Storage, run_id: str, retry_id: str) -> RetryScope:
    """Reads a retry's file.

    Raises:
        RunError: there is none, or it cannot be read.
    """
    try:
        targets = json.loads(storage.read_bytes(retry_file(run_id, retry_id)))["targets"]
        return RetryScope(frozenset((video_id, segment_id) for video_id, segment_id in targets))
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"run {run_id}: retry {retry_id} cannot be read ({error})") from error
