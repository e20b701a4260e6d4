"""WriteTables: turns the items of one shard into rows, and the rows into part files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
from numpy.typing import NDArray

from promptreel.media.analysis import MediaAnalysis, frames_of_span
from promptreel.providers.registry import text_embedder_of
from promptreel.providers.text_embedding import MAX_TEXT_CHARS, unpack_vectors
from promptreel.schemas.arrow import row_of
from promptreel.schemas.field_paths import parse_schema, render_text
from promptreel.schemas.ids import canonical_json
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.records import (
    TABLES,
    FailureRow,
    FrameRow,
    ImageEmbeddingRow,
    ItemStatus,
    LlmCallRow,
    MediaRow,
    ResultRow,
    SegmentRow,
    TextEmbeddingRow,
    TranscriptRow,
    VideoResultRow,
    Word,
)
from promptreel.tables.call_log import read_calls
from promptreel.tables.layout import analysis_folder
from promptreel.tables.manifest import newest_manifest
from promptreel.tables.operation_cache import OperationCache
from promptreel.tables.pages import ItemRows
from promptreel.tables.part_files import part_paths
from promptreel.tables.parts import Part, shard_writer
from promptreel.tables.shards import shard_of
from promptreel.tables.storage import Storage
from promptreel.tables.table_schemas import FIELDS, VECTOR, table_schemas, typed_fields
from promptreel.transforms.context import RunContext
from promptreel.transforms.elements import Failure, ItemOutcome, OperationOutcome, SegmentOutcome
from promptreel.transforms.embed_texts import batch_keys, texts_of_item
from promptreel.transforms.segment_media import read_analysis
from promptreel.transforms.transcribe import kept_transcript, segment_words, spoken_in

Row = dict[str, Any]


@dataclass(frozen=True)
class WrittenShard:
    """The parts of one shard and what is in them.

    Attributes:
        counts: see `counts_of`.
        shard: its number.
        warnings: what items of the shard go without, and how to mend it.
    """

    shard: int
    parts: tuple[Part, ...]
    counts: Mapping[str, int]
    warnings: tuple[str, ...] = ()


class WriteTables(beam.PTransform):
    """`ItemOutcome`s to one `WrittenShard` for every shard that has items."""

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


def write_shard(shard: int, items: Iterable[ItemOutcome], context: RunContext) -> WrittenShard:
    """Writes the part files of one shard, sorted by item and time."""
    storage = context.storage()
    prompt = context.request.prompt
    calls = read_calls(storage, context.run_id, shard)
    rows = RowMaker(context, storage, calls)
    counts: Counter[str] = Counter()
    made = {item.plan.item.video_id: item for item in items}
    earlier = EarlierRows(storage, context.run_id, shard) if context.retry is not None else None
    known = {*made, *(earlier.video_ids if earlier is not None else ())}
    warnings: set[str] = set()
    with shard_writer(storage, context.run_id, shard, table_schemas(prompt)) as writer:
        for video_id in sorted(known):
            if video_id in made:
                warnings.update(made[video_id].warnings)
                found = rows.of_item(made[video_id])
            else:
                assert earlier is not None
                found = earlier.of_item(video_id)
            for table, row in found:
                writer.write(table, row)
                counts.update(counts_of(table, row))
        for call in sorted(calls.values(), key=lambda call: (call.video_id, call.invoked_at, call.llm_call_id)):
            writer.write("llm_calls", row_of(call))
            counts.update(counts_of("llm_calls", row_of(call)))
        return WrittenShard(shard, tuple(writer.commit()), dict(counts), tuple(sorted(warnings)))


class EarlierRows:
    """What the newest manifest of a run holds in one shard: rows that a retry of other items leaves as they are."""

    def __init__(self, storage: Storage, run_id: str, shard: int) -> None:
        manifest = newest_manifest(storage, run_id)
        parts = [part for part in manifest.parts if part.shard == shard] if manifest is not None else []
        self._rows = {
            table: ItemRows(part_paths(storage, run_id, (part for part in parts if part.table == table)))
            for table in TABLES
        }
        self.video_ids = frozenset(self._rows["media"].video_ids())

    def of_item(self, video_id: str) -> Iterator[tuple[str, Row]]:
        """(table, row) of everything about one item but its call records, which are read from the log."""
        for table, rows in self._rows.items():
            if table != "llm_calls":
                for row in rows.of(video_id):
                    yield table, row

    def counts(self) -> Counter[str]:
        """The shard's share of the manifest's counts."""
        counts: Counter[str] = Counter()
        for table, rows in self._rows.items():
            for video_id in self.video_ids:
                for row in rows.of(video_id):
                    counts.update(counts_of(table, row))
        return counts


class RowMaker:
    """Makes the rows of one item, reading its results from the operation cache."""

    def __init__(self, context: RunContext, storage: Storage, calls: Mapping[str, LlmCallRow]) -> None:
        self._run_id = context.run_id
        self._prompt: Prompt = context.request.prompt
        self._storage = storage
        self._cache = OperationCache(storage)
        self._leaves = self._prompt.leaves
        self._node = parse_schema(self._prompt.json_schema)
        level = self._prompt.video_level
        self._level_leaves = level.leaves if level is not None else ()
        self._level_node = parse_schema(level.json_schema, "video_level.json_schema") if level is not None else None
        self._last_answers = _last_answers(calls.values())
        self._context = context
        settings = context.request.settings
        self._text_embedder = text_embedder_of(settings) if settings.text_embedding.enabled else None

    def of_item(self, item: ItemOutcome) -> Iterator[tuple[str, Row]]:
        """(table, row) of everything known about one item, each table in its sort order."""
        key = item.plan.analysis_key
        analysis = read_analysis(self._storage, key)[0] if key is not None else None
        yield "media", row_of(self._media_row(item, analysis))
        for segment in item.segments:
            yield from self._segment_rows(item, segment, analysis)
        yield from self._image_embedding_rows(item)
        yield from self._text_embedding_rows(item)
        yield from self._item_failures(item)
        if item.synthesis is not None and item.synthesis.outcome == "succeeded":
            yield "video_results", self._video_result_row(item, item.synthesis)

    def _media_row(self, item: ItemOutcome, analysis: MediaAnalysis | None) -> MediaRow:
        media = item.plan.item
        info = analysis.info if analysis is not None else None
        video = info.video if info is not None else None
        audio = next((t for t in info.audio if t.index == info.audio_index), None) if info is not None else None
        width, height = video.display_size if video is not None else (None, None)
        timed = analysis is not None and info is not None and info.media_type != "image"
        duration_us = analysis.duration_us if analysis is not None and timed else None
        statuses = Counter(segment.status for segment in item.segments)
        return MediaRow(
            run_id=self._run_id,
            video_id=media.video_id,
            name=media.name,
            uri=media.uri,
            other_uris=media.other_uris,
            status=item_status(item),
            media_type=info.media_type if info is not None else None,
            container=info.container if info is not None else None,
            size_bytes=info.size_bytes if info is not None else None,
            content_hash=media.content_hash,
            duration_us=duration_us,
            duration_seconds=None if duration_us is None else seconds_from_us(duration_us),
            width=width,
            height=height,
            rotation_degrees=video.rotation_degrees if video is not None else None,
            frame_rate=video.frame_rate if video is not None else None,
            video_codec=video.codec if video is not None else None,
            audio_codec=audio.codec if audio is not None else None,
            audio_track_count=len(info.audio) if info is not None else None,
            sound_detector=analysis.activity.detector if analysis is not None else None,
            heard_us=sum(s.duration_us for s in analysis.activity.spans) if analysis is not None else None,
            truncated=analysis.truncated if analysis is not None else None,
            segment_count=len(item.segments),
            succeeded_segments=statuses["succeeded"],
            failed_segments=statuses["failed"],
            cancelled_segments=statuses["cancelled"],
            warnings=(*(analysis.warnings if analysis is not None else ()), *item.warnings),
        )

    def _segment_rows(
        self, item: ItemOutcome, segment: SegmentOutcome, analysis: MediaAnalysis | None
    ) -> Iterator[tuple[str, Row]]:
        task, span = segment.task, segment.task.planned.span
        start, end = task.planned.start, task.planned.end
        outcomes = {outcome.operation: outcome for outcome in segment.outcomes}
        yield (
            "segments",
            row_of(
                SegmentRow(
                    run_id=self._run_id,
                    video_id=task.video_id,
                    segment_id=task.segment_id,
                    media_type=task.media_type,
                    segment_number=task.number,
                    start_us=span.start_us,
                    end_us=span.end_us,
                    start_time=seconds_from_us(span.start_us),
                    end_time=seconds_from_us(span.end_us),
                    start_reason=start.reason,
                    start_score=start.score,
                    end_reason=end.reason,
                    end_score=end.score,
                    status=segment.status,
                    **{
                        name: outcomes[name].outcome if name in outcomes else None
                        for name in ("field_extraction", "transcription", "image_embedding")
                    },
                )
            ),
        )
        extraction = segment.outcome_of("field_extraction")
        if extraction is not None and extraction.outcome == "succeeded":
            yield "results", self._result_row(segment, extraction)
        words = segment_words(item, task.number, self._cache)
        if words is not None:
            yield "transcripts", self._transcript_row(segment, words)
        for outcome in segment.outcomes:
            if outcome.failure is not None:
                place = (task.segment_id, span.start_us, span.end_us)
                yield "failures", self._failure_row(item, outcome, outcome.failure, place)
        if analysis is not None:
            for frame in frames_of_span(analysis.frames, span):
                if span.start_us <= frame.time_us < span.end_us or task.media_type == "image":
                    folder = analysis_folder(task.analysis_key)
                    row = FrameRow(
                        run_id=self._run_id,
                        video_id=task.video_id,
                        segment_id=task.segment_id,
                        time_us=frame.time_us,
                        time=seconds_from_us(frame.time_us),
                        file=f"{folder}/{frame.file}",
                    )
                    yield "frames", row_of(row)

    def _result_row(self, segment: SegmentOutcome, outcome: OperationOutcome) -> Row:
        task, span = segment.task, segment.task.planned.span
        kept = self._kept(outcome)
        row = ResultRow(
            run_id=self._run_id,
            video_id=task.video_id,
            segment_id=task.segment_id,
            prompt_id=self._prompt.prompt_id,
            model=kept["model"],
            media_type=task.media_type,
            start_us=span.start_us,
            end_us=span.end_us,
            start_time=seconds_from_us(span.start_us),
            end_time=seconds_from_us(span.end_us),
            metadata=canonical_json(kept["metadata"]),
            metadata_text=render_text(kept["metadata"], self._leaves),
            warning=kept["warning"],
            reused=outcome.reused,
            operation_key=outcome.key,
            llm_call_ids=tuple(kept["llm_call_ids"]),
            executed_at=kept["executed_at"],
        )
        return {**row_of(row), FIELDS: typed_fields(self._node, kept["metadata"])}

    def _transcript_row(self, segment: SegmentOutcome, words: tuple[Word, ...]) -> Row:
        task, span = segment.task, segment.task.planned.span
        outcome = segment.outcome_of("transcription")
        transcript = kept_transcript(self._cache, outcome.key if outcome is not None else None)
        assert transcript is not None
        row = TranscriptRow(
            run_id=self._run_id,
            video_id=task.video_id,
            segment_id=task.segment_id,
            model=transcript.model,
            language=transcript.language,
            start_us=span.start_us,
            end_us=span.end_us,
            text=spoken_in(words),
            words=words,
        )
        return row_of(row)

    def _image_embedding_rows(self, item: ItemOutcome) -> Iterator[tuple[str, Row]]:
        outcome = item.segments[0].outcome_of("image_embedding") if item.segments else None
        if outcome is None or outcome.outcome != "succeeded":
            return
        kept = self._kept(outcome)
        vectors = unpack_vectors(kept["vectors"])
        new = [number for number, frame in enumerate(kept["frames"]) if frame[3] is None]
        row_number = {number: at for at, number in enumerate(new)}
        starts = {part.task.segment_id: part.task.planned.span.start_us for part in item.segments}
        for number, (segment_id, time_us, file, same_as) in enumerate(kept["frames"]):
            source = number if same_as is None else same_as
            row = ImageEmbeddingRow(
                run_id=self._run_id,
                video_id=item.plan.item.video_id,
                segment_id=segment_id,
                start_us=starts[segment_id],
                time_us=time_us,
                time=seconds_from_us(time_us),
                file=f"{analysis_folder(item.plan.analysis_key or '')}/{file}",
                model=kept["model"],
                dimension=vectors.shape[1],
                same_as_us=None if same_as is None else kept["frames"][same_as][1],
            )
            yield "image_embeddings", {**row_of(row), VECTOR: vectors[row_number[source]]}

    def _text_embedding_rows(self, item: ItemOutcome) -> Iterator[tuple[str, Row]]:
        if self._text_embedder is None or item.text_embedding is None:
            return
        placed = texts_of_item(item, self._context, self._cache)
        found: dict[str, tuple[str, NDArray[np.float32]]] = {}
        for batch, key in batch_keys([part.text.text for part in placed], self._text_embedder, self._context):
            kept = self._cache.get(key)
            if kept is not None:
                vectors = unpack_vectors(kept["vectors"])
                found |= {text: (kept["model"], vectors[at]) for at, text in enumerate(batch)}
        ordered = sorted(placed, key=lambda part: (part.start_us is None, part.start_us or 0, part.text.instance))
        for part in ordered:
            model, vector = found.get(part.text.text[:MAX_TEXT_CHARS], ("", None))
            if vector is None or not vector.any():
                continue  # not embedded, or without a word that the model knows: nothing could find it
            row = TextEmbeddingRow(
                run_id=self._run_id,
                video_id=item.plan.item.video_id,
                segment_id=part.segment_id,
                start_us=part.start_us,
                field=part.text.field,
                instance=part.text.instance,
                text=part.text.text,
                model=model,
                dimension=len(vector),
            )
            yield "text_embeddings", {**row_of(row), VECTOR: vector}

    def _video_result_row(self, item: ItemOutcome, outcome: OperationOutcome) -> Row:
        kept = self._kept(outcome)
        row = VideoResultRow(
            run_id=self._run_id,
            video_id=item.plan.item.video_id,
            prompt_id=self._prompt.prompt_id,
            model=kept["model"],
            media_type=item.segments[0].task.media_type,
            metadata=canonical_json(kept["metadata"]),
            metadata_text=render_text(kept["metadata"], self._level_leaves),
            warning=kept["warning"],
            segment_count=kept["segment_count"],
            covered_segments=kept["covered_segments"],
            covered_share=kept["covered_segments"] / kept["segment_count"],
            omitted_segment_ids=tuple(kept["omitted_segment_ids"]),
            template_fields=tuple(kept["template_fields"]),
            source_fingerprint=kept["source_fingerprint"],
            rendered_prompt_chars=kept["rendered_prompt_chars"],
            reused=outcome.reused,
            operation_key=outcome.key,
            llm_call_ids=tuple(kept["llm_call_ids"]),
            executed_at=kept["executed_at"],
        )
        assert self._level_node is not None
        return {**row_of(row), FIELDS: typed_fields(self._level_node, kept["metadata"])}

    def _item_failures(self, item: ItemOutcome) -> Iterator[tuple[str, Row]]:
        if item.plan.failure is not None:
            processing = OperationOutcome("processing", "failed", "", failure=item.plan.failure)
            yield "failures", self._failure_row(item, processing, item.plan.failure, (None, None, None))
        for outcome in (item.synthesis, item.text_embedding):
            if outcome is not None and outcome.failure is not None:
                yield "failures", self._failure_row(item, outcome, outcome.failure, (None, None, None))

    def _failure_row(
        self,
        item: ItemOutcome,
        outcome: OperationOutcome,
        failure: Failure,
        place: tuple[str | None, int | None, int | None],
    ) -> Row:
        segment_id, start_us, end_us = place
        row = FailureRow(
            run_id=self._run_id,
            video_id=item.plan.item.video_id,
            segment_id=segment_id,
            name=item.plan.item.name,
            operation=outcome.operation,
            code=failure.code,
            message=failure.message,
            retryable=failure.retryable,
            attempts=outcome.attempts,
            start_us=start_us,
            end_us=end_us,
            answer=self._last_answers.get(outcome.key),
        )
        return row_of(row)

    def _kept(self, outcome: OperationOutcome) -> dict[str, Any]:
        kept = self._cache.get(outcome.key)
        if kept is None:
            raise RuntimeError(
                f"operation {outcome.key} succeeded, but its result is gone from the cache; resume the run"
            )
        return kept


def item_status(item: ItemOutcome) -> ItemStatus:
    """Completed when every operation succeeded; partial when one failed beside another that succeeded; failed when none
    succeeded; cancelled when the run was stopped before the item was done."""
    if item.plan.failure is not None:
        return "failed"
    if item.plan.cancelled:
        return "cancelled"
    of_item = [outcome for outcome in (item.synthesis, item.text_embedding) if outcome is not None]
    ended = {outcome.outcome for outcome in of_item}
    ended.update(outcome.outcome for segment in item.segments for outcome in segment.outcomes)
    if "cancelled" in ended:
        return "cancelled"
    if "succeeded" not in ended:
        return "failed"
    return "partial" if "failed" in ended else "completed"


def counts_of(table: str, row: Row) -> dict[str, int]:
    """What one row adds to the manifest's counts; names are `<table>.<what>`."""
    if table == "media":
        return {
            "media.total": 1,
            f"media.{row['status']}": 1,
            f"media.{row['media_type'] or 'unread'}.{row['status']}": 1,
        }
    if table == "segments":
        asked = ("field_extraction", "transcription", "image_embedding")
        ended = {f"{name}.{row[name]}": 1 for name in asked if row[name] is not None}
        return {"segments.total": 1, f"segments.{row['status']}": 1, **ended}
    if table in ("results", "video_results"):
        return {f"{table}.total": 1, f"{table}.reused": int(row["reused"])}
    if table == "failures":
        return {
            "failures.total": 1,
            f"failures.{row['operation']}": 1,
            f"failures.code.{row['code']}": 1,
            "failures.retryable": int(row["retryable"]),
        }
    if table == "llm_calls":
        return {
            "calls.total": 1,
            f"calls.{row['status']}": 1,
            "tokens.input": row["input_tokens"],
            "tokens.output": row["output_tokens"],
            "tokens.thought": row["thought_tokens"],
            "tokens.cached": row["cached_tokens"],
            "tokens.total": row["total_tokens"],
        }
    return {}


def _last_answers(calls: Iterable[LlmCallRow]) -> dict[str, str]:
    """The newest text that a model gave for each operation."""
    ordered = sorted((call for call in calls if call.response_text), key=lambda call: call.invoked_at)
    return {call.operation_key: call.response_text or "" for call in ordered}
