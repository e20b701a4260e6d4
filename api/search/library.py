"""Which search indexes are open, and how they come to be: built in the background, never in a request's way.

The index of a run is the blocks that its manifest requires (`promptreel.api.search.build`). They lie in `search/` of the
data folder, or in a temporary folder if the data is in an object store. A query is answered from the newest index that is
built: after a commit from the previous one, until the new one is ready. A query waits only if there is no index yet.
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
from collections.abc import Sequence
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

_LOOK_EVERY_S: Final = 2.0
_FIRST_BUILD_S: Final = 20.0  # a query waits this long where a run has no index at all
_KEPT_AFTER_S: Final = 60.0  # blocks that no manifest asks for any more are left to queries under way
_MAX_BLOCKS: Final = 512  # open at once
LARGE_ROWS: Final = 20_000  # rows of a block from which a process of its own makes it


@dataclass(frozen=True)
class RunIndex:
    """The opened index of one manifest of a run."""

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
        database: where commits are noticed; None leaves that to queries.
    """

    def __init__(
        self, storage: Storage, database: Database | None = None, *, first_build_s: float = _FIRST_BUILD_S
    ) -> None:
        self._storage = storage
        self._database = database
        self._first_build_s = first_build_s
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if isinstance(storage, LocalStorage):
            self._cache = storage
        else:
            self._temporary = tempfile.TemporaryDirectory(prefix="promptreel-search-")
            self._cache = LocalStorage(Path(self._temporary.name))
        self._changed = threading.Condition()
        self._open: OrderedDict[str, RunIndex] = OrderedDict()
        self._failed: dict[str, ExpectedError] = {}
        # Two lines of builds, so that a large one does not hold up the others.
        self._waiting: dict[bool, OrderedDict[str, Committed]] = {False: OrderedDict(), True: OrderedDict()}
        self._under_way: dict[str, int] = {}
        self._due: dict[Path, float] = {}
        self._children: set[subprocess.Popen[bytes]] = set()
        self._threads: list[threading.Thread] = []
        self._stopping = False
        self._last_event: int | None = None

    def stop(self) -> None:
        """Ends all builds; what they have begun is made again when it is wanted."""
        with self._changed:
            self._stopping = True
            for child in self._children:
                child.terminate()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=30)

    def indexes(self, wanted: Sequence[Committed]) -> list[RunIndex]:
        """The newest built index of each run, in that order.

        Raises:
            RunDamaged: a run has no index, and its files allow none.
            ApiError: 503 where a run has no index yet and none could be built in time.
        """
        found, damaged = self.intact_indexes(wanted)
        if damaged:
            raise damaged[0]
        return found

    def intact_indexes(self, wanted: Sequence[Committed]) -> tuple[list[RunIndex], list[RunDamaged]]:
        """The newest built index of each run, in that order, without the runs whose files allow none; and these.

        Raises:
            ApiError: 503 where a run has no index yet and none could be built in time.
        """
        found: dict[str, RunIndex] = {}
        damaged: dict[str, RunDamaged] = {}
        for run in wanted:
            try:
                index = self._opened(run) or self._open_built(run)
                if index is not None:
                    found[run.run_id] = index
                if index is None or index.number < run.number:
                    self._ask(run)
            except RunDamaged as error:
                if run.run_id not in found:
                    damaged[run.run_id] = error
        missing = [run for run in wanted if run.run_id not in found and run.run_id not in damaged]
        if missing:
            built, torn = self._wait_for(missing)
            found, damaged = found | built, damaged | torn
        indexes = [found[run.run_id] for run in wanted if run.run_id in found]
        return indexes, [damaged[run.run_id] for run in wanted if run.run_id in damaged]

    def _opened(self, run: Committed) -> RunIndex | None:
        with self._changed:
            index = self._open.get(run.run_id)
            if index is not None:
                self._open.move_to_end(run.run_id)
            return index

    def _open_built(self, run: Committed) -> RunIndex | None:
        """Opens the newest index that lies in the cache whole, that of an older manifest too."""
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
                    return self._take(manifest)
                except StorageError as error:
                    _log.warning("search index of %s is damaged and made again: %s", run.run_id, error)
        return None

    def _take(self, manifest: Manifest) -> RunIndex:
        """Opens an index whose blocks are there, and makes it the run's, unless a newer one is open."""
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
            while len(self._open) > 1 and sum(len(part.blocks) for part in self._open.values()) > _MAX_BLOCKS:
                self._open.popitem(last=False)
            self._retire(manifest)
            self._changed.notify_all()
        return index

    # ------------------------------------------------------------------------------------------- building

    def _ask(self, run: Committed) -> None:
        """Puts a build in line."""
        with self._changed:
            self._start_threads()
            self._failed.pop(run.run_id, None)
            if self._under_way.get(run.run_id, 0) >= run.number:
                return
        manifest = read_manifest(self._storage, run.run_id, run.number)
        is_large = any(plan.rows >= LARGE_ROWS for plan in self._missing(manifest))
        with self._changed:
            self._waiting[is_large][run.run_id] = run
            self._changed.notify_all()

    def _missing(self, manifest: Manifest) -> list[BlockPlan]:
        plans = plan_blocks(manifest)
        return [plan for plan in plans if read_marker(self._folder(manifest.run_id, plan)) is None]

    def _wait_for(self, missing: Sequence[Committed]) -> tuple[dict[str, RunIndex], dict[str, RunDamaged]]:
        ids = {run.run_id for run in missing}
        found: dict[str, RunIndex] = {}

        def is_settled() -> bool:
            found.update({run_id: self._open[run_id] for run_id in ids - found.keys() if run_id in self._open})
            failed = {run_id: self._failed[run_id] for run_id in ids & self._failed.keys()}
            is_lost = any(not isinstance(error, RunDamaged) for error in failed.values())
            return self._stopping or is_lost or found.keys() | failed.keys() == ids

        with self._changed:
            self._changed.wait_for(is_settled, self._first_build_s)
            errors = {run_id: self._failed[run_id] for run_id in ids & self._failed.keys()}
        damaged = {run_id: error for run_id, error in errors.items() if isinstance(error, RunDamaged)}
        failed, waiting = sorted(errors.keys() - damaged.keys()), sorted(ids - found.keys() - damaged.keys())
        if failed:
            message = f"The search index of run {failed[0]} cannot be built; the service's log says why."
            raise ApiError(503, "search_index_unavailable", message, {"run_ids": failed}, 5)
        if waiting:
            message = f"The search index of run {waiting[0]} is being built for the first time; try again soon."
            raise ApiError(503, "search_index_building", message, {"run_ids": waiting}, 5)
        return found, damaged

    def _start_threads(self) -> None:
        if not self._threads:
            for is_large in (False, True):
                name = f"search-{'large' if is_large else 'small'}"
                thread = threading.Thread(target=self._work, args=(is_large,), name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def start(self) -> None:
        """Begins to notice commits: those from now on. Without it the first query does."""
        self._look()
        with self._changed:
            self._start_threads()

    def _work(self, is_large: bool) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._waiting[is_large], _LOOK_EVERY_S)
                if self._stopping:
                    return
                run = self._waiting[is_large].popitem(last=False)[1] if self._waiting[is_large] else None
                if run is not None:
                    self._under_way[run.run_id] = run.number
            if run is not None:
                self._build(run)
            if not is_large:
                self._look()
                self._sweep()

    def _build(self, run: Committed) -> None:
        error: ExpectedError | None = None
        try:
            manifest = read_manifest(self._storage, run.run_id, run.number)
            for plan in self._missing(manifest):
                _remove(self._folder(run.run_id, plan))  # what a damaged one has left
                self._make(manifest, plan)
            self._take(manifest)
        except ExpectedError as failure:
            error = failure
        except Exception as failure:  # a defect, or a disk: reported to the waiting request; the queue continues
            error = StorageError(f"{type(failure).__name__}: {failure}")
            _log.exception("search index of %s", run.run_id)
        with self._changed:
            self._under_way.pop(run.run_id, None)
            if error is not None and not self._stopping:
                self._failed[run.run_id] = error
                _log.error("search index of %s, manifest %d: %s", run.run_id, run.number, error)
            self._changed.notify_all()

    def _make(self, manifest: Manifest, plan: BlockPlan) -> None:
        if plan.rows < LARGE_ROWS:
            build_block(self._storage, self._cache, manifest, plan)
            return
        part_paths(self._storage, manifest.run_id, (part for part in manifest.parts if part.shard in plan.shards))
        command = [sys.executable, "-P", "-m", "promptreel.api.search.build", self._storage.root, self._cache.root]
        command += [manifest.run_id, str(manifest.number), plan.name]
        with self._changed:
            if self._stopping:
                raise StorageError("the service stops")
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            self._children.add(child)
        code = child.wait()
        with self._changed:
            self._children.discard(child)
        if code != 0:
            raise StorageError(f"the process that builds {plan.name} ended with {code}")

    # ------------------------------------------------------------------------------------------- noticing, removing

    def _look(self) -> None:
        """Asks for the indexes of runs that have committed since the last look."""
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
                    self._ask(Committed(run_id, number))
        except Exception:  # the next look may succeed; a query asks by itself
            _log.exception("commits could not be looked for")

    def _retire(self, manifest: Manifest) -> None:
        """Marks the run's blocks of older manifests for removal."""
        if not is_run_id(manifest.run_id):
            return
        used = {plan.name for plan in plan_blocks(manifest)}
        for name in self._cache.list_names(f"{SEARCH}/{manifest.run_id}"):
            folder = self._cache.path / block_folder(manifest.run_id, name)
            marker = read_marker(folder)
            if name not in used and (marker is None or marker["manifest"] < manifest.number):
                self._due.setdefault(folder, time.monotonic() + _KEPT_AFTER_S)

    def _sweep(self) -> None:
        with self._changed:
            due = [folder for folder, moment in self._due.items() if moment <= time.monotonic()]
            for folder in due:
                del self._due[folder]
        for folder in due:
            _remove(folder)

    def _folder(self, run_id: str, plan: BlockPlan) -> Path:
        return self._cache.path / block_folder(run_id, plan.name)


def _remove(folder: Path) -> None:
    """Removes a block, its marker first, so that half of it is never taken for a whole."""
    (folder / MARKER).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
