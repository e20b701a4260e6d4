"""Check which tables and functions a query names, on the syntax tree from DuckDB's parser. No connection, no file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from promptreel.schemas.errors import PicklableError

_QUERY_NODES: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_TABLE_FUNCTIONS: Final = frozenset({"unnest", "range", "generate_series", "json_each", "json_tree", "repeat"})
# These expose the service instead of its tables, run SQL that is built at run time, accept DuckDB's internal state as a
# value, or only wait.
_DENIED_FUNCTIONS: Final = frozenset(
    """current_setting getenv getvariable write_log parse_duckdb_log_message json_serialize_plan json_deserialize_sql
    json_execute_serialized_sql to_aggregate_state finalize combine index_key nextval currval setval sleep_ms setseed
    which_secret read_text read_blob obj_description col_description shobj_description get_block_size""".split()
)
_DENIED_PREFIXES: Final = ("pg_", "duckdb_", "pragma_", "inet_", "__internal", "parquet_", "variant_bytes", "has_")


class QueryRejected(PicklableError):
    """A query that is not allowed. The message says why and how to fix it."""


@dataclass(frozen=True)
class QueryTables:
    """The tables of the catalog that a query names."""

    tables: frozenset[str]


def check_query(tree: Mapping[str, Any], tables: Collection[str]) -> QueryTables:
    """Check that a query only reads the given tables.

    Args:
        tree: the output of DuckDB's `json_serialize_sql`.
        tables: names of the tables that the query may read.

    Raises:
        QueryRejected: names the part that is not allowed.
    """
    if tree.get("error"):
        raise QueryRejected(f"DuckDB cannot parse the query as one SELECT: {tree.get('error_message', 'no message')}")
    if len(tree["statements"]) != 1:
        raise QueryRejected("The query must be exactly one SELECT statement.")
    nodes = list(_nodes(tree))
    known = {name.lower(): name for name in tables}
    cte_names = {name.lower() for node in nodes for name in _cte_names(node)}
    named: set[str] = set()
    for node in nodes:
        kind = node.get("type")
        if not isinstance(kind, str):
            continue
        if kind.endswith("_NODE") and kind not in _QUERY_NODES:
            raise QueryRejected(f"{kind.removesuffix('_NODE')} is not allowed; the query must be one SELECT statement.")
        if kind == "TABLE_FUNCTION":
            _check_table_function(node)
        elif kind == "FUNCTION":
            _check_function(_path_of(node))
        elif kind == "BASE_TABLE":
            name = _check_table(_path_of(node), known, cte_names)
            named.update({name} if name is not None else ())
        elif kind == "SHOW_REF" and node.get("query") is None:
            raise QueryRejected(
                "SHOW is not allowed; use the catalog endpoint to list tables, or DESCRIBE <table> to list columns."
            )
    return QueryTables(frozenset(named))


def _check_table(path: list[str], known: Mapping[str, str], cte_names: Collection[str]) -> str | None:
    """Return the table of the catalog that a path names; None if it names a common table expression."""
    name = path[-1].lower()
    if len(path) == 1 and name in cte_names:
        return known.get(name)
    if name in known and [part.lower() for part in path[:-1]] in ([], ["main"]):
        return known[name]
    shown = ", ".join(sorted(known.values())[:12])
    raise QueryRejected(f"Unknown table {'.'.join(path)!r}; the tables are {shown}.")


def _check_table_function(node: Mapping[str, Any]) -> None:
    path = _path_of(node["function"])
    if len(path) != 1 or path[0].lower() not in _TABLE_FUNCTIONS:
        allowed = ", ".join(sorted(_TABLE_FUNCTIONS))
        raise QueryRejected(f"Table function {'.'.join(path)}() is not allowed; the allowed ones are {allowed}.")


def _check_function(path: list[str]) -> None:
    name = path[-1].lower()
    if name in _DENIED_FUNCTIONS or name.startswith(_DENIED_PREFIXES):
        raise QueryRejected(f"Function {name}() is not allowed; query the tables of the catalog instead.")


def _path_of(node: Mapping[str, Any]) -> list[str]:
    named = node.get("qualified_name") or {}
    path = [str(part) for part in named.get("path", ())]
    return path or [str(node.get("table_name") or node.get("function_name") or "")]


def _cte_names(node: Mapping[str, Any]) -> Iterator[str]:
    ctes = node.get("cte_map")
    if isinstance(ctes, Mapping):
        for entry in ctes.get("map", ()):
            yield str(entry["key"])
    if node.get("type") in ("RECURSIVE_CTE_NODE", "CTE_NODE"):
        yield str(node.get("cte_name", ""))


def _nodes(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield all objects in a JSON value, iteratively: a query may be nested as deeply as DuckDB allows."""
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            yield part
            pending.extend(part.values())
        elif isinstance(part, list):
            pending.extend(part)
