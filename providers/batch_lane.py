"""The batch lane of one worker: collects calls into groups, sends each group as one job, and hands out the answers.

A group is sent when it is full, or when no further call arrives. It is stored before its job is created and again with the
job's name, so a later attempt of the run reads the answers of the same job instead of paying for another. No call is sent
again while the service may have its job: failures to reach it halt the run, and a resume looks the job up.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from promptreel.providers.base import ModelAnswer
from promptreel.providers.batch_watch import BatchDeadlinePassed, BatchWatch, GroupAnswers, GroupStore
from promptreel.schemas.batch_group import BatchGroup
from promptreel.schemas.errors import ModelError, StorageError

MAX_GROUP_CALLS: Final = 1000
# A request file may have 2 GB.
MAX_GROUP_BYTES: Final = 1_000_000_000
# A group is sent if no call has arrived for this long: while decoding continues, and after the last item.
IDLE_S: Final = 20.0
LAST_IDLE_S: Final = 0.5
CHECK_INTERVAL_S: Final = 0.1
# Requests that are built at once; each holds a clip in memory.
BUILDS: Final = 8


@dataclass(slots=True)
class _NewGroup:
    """A group that is being collected: its request file, and the task that sends it once it is complete."""

    group_id: str
    requests: Path
    keys: list[str] = field(default_factory=list)
    size: int = 0
    last_added: float = 0.0
    is_complete: bool = False
    stored: BatchGroup | None = None
    task: asyncio.Task[GroupAnswers] | None = None


@dataclass(slots=True)
class _EarlierGroup:
    """A group of an earlier attempt; its job is read when its first call is requested."""

    stored: BatchGroup
    task: asyncio.Task[GroupAnswers] | None = None


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """The answer to one call.

    Attributes:
        sent_at: seconds since the epoch.
    """

    key: str
    result: ModelAnswer | ModelError
    group: BatchGroup

    @property
    def sent_at(self) -> float:
        return self.group.planned_at


class BatchLane:
    """The calls of one worker, in one event loop.

    Args:
        folder: a local folder for request files.
        check_halted: raises Halted if the run makes no further calls.
        is_past_deadline: send no new jobs; only read those of earlier attempts.
    """

    def __init__(
        self,
        watch: BatchWatch,
        store: GroupStore,
        folder: Path,
        check_halted: Callable[[], None],
        *,
        is_past_deadline: bool = False,
    ) -> None:
        self._watch = watch
        self._store = store
        self._folder = folder
        self._check_halted = check_halted
        self._earlier: dict[str, _EarlierGroup] = {}
        self._open: _NewGroup | None = None
        self._tasks: set[asyncio.Task[GroupAnswers]] = set()
        self._builds = asyncio.Semaphore(BUILDS)
        self._appending = asyncio.Lock()
        self._building = 0
        self._is_last = False
        self._is_past_deadline = is_past_deadline  # then further calls are live, without waiting for another job

    async def open(self) -> None:
        """Load the groups of earlier attempts. Raises StorageError."""
        for group in await asyncio.to_thread(self._store.open_groups):
            earlier = _EarlierGroup(group)
            self._earlier.update((key, earlier) for key in group.keys)  # the newest group has the last request

    async def close(self, *, cancels_jobs: bool) -> None:
        """Stop all tasks.

        Args:
            cancels_jobs: cancel the jobs of earlier attempts that no call has waited for.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if cancels_jobs:
            idle = {group.stored.group_id: group.stored for group in self._earlier.values() if group.task is None}
            await asyncio.gather(*map(self._watch.cancel, idle.values()))

    def expect_more(self, is_expected: bool) -> None:
        """Set whether further calls arrive; if not, the open group is sent soon. Thread-safe."""
        self._is_last = not is_expected

    async def answer(self, key: str, build: Callable[[], Awaitable[bytes]]) -> BatchAnswer:
        """Return the answer to a call: from the job of an earlier attempt if it has one, otherwise from a new job.

        Args:
            key: identifies the call in all attempts of the run.
            build: returns its line in a request file.

        Raises:
            BatchDeadlinePassed: this job, or an earlier one, did not answer before its deadline.
            ModelError: the job, or its creation, failed.
            Halted: the run makes no further calls.
        """
        earlier = self._earlier.pop(key, None)
        if earlier is not None:
            if earlier.task is None:
                earlier.task = self._start(self._watch.resume(earlier.stored))
            answers = await asyncio.shield(earlier.task)
            if key in answers.answers or answers.unanswered is not None:
                return self._pick(key, earlier.stored, answers)
        if self._is_past_deadline:
            raise BatchDeadlinePassed
        group = await self._add(key, build)
        assert group.task is not None
        answers = await asyncio.shield(group.task)
        assert group.stored is not None
        return self._pick(key, group.stored, answers)

    async def add_recorded(self, answer: BatchAnswer) -> None:
        """Store that an answer is in the call records."""
        with contextlib.suppress(StorageError):  # a later attempt then reads the answer again
            await asyncio.to_thread(self._store.add_recorded, answer.group, answer.key)

    def _pick(self, key: str, group: BatchGroup, answers: GroupAnswers) -> BatchAnswer:
        if key in answers.answers:
            return BatchAnswer(key, answers.answers[key], group)
        error = answers.unanswered
        if isinstance(error, ModelError):
            return BatchAnswer(key, ModelError(error.code, error.message, retryable=error.retryable), group)
        self._is_past_deadline |= isinstance(error, BatchDeadlinePassed)
        assert error is not None
        raise error

    async def _add(self, key: str, build: Callable[[], Awaitable[bytes]]) -> _NewGroup:
        self._building += 1
        try:
            async with self._builds:
                line = await build()
                async with self._appending:
                    group = self._open_group()
                    await asyncio.to_thread(_append, group.requests, line)
                    group.keys.append(key)
                    group.size += len(line)
                    group.last_added = time.monotonic()
                    if len(group.keys) >= MAX_GROUP_CALLS or group.size >= MAX_GROUP_BYTES:
                        self._complete(group)
                    return group
        finally:
            self._building -= 1

    def _open_group(self) -> _NewGroup:
        if self._open is None:
            group_id = f"{time.time_ns():x}-{secrets.token_hex(4)}"
            self._open = _NewGroup(group_id, self._folder / f"{group_id}.jsonl")
            self._open.task = self._start(self._send_when_complete(self._open))
        return self._open

    def _complete(self, group: _NewGroup) -> None:
        group.is_complete = True
        if self._open is group:
            self._open = None

    async def _send_when_complete(self, group: _NewGroup) -> GroupAnswers:
        try:
            while not group.is_complete:
                self._check_halted()
                await asyncio.sleep(CHECK_INTERVAL_S)
                quiet_s = time.monotonic() - group.last_added
                if group.keys and not self._building and quiet_s >= (LAST_IDLE_S if self._is_last else IDLE_S):
                    self._complete(group)
            self._check_halted()
            group.stored = self._store.plan(group.group_id, group.keys, time.time())
            return await self._watch.send(group.stored, group.requests)
        finally:
            self._complete(group)
            group.requests.unlink(missing_ok=True)

    def _start(self, work: Coroutine[Any, Any, GroupAnswers]) -> asyncio.Task[GroupAnswers]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # its callers raise it
        return task


def _append(path: Path, line: bytes) -> None:
    with path.open("ab") as file:
        file.write(line + b"\n")
