"""All rows of one item."""

from __future__ import annotations

from collections.abc import Iterator

from promptreel.schemas.arrow import row_of
from promptreel.transforms.elements import ItemOutcome
from promptreel.transforms.rows.embedding_rows import image_embedding_rows, text_embedding_rows
from promptreel.transforms.rows.evidence_rows import evidence_rows
from promptreel.transforms.rows.failure_rows import item_failure_rows, segment_failure_rows
from promptreel.transforms.rows.media_row import media_row
from promptreel.transforms.rows.segment_rows import frame_rows, result_rows, segment_row
from promptreel.transforms.rows.source import Row, RowSource
from promptreel.transforms.rows.synthesis_rows import video_result_rows
from promptreel.transforms.rows.transcript_rows import transcript_rows, utterance_rows
from promptreel.transforms.segment_media import read_analysis


def item_rows(item: ItemOutcome, source: RowSource) -> Iterator[tuple[str, Row]]:
    """Yield (table, row) of one item in every table except `llm_calls`, each table in its sort order."""
    key = item.plan.analysis_key
    analysis = read_analysis(source.storage, key)[0] if key is not None else None
    yield "media", row_of(media_row(item, analysis, source.run_id, has_video_level=source.item_fields is not None))
    covered_until_us = 0
    frames: list[Row] = []
    for segment in item.segments:
        yield "segments", row_of(segment_row(segment, source.run_id, item.warnings, covered_until_us))
        covered_until_us = max(covered_until_us, segment.task.planned.span.end_us)
        for row in result_rows(segment, source):
            yield "results", row
        for row in evidence_rows(segment, source, analysis):
            yield "field_evidence", row
        for row in transcript_rows(segment, source):
            yield "transcripts", row
        for row in utterance_rows(segment, source):
            yield "utterances", row
        for row in segment_failure_rows(item, segment, source):
            yield "failures", row
        if analysis is not None:
            frames += frame_rows(segment, analysis, source.run_id)
    for row in sorted(frames, key=lambda frame: frame["time_us"]):  # segments may overlap
        yield "frames", row
    for row in image_embedding_rows(item, source):
        yield "image_embeddings", row
    for row in text_embedding_rows(item, source):
        yield "text_embeddings", row
    for row in item_failure_rows(item, source):
        yield "failures", row
    for row in video_result_rows(item, source):
        yield "video_results", row
