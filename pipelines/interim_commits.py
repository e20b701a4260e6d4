"""Interim commits: a background thread of the runner makes finished segments readable while the pipeline works.

Beam's joins wait for all items, so nothing after them can commit early. The thread reads the outcome log instead, which all
workers write, rewrites the shards whose log has grown, and commits an interim state. It never affects the run: on any error
it logs a warning and tries again later.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from promptreel.schemas.errors import CommitConflict, StorageError
from promptreel.tables import layout
from promptreel.tables.interim import commit_interim, interim_states, remove_interim
from promptreel.tables.manifest import Manifest, newest_manifest
from promptreel.tables.storage import Storage
from promptreel.tables.worker_logs import log_size, shard_folder
from promptreel.transforms.context import RunContext
from promptreel.transforms.items_so_far import items_so_far
from promptreel.transforms.not_run import run_warnings
from promptreel.transforms.outcome_log import read_outcomes
from promptreel.transforms.write_tables import WrittenShard, write_shard

# At most a tenth of one thread is spent on interim commits.
_INTERVAL_PER_COMMIT_TIME: Final = 10
# Readers that resolved a superseded state have this long to open its parts.
_GRACE_S: Final = 60.0


@contextmanager
def interim_commits(storage: Storage, context: RunContext) -> Iterator[None]:
    """Commit interim states during the block; after it, remove them if the run has a manifest."""
    commits = InterimCommits(storage, context)
    if not context.commits_interim or newest_manifest(storage, context.run_id) is not None:
        commits.remove_all()  # left by an attempt that died after its commit
        yield
        return
    thread = threading.Thread(target=commits.repeat, name="interim commits", daemon=True)
    thread.start()
    try:
        yield
    finally:
        commits.stop()
        thread.join()
        commits.remove_all()


class InterimCommits:
    """The interim commits of one attempt. Only `stop` may be called from another thread."""

    def __init__(self, storage: Storage, context: RunContext) -> None:
        self._storage = storage
        self._context = context
        self._stopped = threading.Event()
        self._sizes: dict[int, int] = {}
        self._written: dict[int, WrittenShard] = {}
        self._superseded: list[tuple[float, Manifest]] = []
        self._newest: Manifest | None = None
        self._uncommitted: set[str] = set()  # part files

    def stop(self) -> None:
        """Stop before the next shard is written."""
        self._stopped.set()

    def repeat(self) -> None:
        """Commit at intervals until stopped."""
        pause = self._context.request.settings.commit_interval_s
        while not self._stopped.wait(pause):
            started = time.monotonic()
            try:
                self.commit()
            except CommitConflict:
                return  # a later attempt works on the run
            except Exception:
                logging.getLogger(__name__).warning("an interim commit failed; trying again later", exc_info=True)
            taken = time.monotonic() - started
            pause = max(self._context.request.settings.commit_interval_s, _INTERVAL_PER_COMMIT_TIME * taken)

    def commit(self) -> Manifest | None:
        """Write the shards whose log has grown, and commit; None if there was nothing new.

        Raises:
            CommitConflict: a later attempt works on the run.
        """
        context = self._context
        for shard, size in self._grown().items():
            if self._stopped.is_set():
                return None
            items = items_so_far(read_outcomes(self._storage, context.run_id, shard), context)
            self._written[shard] = write_shard(shard, items, context, is_interim=True)
            self._sizes[shard] = size
            self._uncommitted.update(part.file for part in self._written[shard].parts)
        if not self._uncommitted or self._stopped.is_set():
            return None
        if self._newest is None:
            self._supersede(interim_states(self._storage, context.run_id))
        written = list(self._written.values())
        counts: Counter[str] = Counter()
        for shard_counts in (shard.counts for shard in written):
            counts.update(shard_counts)
        manifest = commit_interim(
            self._storage,
            context.run_id,
            attempt=context.attempt,
            counts=counts,
            parts=[part for shard in written for part in shard.parts],
            # Whether an operation applies to no item is known only at the end.
            warnings=run_warnings({part for shard in written for part in shard.warnings if part.reason}, counts),
            shards=context.shards,
        )
        if self._newest is not None:
            self._supersede([self._newest])
        self._newest = manifest
        self._uncommitted -= {part.file for part in manifest.parts}
        self._remove_old()
        return manifest

    def remove_all(self) -> None:
        """Remove all interim states if the run has a manifest; otherwise they stay readable. Never raises."""
        try:
            manifest = newest_manifest(self._storage, self._context.run_id)
            if manifest is not None:
                states = interim_states(self._storage, self._context.run_id)
                remove_interim(self._storage, states, [manifest])
            self._remove_uncommitted()
        except Exception:
            logging.getLogger(__name__).warning("interim states were not removed", exc_info=True)

    def _grown(self) -> dict[int, int]:
        """The shards with new entries, with the size of their log."""
        folder = layout.outcomes_folder(self._context.run_id)
        shards = [int(name) for name in self._storage.list_names(folder)]
        sizes = {shard: log_size(self._storage, shard_folder(folder, shard)) for shard in shards}
        return {shard: size for shard, size in sizes.items() if size != self._sizes.get(shard)}

    def _supersede(self, states: list[Manifest]) -> None:
        self._superseded += [(time.monotonic(), state) for state in states]

    def _remove_old(self) -> None:
        """Remove the states that were superseded long enough ago, except the newest of them."""
        assert self._newest is not None
        deadline = time.monotonic() - _GRACE_S
        old = [state for since, state in self._superseded[:-1] if since < deadline]
        self._superseded = self._superseded[len(old) :]
        try:
            remove_interim(self._storage, old, [self._newest, *(state for _, state in self._superseded)])
            self._remove_uncommitted()
        except StorageError:
            logging.getLogger(__name__).warning("old interim states were not removed", exc_info=True)

    def _remove_uncommitted(self) -> None:
        """Remove parts that no state lists: they were rewritten, or the run ended, before they could be committed."""
        for file in self._uncommitted:
            self._storage.remove(f"{layout.run_folder(self._context.run_id)}/{file}")
        self._uncommitted.clear()
