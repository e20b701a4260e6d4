"""CommitManifest: commit a run's tables, which makes them readable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import apache_beam as beam

from promptreel.providers.registry import provider_of
from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.service_state import ServiceState
from promptreel.tables.live_parts import publish_newest
from promptreel.tables.manifest import Manifest, RunStatus, commit_manifest, newest_manifest
from promptreel.tables.progress import read_service_states
from promptreel.tables.stop_signal import StopSignal
from promptreel.tables.storage import Storage
from promptreel.transforms.context import RunContext
from promptreel.transforms.not_run import run_warnings
from promptreel.transforms.rows.earlier_rows import EarlierRows
from promptreel.transforms.rows.statuses import run_status
from promptreel.transforms.rows.version_warnings import version_warnings
from promptreel.transforms.write_tables import WrittenShard

_CODE: Final = "failures.code."


class CommitManifest(beam.PTransform):
    """Combine all `WrittenShard`s into the one committed `Manifest`."""

    def __init__(self, context: RunContext) -> None:
        super().__init__()
        self._context = context

    def expand(self, pcoll: beam.PCollection) -> beam.PCollection:
        context = self._context
        return (
            pcoll
            | "Gather" >> beam.combiners.ToList()
            | "Commit" >> beam.Map(lambda shards: commit_shards(shards, context))
        )


def commit_shards(shards: Iterable[WrittenShard], context: RunContext) -> Manifest:
    """Commit a manifest that lists every part, with the run's status and counts. Idempotent within an attempt."""
    storage = context.storage()
    written = list(shards)
    counts: Counter[str] = Counter()
    for shard in written:
        counts.update(shard.counts)
    parts = [part for shard in written for part in shard.parts]
    warnings: set[str] = set()
    stopped = StopSignal(storage, context.run_id).is_set()
    earlier = newest_manifest(storage, context.run_id) if context.retry is not None else None
    if earlier is not None and earlier.attempt < context.attempt:
        replaced = {shard.shard for shard in written}
        counts = _merge_counts(counts, earlier, replaced, storage)
        parts += [part for part in earlier.parts if part.shard not in replaced]
        warnings.update(earlier.warnings)
        stopped = stopped or earlier.status == "cancelled"
    warnings |= run_warnings((warning for shard in written for warning in shard.warnings), counts)
    warnings |= version_warnings(provider_of(context.request.settings), counts)
    status = run_status(counts, stopped=stopped)
    manifest = commit_manifest(
        storage,
        context.run_id,
        attempt=context.attempt,
        token=f"{context.run_id}-{context.attempt}",
        status=status,
        counts=dict(sorted(counts.items())),
        parts=parts,
        shards=context.shards,
        error_message=_error_message(status, counts, read_service_states(storage, context.run_id, context.attempt)),
        warnings=sorted(warnings),
    )
    publish_newest(storage, context.run_id)
    return manifest


def _merge_counts(counts: Counter[str], earlier: Manifest, replaced: set[int], storage: Storage) -> Counter[str]:
    """Return the complete run's counts after a retry: the earlier counts, with the rewritten shards' replaced."""
    total = Counter(earlier.counts)
    for shard in replaced:
        total.subtract(EarlierRows(storage, earlier.run_id, shard).counts())
    total.update(counts)
    # A manifest of an earlier version lacks the newer counts of its rows.
    return Counter({name: count for name, count in total.items() if count > 0})


def _error_message(status: RunStatus, counts: Mapping[str, int], states: Iterable[ServiceState]) -> str | None:
    """Summarize a run's failure codes, most frequent first, and why its calls were halted, in the service's own words.

    None if it completed or was cancelled.
    """
    if status not in ("failed", "completed_with_failures"):
        return None
    codes = {name.removeprefix(_CODE): count for name, count in counts.items() if name.startswith(_CODE)}
    ordered = sorted(codes.items(), key=lambda pair: (-pair[1], pair[0]))
    halts = [state.describe() for state in states if state.status == "halted"]
    return "; ".join([*(f"{count} x {code} ({_meaning(code)})" for code, count in ordered), *halts])


def _meaning(code: str) -> str:
    known = FAILURE_CODES.get(code)  # a manifest written by a later version may contain a new code
    return "unknown" if known is None else known.meaning
