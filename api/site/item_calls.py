"""The model calls of an item as a page shows them: what was sent, what came back, and what it cost."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from promptreel.api.runs.run_tables import RunTables
from promptreel.api.site.item_view import ItemQuery
from promptreel.pages.answers import shorten, shorten_to_bytes
from promptreel.pages.moments import shown_moment
from promptreel.schemas.money import format_amount

CALLS_PER_PAGE: Final = 10
_MAX_FACT_CHARS: Final = 200
_MAX_TEXT_BYTES: Final = 10_000  # of four texts of each call, so that a page has at most 400 kB of them


@dataclass(frozen=True, slots=True)
class ShownCall:
    """A call of a model.

    Attributes:
        sent: (name, text) of the parts of the request.
        facts: (name, value) of what is known about the call.
    """

    call_id: str
    purpose: str
    status: str
    error: str | None
    facts: tuple[tuple[str, str], ...]
    sent: tuple[tuple[str, str], ...]
    response: str | None


@dataclass(frozen=True, slots=True)
class CallPage:
    """One page of the calls of an item or a segment."""

    query: ItemQuery
    segment_id: str | None
    calls: tuple[ShownCall, ...]
    total: int
    pages: int

    @property
    def number(self) -> int:
        return self.query.number

    def url(self, **changes: Any) -> str:
        """Return the URL of another page of these calls."""
        values = {"segment_id": self.segment_id, "page": changes.get("number", self.number)}
        kept = {name: value for name, value in values.items() if value not in (None, 1)}
        return f"{self.query.path}/calls" + (f"?{urlencode(kept)}" if kept else "")


def item_calls(tables: RunTables, query: ItemQuery, segment_id: str | None) -> CallPage:
    """Return one page of the calls of an item in order of time, or of those for one segment.

    A segment that is a near-duplicate has the calls of the segment that it shares its answer with.
    """
    wanted = None if segment_id is None else {segment_id}
    if wanted is not None:
        wanted |= {
            row["answered_by_segment_id"]
            for row in tables.rows("segments", query.video_id)
            if row["segment_id"] == segment_id and row.get("answered_by_segment_id")
        }
    rows = [row for row in tables.rows("llm_calls", query.video_id) if wanted is None or row["segment_id"] in wanted]
    rows.sort(key=lambda row: (row["invoked_at"], row["llm_call_id"]))
    first = (query.number - 1) * CALLS_PER_PAGE
    shown = tuple(_shown(row) for row in rows[first : first + CALLS_PER_PAGE])
    return CallPage(query, segment_id, shown, len(rows), max(1, -(-len(rows) // CALLS_PER_PAGE)))


def _shown(row: dict[str, Any]) -> ShownCall:
    tokens = f"{row['input_tokens']:,} in, {row['output_tokens'] + row['thought_tokens']:,} out"
    version = row.get("model_version")
    facts = [
        ("model", row["model"] if version in (None, row["model"]) else f"{row['model']} ({version})"),
        ("tokens", tokens + (f", {row['cached_tokens']:,} of them cached" if row["cached_tokens"] else "")),
        ("cost", "unknown" if row.get("cost") is None else format_amount(row["cost"], row["currency"])),
        ("time", f"{row['duration_ms'] / 1000:.2f} s"),
        ("sent", shown_moment(row["invoked_at"])),
        ("attempt", str(row["attempt"])),
    ]
    optional = (
        ("finish reason", "finish_reason"),
        ("tier", "tier"),
        ("repair", "answer_repair"),
        ("form", "request_form"),
    )
    facts += [(name, str(row[column])) for name, column in optional if row.get(column)]
    sent = [
        (name, shorten_to_bytes(text, _MAX_TEXT_BYTES))
        for name, text in (
            ("Instruction", row.get("instruction")),
            ("JSON schema", _indented(row.get("json_schema"))),
            ("Request", _indented(row["request"])),
        )
        if text
    ]
    response = row["response_text"]
    return ShownCall(
        call_id=row["llm_call_id"],
        purpose=row["purpose"].replace("_", " "),
        status=row["status"],
        error=None if row["code"] is None else f"{row['code']}: {row['message'] or ''}",
        facts=tuple((name, shorten(value, _MAX_FACT_CHARS)) for name, value in facts),
        sent=tuple(sent),
        response=None if response is None else shorten_to_bytes(_indented(response) or "", _MAX_TEXT_BYTES),
    )


def _indented(text: str | None) -> str | None:
    """Return JSON text with indentation; other text as it is."""
    try:
        return None if text is None else json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return text
