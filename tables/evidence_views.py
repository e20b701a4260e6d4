"""Columns for the evidence of each field in the view of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from promptreel.schemas.arrow import arrow_schema
from promptreel.schemas.table_rows import TABLES

FIELD_EVIDENCE: Final = "field_evidence"
# The suffix of a column of the view, and the column of the table that it shows.
_PARTS: Final = (
    ("start_time", "evidence_start_time"),
    ("end_time", "evidence_end_time"),
    ("frame_time", "frame_time"),
    ("quote", "quote"),
    ("verdict", "verdict"),
)


def with_evidence_columns(view: str, taken: Sequence[str], fields: Sequence[str], source: str) -> str:
    """Return the SELECT of a run's view with five columns for each field with evidence; unchanged without any.

    Args:
        view: a SELECT with the column `segment_id`.
        taken: the names of its columns.
        source: SQL of the table `field_evidence` of the run.
    """
    if not fields:
        return view
    columns = ", ".join(
        f"any_value({column}) FILTER (WHERE field = {_text(field)}) AS {_quoted(name)}"
        for field, column, name in _columns(taken, fields)
    )
    names = ", ".join(f"e.{_quoted(name)}" for _, _, name in _columns(taken, fields))
    return (
        f"SELECT v.*, {names} FROM ({view}) AS v LEFT JOIN (SELECT segment_id, {columns} FROM {source} "
        "GROUP BY segment_id) AS e ON e.segment_id = v.segment_id"
    )


def evidence_columns(taken: Sequence[str], fields: Sequence[str]) -> list[tuple[str, str]]:
    """Return (name, DuckDB type) of the columns that `with_evidence_columns` adds."""
    schema = arrow_schema(TABLES[FIELD_EVIDENCE])
    return [
        (name, "VARCHAR" if str(schema.field(column).type) == "string" else "DOUBLE")
        for _, column, name in _columns(taken, fields)
    ]


def _columns(taken: Sequence[str], fields: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (field, column of the table, name in the view). SQL ignores case, so a name in use gets a number."""
    used = {name.lower() for name in taken}
    for field in fields:
        for suffix, column in _PARTS:
            name, number = f"{field}_evidence_{suffix}", 2
            while name.lower() in used:
                name, number = f"{field}_evidence_{suffix}_{number}", number + 1
            used.add(name.lower())
            yield field, column, name


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
