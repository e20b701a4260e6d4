"""RunContext: the picklable settings that every transform of a run receives; workers open connections from it."""

from __future__ import annotations

from dataclasses import dataclass

from promptreel.tables.progress import ProgressBoard, progress_board
from promptreel.tables.request import RunRequest
from promptreel.tables.retry_scope import RetryScope
from promptreel.tables.stop_signal import StopSignal
from promptreel.tables.storage import Storage, open_storage
from promptreel.transforms.outcome_log import OutcomeLog


@dataclass(frozen=True)
class RunContext:
    """One attempt at one run.

    Attributes:
        data_root: the data folder: a local path or an fsspec URL.
        attempt: number of this start of the runner.
        shards: number of shards of each table; the hash of the video id selects one.
        deadline: time (`time.time`) after which no call is made; None for no limit.
        spent_tokens, spent_nanos: tokens that earlier attempts used, and their cost in billionths of the currency.
        retry: the failures to retry; None executes the complete run.
        commit_only: reason why this attempt starts no new work and only commits what is stored; unfinished operations
            fail with this message. None for a normal attempt.
        distributed: the workers share neither memory nor disk, so segments are redistributed before the model calls.
    """

    data_root: str
    request: RunRequest
    attempt: int
    shards: int
    deadline: float | None = None
    spent_tokens: int = 0
    spent_nanos: int = 0
    distributed: bool = False
    retry: RetryScope | None = None
    commit_only: str | None = None

    @property
    def run_id(self) -> str:
        return self.request.run_id

    @property
    def evidence_fields(self) -> tuple[str, ...]:
        return self.request.evidence_fields

    def repeat_failed_until(self, video_id: str, segment_id: str | None) -> int:
        """Return the last attempt whose permanently failed calls are repeated for a segment, or for an item itself if
        `segment_id` is None; see `RetryScope`."""
        scope = self.retry
        if scope is None:
            return 0
        if segment_id is None:
            is_retried = scope.contains_operation_of_item(video_id)
        else:
            is_retried = scope.contains(video_id, segment_id)
        return scope.repeat_failed_until if is_retried else 0

    def scoped(self, key: str) -> str:
        """Return the cache key of an operation in this run; see `RunRequest.scoped`."""
        return self.request.scoped(key)

    def storage(self) -> Storage:
        """Open a new connection to the data folder."""
        return open_storage(self.data_root)

    def stop_signal(self, storage: Storage) -> StopSignal:
        """Return the signal that is set once this attempt must start no new work."""
        return StopSignal(storage, self.run_id, is_set=self.commit_only is not None)

    @property
    def commits_interim(self) -> bool:
        """Whether finished segments become readable during this attempt; a retry leaves the manifest of its run."""
        return self.retry is None and self.request.settings.commit_interval_s > 0

    def outcome_log(self, storage: Storage) -> OutcomeLog:
        """Return this process's outcome log for this attempt."""
        return OutcomeLog(storage, self.run_id, self.attempt, self.shards, enabled=self.commits_interim)

    def progress(self, storage: Storage) -> ProgressBoard:
        """Return this process's counters for this attempt."""
        return progress_board(storage, self.run_id, self.attempt)
