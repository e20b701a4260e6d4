"""The process that runs one query: read the request from stdin, write the answer to stdout, exit.

It locks itself down in two steps: restrictions for all queries before it reports ready, and restrictions for the query (its
files and time) before DuckDB is opened. From then on the kernel only allows it to read the committed parts that the request
names.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
from collections.abc import Mapping
from typing import Any, Final

import duckdb

from promptreel.api.sql.guard import QueryRejected, check_query
from promptreel.api.sql.landlock import allow_reading_only
from promptreel.tables.json_values import json_value

READY: Final = b"R"
ANSWER_OVERHEAD_BYTES: Final = 1 << 20  # for everything except the rows: columns, tables, JSON punctuation
# DuckDB reads these when it is opened to find its processors and memory, and crashes if it is denied access.
_SYSTEM_FILES: Final = (
    "/proc/self/cgroup",
    "/proc/meminfo",
    "/proc/stat",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
)
_FETCH_ROWS: Final = 64
# Depth of a syntax tree as JSON: DuckDB allows expressions of 1,000 levels, and each takes several levels of JSON.
_MAX_RECURSION: Final = 10_000
_MEMORY_ERRORS: Final = ("out of memory", "failed to allocate", "could not allocate", "bad_alloc")
_TIME_ZONE: Final = "SET TimeZone = 'UTC'"
# One value of each type that is converted to a Python object, so that its imports happen before files are inaccessible.
_WARM_UP: Final = (
    "SELECT 1.5, 'nan'::DOUBLE, DATE '2020-01-01', TIMESTAMPTZ '2020-01-01 10:00:00+02', TIME '10:00', uuid(), 'a'::BLOB, "
    "INTERVAL 1 DAY, {'a': [1]}, map([1], ['a']), 1::HUGEINT, json_serialize_sql('SELECT 1')"
)


class _TooLarge(Exception):
    """The answer exceeds the limit."""


def main() -> None:
    """Prepare, report ready, and answer one request."""
    memory_bytes = int(sys.argv[1])
    _lock_down(memory_bytes)
    _warm_up()
    sys.setrecursionlimit(_MAX_RECURSION)
    os.write(1, READY)
    text = os.fdopen(0, "rb").read()
    if text:  # end of input without a request: the service has exited
        _write_all(json.dumps(_answer(json.loads(text)), ensure_ascii=False).encode("utf-8", "replace"))
    os._exit(0)  # do not wait for DuckDB's threads


def _write_all(content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(1, rest) :]


def _lock_down(memory_bytes: int) -> None:
    """Apply the restrictions for all queries: no file growth, no core dump, bounded memory, low priority, OOM first."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass  # not available on every system
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it by default; kill the process if it tries to write


def _warm_up() -> None:
    with duckdb.connect(":memory:", config=_config({"threads": 1, "table_bytes": 64 << 20})) as connection:
        connection.execute(_TIME_ZONE)  # reads the time zone file once; it stays cached
        connection.execute(_WARM_UP).fetchall()


def _restrict_to(request: Mapping[str, Any]) -> None:
    """Apply the restrictions for the query: its time, and the files that it may read."""
    limits, files = request["limits"], request["files"]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = min(hard, 32 + 4 * len(files))
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    seconds = int(limits["timeout_s"] * (limits["threads"] + 1)) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    signal.setitimer(signal.ITIMER_REAL, limits["timeout_s"] + 1)  # kills the process even if the service has exited
    allow_reading_only([*files, *filter(os.path.exists, _SYSTEM_FILES)])


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        _restrict_to(request)
        with _connect(request) as connection:
            return _run(connection, request)
    except QueryRejected as error:
        return _error("sql_rejected", str(error))
    except (_TooLarge, MemoryError) as error:
        return _error("sql_too_large", str(error))
    except RecursionError:
        return _error("sql_too_large", "The query is nested too deeply; flatten it.")
    except OverflowError as error:
        return _error("sql_rejected", f"A value cannot be represented in JSON ({error}); cast its column to VARCHAR.")
    except (duckdb.Error, ValueError, UnicodeError) as error:
        message = str(error)
        if isinstance(error, duckdb.OutOfMemoryException) or any(word in message.lower() for word in _MEMORY_ERRORS):
            return _error("sql_too_large", "")
        return _error("sql_rejected", message)


def _connect(request: Mapping[str, Any]) -> duckdb.DuckDBPyConnection:
    """Open DuckDB with a locked configuration that only allows reading the request's files."""
    connection = duckdb.connect(":memory:", config=_config(request["limits"]))
    listed = ", ".join("'" + path.replace("'", "''") + "'" for path in request["files"])
    connection.execute(f"SET allowed_paths = [{listed}]")
    connection.execute("SET temp_directory = ''")
    connection.execute(_TIME_ZONE)
    connection.execute("SET enable_external_access = false")
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _config(limits: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "threads": limits["threads"],
        "memory_limit": f"{limits['table_bytes'] >> 20}MiB",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
    }


def _run(connection: duckdb.DuckDBPyConnection, request: Mapping[str, Any]) -> dict[str, Any]:
    """Check the query, create the views that it names, and fetch the rows. With `check_only`, only plan it."""
    text = request["query"]
    statements = connection.extract_statements(text)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise QueryRejected(
            "The query must be exactly one SELECT statement. A PIVOT must list its values: PIVOT t ON c IN ('a', 'b')."
        )
    tree = connection.execute("SELECT json_serialize_sql(?)", [text]).fetchall()[0][0]
    views = request["views"]
    named = check_query(json.loads(tree), views)
    for name in sorted(named.tables):
        quoted = '"' + name.replace('"', '""') + '"'
        connection.execute(f"CREATE VIEW {quoted} AS {views[name]}")
    bare = re.sub(r"(;\s*)+$", "", text.strip())
    bounded = f"SELECT * FROM ({bare}\n) AS answer LIMIT {int(request['row_limit']) + 1}"
    wrapped = connection.extract_statements(bounded)
    if len(wrapped) != 1 or wrapped[0].type != duckdb.StatementType.SELECT:
        raise QueryRejected("The query must be exactly one SELECT statement.")
    if request["check_only"]:
        connection.execute(f"EXPLAIN {bounded}").fetchall()
        return {"tables": sorted(named.tables)}
    cursor = connection.execute(bounded)
    columns = [{"name": column[0], "type": str(column[1])} for column in cursor.description or ()]
    rows, truncated = _rows(cursor, [column["name"] for column in columns], request)
    return {"columns": columns, "rows": rows, "truncated": truncated, "tables": sorted(named.tables)}


def _rows(
    cursor: duckdb.DuckDBPyConnection, names: list[str], request: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], bool]:
    """Fetch rows up to the limits of rows and bytes; return (rows, whether rows were omitted)."""
    limit, remaining = request["row_limit"], request["limits"]["max_answer_bytes"]
    rows: list[dict[str, Any]] = []
    while batch := cursor.fetchmany(_FETCH_ROWS):
        for values in batch:
            row = {name: json_value(value) for name, value in zip(names, values, strict=True)}
            remaining -= len(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace")) + 1
            if remaining < 0 and not rows:
                raise _TooLarge("One row exceeds the size limit of a response; select fewer or shorter columns.")
            if remaining < 0 or len(rows) == limit:
                return rows, True
            rows.append(row)
    return rows, False


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message[:2000]}}


if __name__ == "__main__":
    main()
