"""Which failures of a finished run are retried: a file in the run folder, written by the CLI or the service."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from promptreel.schemas.errors import RunError
from promptreel.schemas.outcomes import OPERATIONS
from promptreel.tables.layout import retry_file
from promptreel.tables.storage import Storage

Target = tuple[str, str]


def target_of(failure: Mapping[str, Any]) -> Target:
    """The retry target of a row of the failures table, as (video id, X).

    X is the segment id; the video id again for the entire item, if it was never segmented; or otherwise the name of an
    operation on the item (synthesis).
    """
    video_id, operation = failure["video_id"], failure["operation"]
    return video_id, failure["segment_id"] or (video_id if operation == "processing" else operation)


@dataclass(frozen=True)
class RetryScope:
    """What is retried.

    Attributes:
        targets: (video id, segment id) pairs, see `target_of`.
        repeat_failed_until: the last attempt whose final failures (blocked, truncated) are called again, and possibly
            billed again, because the user named their segments; 0 repeats none.
    """

    targets: frozenset[Target]
    repeat_failed_until: int = 0

    @property
    def video_ids(self) -> frozenset[str]:
        return frozenset(video_id for video_id, _ in self.targets)

    def contains(self, video_id: str, segment_id: str) -> bool:
        """Whether a segment is retried, by itself or with its entire item."""
        return (video_id, segment_id) in self.targets or (video_id, video_id) in self.targets

    def contains_operation_of_item(self, video_id: str) -> bool:
        """Whether an operation on the item itself (synthesis, text embedding) is retried."""
        return any((video_id, name) in self.targets for name in (video_id, *OPERATIONS))


def write_retry(storage: Storage, run_id: str, retry_id: str, scope: RetryScope) -> None:
    """Write a retry's file. If it exists it is left unchanged, so a restarted retry has its original scope."""
    content = {"targets": sorted(map(list, scope.targets)), "repeat_failed_until": scope.repeat_failed_until}
    storage.create_exclusive(retry_file(run_id, retry_id), json.dumps(content).encode())


def read_retry(storage: Storage, run_id: str, retry_id: str) -> RetryScope:
    """Load a retry's file.

    Raises:
        RunError: the file is missing or unreadable.
    """
    try:
        content = json.loads(storage.read_bytes(retry_file(run_id, retry_id)))
        targets = frozenset((video_id, segment_id) for video_id, segment_id in content["targets"])
        return RetryScope(targets, content.get("repeat_failed_until", 0))
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"run {run_id}: retry {retry_id} cannot be read ({error})") from error
