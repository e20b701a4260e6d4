"""SQL over the tables of runs: the catalog, queries and their rows, and generated queries."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from promptreel.schemas.wire.common import RequestModel, StorableText, WireModel


class SqlScope(RequestModel):
    """The runs to query.

    Attributes:
        run_ids: runs over the indexes; default: all finished runs with tables.
        index_ids: indexes to query instead of the one in the path.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"run_ids": ["run_20260420-100000-3f9a1c02e7"]}]})

    run_ids: list[StorableText] | None = Field(default=None, max_length=1000)
    index_ids: list[StorableText] | None = Field(default=None, max_length=100)


class ExecuteSql(SqlScope):
    """A query: exactly one SELECT statement in DuckDB's SQL dialect."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "SELECT count(*) FROM segments"}]})

    query: StorableText = Field(min_length=1)
    result_limit: int | None = Field(default=None, ge=1, le=2000)


class GenerateSql(SqlScope):
    """A description of the query to generate; with `existing_query`, that query is changed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"instruction": "Count the segments of each item."}]})

    instruction: StorableText = Field(min_length=1, max_length=4000)
    existing_query: StorableText | None = Field(default=None, max_length=10_000)


class SqlColumn(WireModel):
    """A column of a table. `field_path` is the prompt field in the column; null for other columns."""

    name: str
    type: str
    field_path: str | None = None


class SqlTable(WireModel):
    """A table. `run_id` and `prompt_id` are null for a table of all runs. A name that contains '-' must be quoted."""

    name: str
    run_id: str | None = None
    prompt_id: str | None = None
    row_count: int
    columns: list[SqlColumn]


class SqlLimitsBody(WireModel):
    """Limits of a query."""

    default_result_limit: int
    max_result_limit: int
    timeout_seconds: float
    max_query_chars: int
    max_answer_bytes: int
    max_runs: int


class SqlExample(WireModel):
    """An example query that can be run on this catalog."""

    title: str
    query: str


class SqlCatalogBody(WireModel):
    """The tables that a query can use.

    Attributes:
        run_ids: the runs in the tables, newest first.
        runs_left_out: number of older runs beyond `limits.max_runs`; select them with `run_ids`.
        runs_in_progress: those of `run_ids` whose tables contain only what is finished so far.
    """

    dialect: str = "duckdb"
    tables: list[SqlTable]
    limits: SqlLimitsBody
    examples: list[SqlExample]
    run_ids: list[str]
    runs_left_out: int
    runs_in_progress: list[str] = []


class SqlRowContext(WireModel):
    """The segment or item of a row, derived from the row's columns."""

    video_id: str | None = None
    segment_id: str | None = None
    run_id: str | None = None
    start_time: float | None = None
    end_time: float | None = None


class SqlResultColumn(WireModel):
    """A column of the result."""

    name: str
    type: str


class SqlRowsBody(WireModel):
    """The result of a query.

    Attributes:
        row_context: the segment or item of each row; null if the columns do not identify it.
        truncated: more rows than `applied_result_limit`, or than the maximum response size allows.
    """

    rows: list[dict[str, Any]]
    row_context: list[SqlRowContext | None]
    columns: list[SqlResultColumn]
    truncated: bool
    applied_result_limit: int
    duration_ms: float
    run_ids: list[str]
    runs_left_out: int
    runs_in_progress: list[str] = []


class SqlDraft(WireModel):
    """A query written by a model. It has been checked, but not executed."""

    query: str
    model: str
