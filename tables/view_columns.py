"""Columns of the analyst views, and the leaf fields of several prompts as common columns."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb

from promptreel.schemas.prompt import Prompt
from promptreel.tables.readable_columns import with_names
from promptreel.tables.reader import CommittedRun
from promptreel.tables.run_views import RUN_VIEW_COLUMNS, leaf_columns, quoted, run_view_sql, table_view_sql
from promptreel.tables.table_schemas import table_schemas


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """One column of a view.

    Attributes:
        type: DuckDB type name.
        field_path: path of the prompt's leaf field in this column; None for other columns.
    """

    name: str
    type: str
    field_path: str | None


@dataclass(frozen=True)
class AnalystView:
    """A view over committed tables.

    Attributes:
        sql: its SELECT statement.
        run: the run that it shows; None for a view over all runs.
        row_count: number of rows according to the manifests; for a view of the newest answers, the maximum.
    """

    name: str
    sql: str
    columns: tuple[ViewColumn, ...]
    run: CommittedRun | None
    row_count: int


@dataclass(frozen=True)
class CommonFields:
    """The leaf fields of several runs as columns of one view.

    A field whose type differs between prompts is a DOUBLE if all its types are numeric, otherwise JSON text.

    Attributes:
        by_run: by run id, the column of the run's own view by its name in the common view.
        types: the DuckDB types of a field in the runs, by its name in lower case.
    """

    by_run: dict[str, dict[str, ViewColumn]]
    types: dict[str, set[str]]

    def expressions(self, run_id: str, table: str) -> list[str]:
        """The SQL of each field of one run, whose own view has the alias `table`."""
        return [
            f"{_as_common(f'{table}.{quoted(column.name)}', self.types[name.lower()])} AS {quoted(name)}"
            for name, column in self.by_run[run_id].items()
        ]

    def columns(self) -> list[ViewColumn]:
        """The columns of the common view, each once, in the order of the runs."""
        found: dict[str, ViewColumn] = {}
        for fields in self.by_run.values():
            for name, column in fields.items():
                kind = _common_type(self.types[name.lower()])
                found.setdefault(name.lower(), ViewColumn(name, kind, column.field_path))
        return list(found.values())


def common_fields(runs: Sequence[CommittedRun], taken: Sequence[str]) -> CommonFields:
    """Collect the leaf fields of the runs. A field named like one of the `taken` columns gets the prefix `metadata.`."""
    names = {name.lower() for name in taken}
    by_run: dict[str, dict[str, ViewColumn]] = {}
    types: dict[str, set[str]] = {}
    for run in runs:
        fields = {_field_name(column.name, names): column for column in run_columns(run.prompt) if column.field_path}
        by_run[run.run_id] = fields
        for name, column in fields.items():
            types.setdefault(name.lower(), set()).add(column.type)
    return CommonFields(by_run, types)


def run_columns(prompt: Prompt) -> tuple[ViewColumn, ...]:
    """The columns of the view of a run with this prompt."""
    columns_of_view = describe(run_view_sql(prompt, f"({named_part_sql('results', prompt, (), ())})"))
    segment_columns, field_columns = columns_of_view[: len(RUN_VIEW_COLUMNS)], columns_of_view[len(RUN_VIEW_COLUMNS) :]
    columns = [ViewColumn(name, kind, None) for name, kind in segment_columns]
    for (name, kind), (path, _) in zip(field_columns, leaf_columns(prompt), strict=True):
        columns.append(ViewColumn(name, kind, path))
    return tuple(columns)


def part_sql(table: str, prompt: Prompt, files: Sequence[str]) -> str:
    """Build a SELECT over the part files of one table of a run with this prompt."""
    return table_view_sql(table, files, table_schemas(prompt)[table])


def named_part_sql(table: str, prompt: Prompt, files: Sequence[str], media_files: Sequence[str]) -> str:
    """Like `part_sql`, with the name of each item, which the part files of `media` have."""
    return with_names(part_sql(table, prompt, files), part_sql("media", prompt, media_files))


@functools.lru_cache(maxsize=256)
def describe(select: str) -> tuple[tuple[str, str], ...]:
    """Names and DuckDB types of a SELECT's columns."""
    return tuple(_rows_of(f"DESCRIBE {select}"))


def _field_name(name: str, taken: set[str]) -> str:
    return f"metadata.{name}" if name.lower() in taken else name


def _common_type(types: set[str]) -> str:
    if len(types) == 1:
        return next(iter(types))
    return "DOUBLE" if types <= {"BIGINT", "DOUBLE"} else "VARCHAR"


def _as_common(value: str, types: set[str]) -> str:
    if len(types) == 1:
        return value
    if types <= {"BIGINT", "DOUBLE"}:
        return f"CAST({value} AS DOUBLE)"
    return f"CASE WHEN {value} IS NOT NULL THEN CAST(to_json({value}) AS VARCHAR) END"


def _rows_of(statement: str) -> Iterator[tuple[str, str]]:
    with duckdb.connect(":memory:", config={"threads": 1, "autoload_known_extensions": "false"}) as connection:
        for row in connection.execute(statement).fetchall():
            yield str(row[0]), str(row[1])
