"""The evidence of a run's answers, as JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from promptreel.api.db.models import RunRecord
from promptreel.api.runs.run_tables import Row, RunTables
from promptreel.schemas.evidence import EvidenceSettings, evidence_fields
from promptreel.tables.evidence_views import FIELD_EVIDENCE


def requested_fields(run: RunRecord) -> tuple[str, ...]:
    """Return the top-level fields for which a run requests evidence."""
    stored = run.settings.get("evidence")
    settings = None if stored is None else EvidenceSettings(tuple(stored["fields"]))
    return evidence_fields(run.prompt["json_schema"], settings)


def evidence_rows_of(tables: RunTables, video_id: str, span: tuple[int, int]) -> Mapping[str, Sequence[Row]]:
    """Return the evidence of an item's segments that start in a span of microseconds, by segment id."""
    found: dict[str, list[Row]] = {}
    for row in tables.rows(FIELD_EVIDENCE, video_id, *span):
        found.setdefault(row["segment_id"], []).append(row)
    return found


def evidence_bodies(run: RunRecord, rows: Sequence[Row]) -> dict[str, Any] | None:
    """Render the evidence of one segment as the `FieldEvidence` of the API, by field; None if the run requests none."""
    if run.settings.get("evidence") is None:
        return None
    return {row["field"]: _body(row) for row in rows}


def _body(row: Row) -> dict[str, Any]:
    return {
        "start_time": row["evidence_start_time"],
        "end_time": row["evidence_end_time"],
        "frame_time": row["frame_time"],
        "quote": row["quote"],
        "quote_source": row["quote_source"],
        "quote_score": row["quote_score"],
        "verdict": row["verdict"],
    }
