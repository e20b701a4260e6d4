"""Query the tables of a run's newest manifest with DuckDB. Files outside the manifest are not readable."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from promptreel.schemas.errors import InvalidInput, RunError
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.run_labels import RunLabels
from promptreel.schemas.table_rows import SORT_KEYS, TABLES
from promptreel.tables.evidence_views import FIELD_EVIDENCE
from promptreel.tables.interim import newest_readable, reading
from promptreel.tables.manifest import Manifest, newest_manifest
from promptreel.tables.part_files import find_damage, part_paths
from promptreel.tables.readable_columns import TABLES_WITH_FILES, sql_path, with_names, with_paths
from promptreel.tables.request import RunRequest, read_request
from promptreel.tables.run_views import quoted, run_view_sql, table_view_sql
from promptreel.tables.storage import Storage
from promptreel.tables.table_schemas import table_schemas


@dataclass(frozen=True)
class CommittedRun:
    """A run with a committed manifest.

    Attributes:
        evidence_fields: the top-level fields of the prompt with evidence.
    """

    run_id: str
    prompt: Prompt
    manifest: Manifest
    labels: RunLabels = field(default_factory=RunLabels)
    prompt_version: int | None = None
    evidence_fields: tuple[str, ...] = ()

    @classmethod
    def of(cls, request: RunRequest, manifest: Manifest) -> CommittedRun:
        return cls(
            request.run_id, request.prompt, manifest, request.labels, request.prompt_version, request.evidence_fields
        )


def committed_run(storage: Storage, run_id: str) -> CommittedRun:
    """Load the newest committed state of a run.

    Raises:
        RunNotFound: the run does not exist.
        RunDamaged: its request or manifest is unreadable.
        RunError: it has not committed anything yet.
    """
    request = read_request(storage, run_id)
    manifest = newest_manifest(storage, run_id)
    if manifest is None:
        raise RunError(f"run {run_id} has not committed a table yet; finish it with `promptreel run --resume {run_id}`")
    return CommittedRun.of(request, manifest)


def readable_run(storage: Storage, run_id: str) -> CommittedRun:
    """Like `committed_run`, but before a run has ended, load what is finished so far.

    Only for readers that show an unfinished run as such.

    Raises:
        RunError: nothing is finished yet.
    """
    request = read_request(storage, run_id)
    manifest = newest_readable(storage, run_id)
    return committed_run(storage, run_id) if manifest is None else CommittedRun.of(request, manifest)


def connect(storage: Storage, run: CommittedRun) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB with one view per table of a run, and `fields`, the results by leaf field.

    The connection can read the committed parts of this run and no other file. For views over several runs, see
    `promptreel.tables.analyst_views`.

    Raises:
        RunDamaged: a part is missing or truncated.
        StateExpired: the run is in progress, and a newer state has replaced this one.
    """
    with reading(run.manifest):
        paths = {
            table: [str(path) for path in part_paths(storage, run.run_id, run.manifest.parts_of(table))]
            for table in TABLES
        }
    connection = locked_connection([path for group in paths.values() for path in group])
    schemas = table_schemas(run.prompt)
    for table in TABLES:
        select = table_view_sql(table, paths[table], schemas[table])
        if table in TABLES_WITH_FILES:
            select = with_paths(select, sql_path(storage.root))
        connection.execute(f"CREATE VIEW {quoted(table)} AS {select}")
    view = run_view_sql(run.prompt, f"({with_names('results', 'media')})", run.evidence_fields, quoted(FIELD_EVIDENCE))
    connection.execute(f"CREATE VIEW {quoted(run.run_id)} AS {view}")
    connection.execute(f'CREATE VIEW "fields" AS SELECT * FROM {quoted(run.run_id)}')
    return connection


def locked_connection(paths: Sequence[str]) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB that can read only these files and whose configuration is locked."""
    connection = duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"})
    connection.execute(f"SET allowed_paths = {_sql_list(paths)}")
    connection.execute("SET temp_directory = ''")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET lock_configuration = true")
    return connection


def query(connection: duckdb.DuckDBPyConnection, sql: str, limit: int | None = None) -> pa.Table:
    """Run one SELECT and return at most `limit` rows.

    Raises:
        InvalidInput: `sql` is not exactly one SELECT, or DuckDB rejects it; the message includes DuckDB's.
    """
    try:
        return connection.sql(bounded_select(connection, sql, limit)).to_arrow_table()
    except duckdb.Error as error:
        raise InvalidInput(f"SQL: {error}") from error


def bounded_select(connection: duckdb.DuckDBPyConnection, sql: str, limit: int | None = None) -> str:
    """Wrap one SELECT in another that limits its rows. A statement that writes cannot be wrapped.

    Raises:
        InvalidInput: `sql` is not exactly one SELECT.
        duckdb.Error: it cannot be parsed.
    """
    statements = connection.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise InvalidInput("give exactly one SELECT statement")
    text = re.sub(r";\s*$", "", sql.strip())
    return f"SELECT * FROM ({text}\n) AS answer" + (f" LIMIT {limit}" if limit is not None else "")


def read_rows(
    storage: Storage, run: CommittedRun, table: str, where: str = "true", limit: int | None = None, **parameters: Any
) -> list[dict[str, Any]]:
    """Read rows of one table of one run, in the table's sort order.

    Args:
        where: a SQL condition; `$name` refers to the keyword argument of that name.
        limit: maximum number of rows; None means no limit.

    Raises:
        RunDamaged: a part is missing or truncated.
        StateExpired: the run is in progress, and a newer state has replaced this one.
    """
    with connect(storage, run) as connection:
        order = ", ".join(f'"{key}"' for key in SORT_KEYS[table])
        bound = "" if limit is None else f" LIMIT {limit}"
        statement = f'SELECT * FROM "{table}" WHERE {where} ORDER BY {order}{bound}'
        try:
            cursor = connection.execute(statement, parameters or None)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        except duckdb.Error as error:
            with reading(run.manifest):
                raise find_damage(storage, run.manifest, [table]) or error from error


def _sql_list(values: Sequence[str]) -> str:
    return "[" + ", ".join("'" + value.replace("'", "''") + "'" for value in values) + "]"
