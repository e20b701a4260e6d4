"""The segments of an item as cards: the picture, the fields, the words, and what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from promptreel.pages.answers import ShownAnswer, shorten, shown_answer
from promptreel.pages.run_tables import CommittedTables

MAX_TRANSCRIPT_CHARS: Final = 600
_MAX_NOTE_CHARS: Final = 300
_MAX_NOTES: Final = 20
_MAX_EVIDENCE: Final = 20

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ShownFailure:
    """What failed in an item or a segment."""

    operation: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ShownEvidence:
    """Where the model saw or heard the value of a field, and what the check of it says; times in microseconds."""

    field: str
    verdict: str
    start_us: int | None
    end_us: int | None
    quote: str | None


@dataclass(frozen=True, slots=True)
class SegmentCard:
    """One segment as a page shows it; times are in microseconds.

    Attributes:
        frame: path of the sampled frame closest to its middle, relative to the data folder; None without one.
        notes: warnings of the segment and its answer, and where a reused answer comes from.
    """

    number: int
    media_type: str
    start_us: int
    end_us: int
    start_reason: str
    end_reason: str
    status: str
    label: str | None
    frame: str | None
    answer: ShownAnswer | None
    transcript: str | None
    language: str | None
    notes: tuple[str, ...]
    failures: tuple[ShownFailure, ...]
    evidence: tuple[ShownEvidence, ...]


def segment_rows(
    tables: CommittedTables, video_ids: Sequence[str], limit: int | None = None, offset: int = 0
) -> list[Row]:
    """Return rows of `segments` of some items, by item and time."""
    bound = "" if limit is None else f" LIMIT {limit} OFFSET {offset}"
    sql = f"""
        SELECT video_id, segment_id, segment_number, media_type, start_us, end_us, start_reason, end_reason, status,
            segment_label, warnings, answered_by_segment_id
        FROM segments WHERE list_contains($ids, video_id) ORDER BY video_id, start_us, segment_id{bound}"""
    return tables.without_run_warnings(tables.rows(sql, ["segments"], ids=list(video_ids)))


def segment_cards(tables: CommittedTables, segments: Sequence[Row]) -> list[SegmentCard]:
    """Build the cards of rows of `segments`, in the same order.

    Raises:
        RunDamaged: a part of a table is missing or truncated.
        StateExpired: the run is in progress, and a newer state has replaced this one.
    """
    if not segments:
        return []
    scope = {
        "ids": sorted({row["video_id"] for row in segments}),
        "wanted": [row["segment_id"] for row in segments],
    }
    results = _by_segment(tables, "results", "metadata, warning, reused, answer_repair", scope)
    texts = _by_segment(tables, "transcripts", f"substr(text, 1, {MAX_TRANSCRIPT_CHARS + 1}) AS text, language", scope)
    failures = _by_segment(tables, "failures", "operation, code, message", scope)
    evidence = _by_segment(tables, "field_evidence", "field, verdict, evidence_start_us, evidence_end_us, quote", scope)
    frames = _middle_frames(tables, scope)
    return [
        segment_card(
            row,
            next(iter(results.get(row["segment_id"], ())), None),
            next(iter(texts.get(row["segment_id"], ())), None),
            failures.get(row["segment_id"], ()),
            evidence.get(row["segment_id"], ()),
            frames.get(row["segment_id"]),
        )
        for row in segments
    ]


def shown_failures(rows: Sequence[Row]) -> tuple[ShownFailure, ...]:
    """Return failures with bounded messages."""
    return tuple(
        ShownFailure(row["operation"], row["code"], shorten(row["message"], _MAX_NOTE_CHARS))
        for row in rows[:_MAX_NOTES]
    )


def shown_notes(notes: Sequence[str]) -> tuple[str, ...]:
    """Return warnings, bounded in number and length."""
    return tuple(shorten(note, _MAX_NOTE_CHARS) for note in notes[:_MAX_NOTES])


def segment_card(
    row: Row, result: Row | None, text: Row | None, failures: Sequence[Row], evidence: Sequence[Row], frame: str | None
) -> SegmentCard:
    """Build the card of a row of `segments` from the rows of other tables about it.

    Args:
        frame: what names its picture, e.g. a path.
    """
    return SegmentCard(
        number=row["segment_number"],
        media_type=row["media_type"],
        start_us=row["start_us"],
        end_us=row["end_us"],
        start_reason=row["start_reason"],
        end_reason=row["end_reason"],
        status=row["status"],
        label=row["segment_label"] and shorten(row["segment_label"], _MAX_NOTE_CHARS),
        frame=frame,
        answer=None if result is None else shown_answer(result["metadata"]),
        transcript=None if text is None else shorten(text["text"], MAX_TRANSCRIPT_CHARS),
        language=None if text is None else text["language"],
        notes=shown_notes(_notes(row, result)),
        failures=shown_failures(failures),
        evidence=tuple(
            ShownEvidence(
                one["field"],
                one["verdict"],
                one["evidence_start_us"],
                one["evidence_end_us"],
                one["quote"] and shorten(one["quote"], _MAX_NOTE_CHARS),
            )
            for one in evidence[:_MAX_EVIDENCE]
        ),
    )


def _notes(row: Row, result: Row | None) -> list[str]:
    notes = list(row["warnings"])
    if row["answered_by_segment_id"]:
        notes.append("the answer is that of a near-duplicate segment")
    if result is not None:
        notes += [result["warning"]] if result["warning"] else []
        notes += ["reused from an earlier run"] if result["reused"] else []
        notes += [f"repaired answer: {result['answer_repair']}"] if result["answer_repair"] else []
    return notes


def _by_segment(tables: CommittedTables, table: str, columns: str, scope: Mapping[str, Any]) -> dict[str, list[Row]]:
    sql = f"""
        SELECT segment_id, {columns} FROM {table}
        WHERE list_contains($ids, video_id) AND list_contains($wanted, segment_id) ORDER BY ALL"""
    found: dict[str, list[Row]] = {}
    for row in tables.rows(sql, [table], **scope):
        found.setdefault(row["segment_id"], []).append(row)
    return found


def _middle_frames(tables: CommittedTables, scope: Mapping[str, Any]) -> dict[str, str]:
    sql = """
        SELECT f.segment_id, arg_min(f.file, abs(2 * f.time_us - s.start_us - s.end_us)) AS file
        FROM frames AS f JOIN segments AS s ON s.segment_id = f.segment_id
        WHERE list_contains($ids, f.video_id) AND list_contains($ids, s.video_id)
            AND list_contains($wanted, f.segment_id)
        GROUP BY f.segment_id"""
    return {row["segment_id"]: row["file"] for row in tables.rows(sql, ["frames", "segments"], **scope)}
