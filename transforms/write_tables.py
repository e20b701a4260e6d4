"""WriteTables: write the rows of each shard's items to part files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import apache_beam as beam

from promptreel.providers.call_requests import SentRequests
from promptreel.schemas.arrow import row_of
from promptreel.schemas.table_rows import LlmCallRow
from promptreel.tables.call_log import read_calls
from promptreel.tables.parts import Part, shard_writer
from promptreel.tables.shards import shard_of
from promptreel.tables.table_schemas import table_schemas
from promptreel.transforms.context import RunContext
from promptreel.transforms.elements import ItemOutcome
from promptreel.transforms.not_run import NotRun
from promptreel.transforms.rows.counts import counts_of
from promptreel.transforms.rows.earlier_rows import EarlierRows
from promptreel.transforms.rows.item_rows import item_rows
from promptreel.transforms.rows.source import Row, RowSource, row_source


@dataclass(frozen=True)
class WrittenShard:
    """The parts of one shard, with their counts and warnings.

    Attributes:
        shard: shard number.
        counts: see `counts_of`.
        warnings: the requested operations that did not run for an item of the shard.
    """

    shard: int
    parts: tuple[Part, ...]
    counts: Mapping[str, int]
    warnings: tuple[NotRun, ...] = ()


class WriteTables(beam.PTransform):
    """Write `ItemOutcome`s as one `WrittenShard` for every shard that has items."""

    def __init__(self, context: RunContext) -> None:
        super().__init__()
        self._context = context

    def expand(self, pcoll: beam.PCollection) -> beam.PCollection:
        context = self._context
        return (
            pcoll
            | "Key by shard"
            >> beam.WithKeys(lambda item: shard_of(item.plan.item.video_id, context.shards)).with_output_types(
                tuple[int, ItemOutcome]
            )
            | "Group shard" >> beam.GroupByKey()
            | "Write shard" >> beam.MapTuple(lambda shard, items: write_shard(shard, items, context))
        )


def write_shard(
    shard: int, items: Iterable[ItemOutcome], context: RunContext, *, is_interim: bool = False
) -> WrittenShard:
    """Write the part files of one shard, sorted by item and time.

    Args:
        is_interim: the run is in progress, so calls without an end are in flight, not interrupted; they are omitted.
    """
    storage = context.storage()
    calls = list(read_calls(storage, context.run_id, shard).values())
    if is_interim:
        calls = [call for call in calls if call.status != "interrupted"]
    source = row_source(context, storage, calls)
    finished = {item.plan.item.video_id: item for item in items}
    earlier = EarlierRows(storage, context.run_id, shard) if context.retry is not None else None
    counts: Counter[str] = Counter()
    with shard_writer(storage, context.run_id, shard, table_schemas(context.request.prompt)) as writer:
        for table, row in _shard_rows(finished, earlier, calls, source):
            writer.write(table, row)
            counts.update(counts_of(table, row))
        warnings = {warning for item in finished.values() for warning in item.warnings}
        return WrittenShard(shard, tuple(writer.commit()), dict(counts), tuple(sorted(warnings)))


def _shard_rows(
    finished: Mapping[str, ItemOutcome],
    earlier: EarlierRows | None,
    calls: Iterable[LlmCallRow],
    source: RowSource,
) -> Iterator[tuple[str, Row]]:
    """Yield (table, row) of a shard: items in order, with the earlier rows of items not executed now, then calls."""
    for video_id in sorted({*finished, *(earlier.video_ids if earlier is not None else ())}):
        if video_id in finished:
            yield from item_rows(finished[video_id], source)
        else:
            assert earlier is not None
            yield from earlier.of_item(video_id)
    segments_by = source.context.request.settings.segmentation.segments_by
    sent = SentRequests(source.prompt.to_dict(), segments_by, source.context.evidence_fields)
    for call in sorted(calls, key=lambda call: (call.video_id, call.invoked_at, call.llm_call_id)):
        yield "llm_calls", row_of(_with_shared_parts(call, sent))


def _with_shared_parts(call: LlmCallRow, sent: SentRequests) -> LlmCallRow:
    schema = sent.json_schema(call.purpose, call.request)
    return replace(
        call,
        instruction=sent.instruction(call.purpose, call.request),
        json_schema=None if schema is None else json.dumps(schema, ensure_ascii=False),
    )
