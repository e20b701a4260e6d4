"""SQL over the tables of runs: the catalog, a query and its rows, a draft."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from promptreel.schemas.wire.common import RequestModel, StorableText, WireModel


class SqlScope(RequestModel):
    """Which runs are read.

    Attributes:
        run_ids: these of the runs over the indexes; absent: every finished run with tables over them.
        index_ids: these indexes instead of the one in the path.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"run_ids": ["run_20260420-100000-3f9a1c02e7"]}]})

    run_ids: list[StorableText] | None = Field(default=None, max_length=1000)
    index_ids: list[StorableText] | None = Field(default=None, max_length=100)


class ExecuteSql(SqlScope):
    """A query: exactly one SELECT in DuckDB's SQL."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "SELECT count(*) FROM segments"}]})

    query: StorableText = Field(min_length=1)
    result_limit: int | None = Field(default=None, ge=1, le=2000)


class GenerateSql(SqlScope):
    """What a query shall answer, in words; `existing_query` is changed rather than a new one written."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"instruction": "Count the segments of each item."}]})

    instruction: StorableText = Field(min_length=1, max_length=4000)
    existing_query: StorableText | None = Field(default=None, max_length=10_000)


class SqlColumn(WireModel):
    """A column of a table; `field_path` is the prompt's field that it holds, null for one that every run has."""

    name: str
    type: str
    field_path: str | None = None


class SqlTable(WireModel):
    """A table. `run_id` and `prompt_id` are null for one over all runs; a name that holds a '-' is written in quotes."""

    name: str
    run_id: str | None = None
    prompt_id: str | None = None
    row_count: int
    columns: list[SqlColumn]


class SqlLimitsBody(WireModel):
    """What a query may use."""

    default_result_limit: int
    max_result_limit: int
    timeout_seconds: float
    max_query_chars: int
    max_answer_bytes: int
    max_runs: int


class SqlExample(WireModel):
    """A query over this catalog that runs as it stands."""

    title: str
    query: str


class SqlCatalogBody(WireModel):
    """What a query may name.

    Attributes:
        run_ids: the runs that are read, newest first.
        runs_left_out: older runs beyond `limits.max_runs`; name them in `run_ids` to read them.
    """

    dialect: str = "duckdb"
    tables: list[SqlTable]
    limits: SqlLimitsBody
    examples: list[SqlExample]
    run_ids: list[str]
    runs_left_out: int


class SqlRowContext(WireModel):
    """The segment or item that a row comes from, as far as the row's own columns tell."""

    video_id: str | None = None
    segment_id: str | None = None
    run_id: str | None = None
    start_time: float | None = None
    end_time: float | None = None


class SqlResultColumn(WireModel):
    """A column of an answer, in order."""

    name: str
    type: str


class SqlRowsBody(WireModel):
    """Rows of a query.

    Attributes:
        row_context: for each row the segment or item that it comes from; null where its columns do not tell.
        truncated: there were more rows than `applied_result_limit`, or than fit into one answer.
    """

    rows: list[dict[str, Any]]
    row_context: list[SqlRowContext | None]
    columns: list[SqlResultColumn]
    truncated: bool
    applied_result_limit: int
    duration_ms: float
    run_ids: list[str]
    runs_left_out: int


class SqlDraft(WireModel):
    """A query that a model wrote. It passed the checks of a query, and was not run."""

    query: str
    model: str
