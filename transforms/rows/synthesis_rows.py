"""The row of an item's synthesis."""

from __future__ import annotations

from collections.abc import Iterator

from promptreel.schemas.arrow import row_of
from promptreel.schemas.field_paths import render_text
from promptreel.schemas.key_order import ordered_json
from promptreel.schemas.table_rows import VideoResultRow
from promptreel.tables.table_schemas import FIELDS, typed_fields
from promptreel.transforms.elements import ItemOutcome
from promptreel.transforms.rows.source import Row, RowSource


def video_result_rows(item: ItemOutcome, source: RowSource) -> Iterator[Row]:
    """Yield the result of an item's synthesis if it succeeded."""
    outcome, fields, level = item.synthesis, source.item_fields, source.prompt.video_level
    if outcome is None or outcome.outcome != "succeeded":
        return
    assert fields is not None
    assert level is not None
    result = source.result_of(outcome)
    row = VideoResultRow(
        run_id=source.run_id,
        video_id=item.plan.item.video_id,
        prompt_id=source.prompt.prompt_id,
        model=result["model"],
        media_type=item.segments[0].task.media_type,
        metadata=ordered_json(result["metadata"], level.json_schema),
        metadata_text=render_text(result["metadata"], fields.leaves),
        warning=result["warning"],
        segment_count=result["segment_count"],
        covered_segments=result["covered_segments"],
        covered_share=result["covered_segments"] / result["segment_count"],
        omitted_segment_ids=tuple(result["omitted_segment_ids"]),
        template_fields=tuple(result["template_fields"]),
        source_fingerprint=result["source_fingerprint"],
        rendered_prompt_chars=result["rendered_prompt_chars"],
        reused=outcome.reused,
        operation_key=outcome.key,
        llm_call_ids=tuple(result["llm_call_ids"]),
        executed_at=result["executed_at"],
        model_version=result.get("model_version"),
        answer_repair=result.get("answer_repair"),
    )
    yield {**row_of(row), FIELDS: typed_fields(fields.node, result["metadata"])}
