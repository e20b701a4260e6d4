"""What every transform of a run is constructed with: picklable settings, from which workers acquire the rest."""

from __future__ import annotations

from dataclasses import dataclass

from promptreel.tables.progress import ProgressBoard, progress_board
from promptreel.tables.request import RunRequest
from promptreel.tables.retry_scope import RetryScope
from promptreel.tables.stop_signal import StopSignal
from promptreel.tables.storage import Storage, open_storage


@dataclass(frozen=True)
class RunContext:
    """One attempt at one run.

    Attributes:
        data_root: the data folder: a local path or an fsspec URL.
        attempt: number of this start of the runner.
        shards: parts into which each table is divided, by a hash of the video id.
        deadline: moment (`time.time`) after which no call is made; None has none.
        spent_tokens: tokens that earlier attempts have used up.
        retry: which failures are retried; None for an entire run.
        commit_only: why this attempt begins no new work but commits what is stored; what is left undone fails with this
            message. None for an attempt that does the work.
        distributed: the workers share no memory and no disk: segments are redistributed between cutting and asking.
    """

    data_root: str
    request: RunRequest
    attempt: int
    shards: int
    deadline: float | None = None
    spent_tokens: int = 0
    distributed: bool = False
    retry: RetryScope | None = None
    commit_only: str | None = None

    @property
    def run_id(self) -> str:
        return self.request.run_id

    def repeat_failed_until(self, video_id: str, segment_id: str | None) -> int:
        """The last attempt whose final answers for a segment are asked for again; see `RetryScope`."""
        if self.retry is None or segment_id is None or not self.retry.contains(video_id, segment_id):
            return 0
        return self.retry.repeat_failed_until

    def scoped(self, key: str) -> str:
        """The key under which this run keeps an operation; see `RunRequest.scoped`."""
        return self.request.scoped(key)

    def storage(self) -> Storage:
        """A new connection to the data folder."""
        return open_storage(self.data_root)

    def stop_signal(self, storage: Storage) -> StopSignal:
        """Whether this attempt begins no new work (any more)."""
        return StopSignal(storage, self.run_id, is_set=self.commit_only is not None)

    def progress(self, storage: Storage) -> ProgressBoard:
        """This process's counters for this attempt."""
        return progress_board(storage, self.run_id, self.attempt)
