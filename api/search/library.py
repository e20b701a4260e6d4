"""Open search indexes, and build them in the background without blocking requests.

The index of a run consists of the blocks that its manifest requires (`promptreel.api.search.build`). Blocks are stored in
`search/` of the data folder, or in a temporary folder if the data is in an object store. A query uses the newest complete
index: after a commit the previous one, until the new one is built. It waits only if the run has no index yet.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import func, select

from promptreel.api.db.engine import Database
from promptreel.api.db.models import EventRecord, RunRecord
from promptreel.api.search.block import MARKER, Block, open_block, read_marker
from promptreel.api.search.build import SEARCH, BlockPlan, block_folder, build_block, plan_blocks
from promptreel.api.web.errors import ApiError
from promptreel.schemas.errors import ExpectedError, RunDamaged, StorageError
from promptreel.tables.layout import is_run_id
from promptreel.tables.manifest import Manifest, read_manifest
from promptreel.tables.part_files import part_paths
from promptreel.tables.storage import LocalStorage, Storage

_log = logging.getLogger(__name__)

_POLL_INTERVAL_S: Final = 2.0
_FIRST_BUILD_TIMEOUT_S: Final = 20.0  # how long a query waits for the first index of a run
_PURGE_DELAY_S: Final = 60.0  # running queries may still use blocks that the new manifest does not require
_MAX_OPEN_BLOCKS: Final = 512
LARGE_ROWS: Final = 20_000  # a block of this many rows is built in a separate process


@dataclass(frozen=True)
class RunIndex:
    """The open index of one manifest of a run."""

    run_id: str
    number: int
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Committed:
    """A run, and the number of its newest manifest."""

    run_id: str
    number: int


class SearchLibrary:
    """The search indexes of one data folder.

    Args:
        database: polled for new commits; if None, only queries trigger builds.
    """

    def __init__(
        self,
        storage: Storage,
        database: Database | None = None,
        *,
        first_build_timeout_s: float = _FIRST_BUILD_TIMEOUT_S,
    ) -> None:
        self._storage = storage
        self._database = database
        self._first_build_timeout_s = first_build_timeout_s
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if isinstance(storage, LocalStorage):
            self._cache = storage
        else:
            self._temporary = tempfile.TemporaryDirectory(prefix="promptreel-search-")
            self._cache = LocalStorage(Path(self._temporary.name))
        self._changed = threading.Condition()
        self._open: OrderedDict[str, RunIndex] = OrderedDict()
        self._failed: dict[str, ExpectedError] = {}
        # The runs of each waiting query, and the indexes opened since; see `_waiter`.
        self._waiters: list[tuple[set[str], dict[str, RunIndex]]] = []
        # Separate queues for small and large builds, so that a large one does not delay the others.
        self._queues: dict[bool, OrderedDict[str, Committed]] = {False: OrderedDict(), True: OrderedDict()}
        self._building: dict[str, int] = {}
        self._purge_times: dict[Path, float] = {}
        self._children: set[subprocess.Popen[bytes]] = set()
        self._threads: list[threading.Thread] = []
        self._stopping = False
        self._last_event: int | None = None

    def stop(self) -> None:
        """Stop all builds. Unfinished blocks are rebuilt when they are needed."""
        with self._changed:
            self._stopping = True
            for child in self._children:
                child.terminate()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=30)

    def indexes(self, runs: Sequence[Committed]) -> list[RunIndex]:
        """Return the newest built index of each run, in the given order.

        Raises:
            RunDamaged: a run has no index, and none can be built because its files are damaged.
            ApiError: 503 if the first index of a run could not be built in time.
        """
        found, damaged = self.intact_indexes(runs)
        if damaged:
            raise damaged[0]
        return found

    def intact_indexes(self, runs: Sequence[Committed]) -> tuple[list[RunIndex], list[RunDamaged]]:
        """Return (newest built index of each intact run, errors of the damaged runs), both in the given order.

        Raises:
            ApiError: 503 if the first index of a run could not be built in time.
        """
        found: dict[str, RunIndex] = {}
        damaged: dict[str, RunDamaged] = {}
        with self._waiter({run.run_id for run in runs}) as opened:
            for run in runs:
                try:
                    index = self._opened(run) or self._open_built(run)
                    if index is not None:
                        found[run.run_id] = index
                    if index is None or index.number < run.number:
                        self._enqueue(run)
                except RunDamaged as error:
                    if run.run_id not in found:
                        damaged[run.run_id] = error
            missing = {run.run_id for run in runs} - found.keys() - damaged.keys()
            if missing:
                built, failed = self._wait_for(missing, opened)
                found, damaged = found | built, damaged | failed
        indexes = [found[run.run_id] for run in runs if run.run_id in found]
        return indexes, [damaged[run.run_id] for run in runs if run.run_id in damaged]

    def _opened(self, run: Committed) -> RunIndex | None:
        with self._changed:
            index = self._open.get(run.run_id)
            if index is not None:
                self._open.move_to_end(run.run_id)
            return index

    def _open_built(self, run: Committed) -> RunIndex | None:
        """Open the newest complete index in the cache, possibly of an older manifest."""
        if not self._cache.list_names(f"{SEARCH}/{run.run_id}"):
            return None
        for number in range(run.number, 0, -1):
            try:
                manifest = read_manifest(self._storage, run.run_id, number)
            except RunDamaged:
                if number == run.number:
                    raise
                continue
            folders = [self._folder(run.run_id, plan) for plan in plan_blocks(manifest)]
            if all(read_marker(folder) is not None for folder in folders):
                try:
                    return self._load(manifest)
                except StorageError as error:
                    _log.warning("search index of %s is damaged and will be rebuilt: %s", run.run_id, error)
        return None

    def _load(self, manifest: Manifest) -> RunIndex:
        """Open the blocks of a manifest as the run's index, unless a newer index is already open."""
        blocks = []
        for plan in plan_blocks(manifest):
            folder = self._folder(manifest.run_id, plan)
            try:
                blocks.append(open_block(folder))
            except StorageError:
                _remove(folder)
                raise
        index = RunIndex(manifest.run_id, manifest.number, tuple(blocks))
        with self._changed:
            before = self._open.get(manifest.run_id)
            if before is not None and before.number > index.number:
                return before
            self._open[manifest.run_id] = index
            self._open.move_to_end(manifest.run_id)
            for ids, found in self._waiters:
                if manifest.run_id in ids:
                    found[manifest.run_id] = index
            while len(self._open) > 1 and sum(len(part.blocks) for part in self._open.values()) > _MAX_OPEN_BLOCKS:
                self._open.popitem(last=False)
            self._schedule_purge(manifest)
            self._changed.notify_all()
        return index

    # ------------------------------------------------------------------------------------------- building

    def _enqueue(self, run: Committed) -> None:
        """Queue a build."""
        with self._changed:
            self._start_threads()
            self._failed.pop(run.run_id, None)
            if self._building.get(run.run_id, 0) >= run.number:
                return
        manifest = read_manifest(self._storage, run.run_id, run.number)
        is_large = any(plan.rows >= LARGE_ROWS for plan in self._missing_blocks(manifest))
        with self._changed:
            self._queues[is_large][run.run_id] = run
            self._changed.notify_all()

    def _missing_blocks(self, manifest: Manifest) -> list[BlockPlan]:
        plans = plan_blocks(manifest)
        return [plan for plan in plans if read_marker(self._folder(manifest.run_id, plan)) is None]

    @contextmanager
    def _waiter(self, ids: set[str]) -> Iterator[dict[str, RunIndex]]:
        """Yield a dict that receives every index of these runs that is opened from now on.

        Without it an index could be opened and evicted before the waiting query sees it.
        """
        opened: dict[str, RunIndex] = {}
        waiter = (ids, opened)
        with self._changed:
            self._waiters.append(waiter)
        try:
            yield opened
        finally:
            with self._changed:
                self._waiters = [other for other in self._waiters if other is not waiter]

    def _wait_for(
        self, ids: set[str], opened: Mapping[str, RunIndex]
    ) -> tuple[dict[str, RunIndex], dict[str, RunDamaged]]:
        def is_settled() -> bool:
            failed = {run_id: self._failed[run_id] for run_id in ids & self._failed.keys()}
            is_lost = any(not isinstance(error, RunDamaged) for error in failed.values())
            return self._stopping or is_lost or ids <= opened.keys() | failed.keys()

        with self._changed:
            self._changed.wait_for(is_settled, self._first_build_timeout_s)
            errors = {run_id: self._failed[run_id] for run_id in ids & self._failed.keys()}
            found = {run_id: opened[run_id] for run_id in ids & opened.keys()}
        damaged = {run_id: error for run_id, error in errors.items() if isinstance(error, RunDamaged)}
        failed, waiting = sorted(errors.keys() - damaged.keys()), sorted(ids - found.keys() - damaged.keys())
        if failed:
            message = f"The search index of run {failed[0]} cannot be built; see the service's log."
            raise ApiError(503, "search_index_unavailable", message, {"run_ids": failed}, 5)
        if waiting:
            message = f"The search index of run {waiting[0]} is being built for the first time; try again soon."
            raise ApiError(503, "search_index_building", message, {"run_ids": waiting}, 5)
        return found, damaged

    def _start_threads(self) -> None:
        if not self._threads:
            for is_large in (False, True):
                name = f"search-{'large' if is_large else 'small'}"
                thread = threading.Thread(target=self._worker_loop, args=(is_large,), name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def start(self) -> None:
        """Start polling for commits from now on. Otherwise the first query starts it."""
        self._poll()
        with self._changed:
            self._start_threads()

    def _worker_loop(self, is_large: bool) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._queues[is_large], _POLL_INTERVAL_S)
                if self._stopping:
                    return
                run = self._queues[is_large].popitem(last=False)[1] if self._queues[is_large] else None
                if run is not None:
                    self._building[run.run_id] = run.number
            if run is not None:
                self._build(run)
            if not is_large:
                self._poll()
                self._purge()

    def _build(self, run: Committed) -> None:
        error: ExpectedError | None = None
        try:
            manifest = read_manifest(self._storage, run.run_id, run.number)
            for plan in self._missing_blocks(manifest):
                _remove(self._folder(run.run_id, plan))  # remains of a damaged block
                self._build_block(manifest, plan)
            self._load(manifest)
        except ExpectedError as failure:
            error = failure
        except Exception as failure:  # a bug or a disk error: report it to the waiting request; the queue continues
            error = StorageError(f"{type(failure).__name__}: {failure}")
            _log.exception("cannot build the search index of %s", run.run_id)
        with self._changed:
            self._building.pop(run.run_id, None)
            if error is not None and not self._stopping:
                self._failed[run.run_id] = error
                _log.error("cannot build the search index of %s, manifest %d: %s", run.run_id, run.number, error)
            self._changed.notify_all()

    def _build_block(self, manifest: Manifest, plan: BlockPlan) -> None:
        if plan.rows < LARGE_ROWS:
            build_block(self._storage, self._cache, manifest, plan)
            return
        part_paths(self._storage, manifest.run_id, (part for part in manifest.parts if part.shard in plan.shards))
        command = [sys.executable, "-P", "-m", "promptreel.api.search.build", self._storage.root, self._cache.root]
        command += [manifest.run_id, str(manifest.number), plan.name]
        with self._changed:
            if self._stopping:
                raise StorageError("the service is stopping")
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            self._children.add(child)
        code = child.wait()
        with self._changed:
            self._children.discard(child)
        if code != 0:
            raise StorageError(f"the process that builds {plan.name} exited with code {code}")

    # ------------------------------------------------------------------------------------------- polling, purging

    def _poll(self) -> None:
        """Queue builds for runs that have committed since the last poll."""
        if self._database is None:
            return
        try:
            with self._database.read() as session:
                last = session.scalar(select(func.max(EventRecord.number))) or 0
                if self._last_event is None or last == self._last_event:
                    self._last_event = last
                    return
                ended = select(EventRecord.run_id).where(
                    EventRecord.number > self._last_event,
                    EventRecord.number <= last,
                    EventRecord.event_type.like("prompt_run.%"),
                )
                runs = session.execute(
                    select(RunRecord.run_id, RunRecord.manifest_number).where(
                        RunRecord.run_id.in_(ended), RunRecord.manifest_number.is_not(None)
                    )
                ).all()
            self._last_event = last
            for run_id, number in runs:
                assert number is not None
                index = self._opened(Committed(run_id, number))
                if index is None or index.number < number:
                    self._enqueue(Committed(run_id, number))
        except Exception:  # the next poll may succeed, and queries queue their own builds
            _log.exception("cannot poll for commits")

    def _schedule_purge(self, manifest: Manifest) -> None:
        """Schedule the removal of the run's blocks of older manifests."""
        if not is_run_id(manifest.run_id):
            return
        used = {plan.name for plan in plan_blocks(manifest)}
        for name in self._cache.list_names(f"{SEARCH}/{manifest.run_id}"):
            folder = self._cache.path / block_folder(manifest.run_id, name)
            marker = read_marker(folder)
            if name not in used and (marker is None or marker["manifest"] < manifest.number):
                self._purge_times.setdefault(folder, time.monotonic() + _PURGE_DELAY_S)

    def _purge(self) -> None:
        with self._changed:
            due = [folder for folder, due_at in self._purge_times.items() if due_at <= time.monotonic()]
            for folder in due:
                del self._purge_times[folder]
        for folder in due:
            _remove(folder)

    def _folder(self, run_id: str, plan: BlockPlan) -> Path:
        return self._cache.path / block_folder(run_id, plan.name)


def _remove(folder: Path) -> None:
    """Remove a block, its marker first, so that a partly removed block is never taken for a complete one."""
    (folder / MARKER).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
