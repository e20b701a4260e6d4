"""What a query may name, decided on DuckDB's own syntax tree of it. Pure: no connection, no file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from promptreel.schemas.errors import PicklableError

_QUERY_NODES: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_TABLE_FUNCTIONS: Final = frozenset({"unnest", "range", "generate_series", "json_each", "json_tree", "repeat"})
# These tell of the service rather than of its tables, run SQL that is made while the query runs, take the inner state of
# DuckDB as a value, or only wait.
_REFUSED_FUNCTIONS: Final = frozenset(
    """current_setting getenv getvariable write_log parse_duckdb_log_message json_serialize_plan json_deserialize_sql
    json_execute_serialized_sql to_aggregate_state finalize combine index_key nextval currval setval sleep_ms setseed
    which_secret read_text read_blob obj_description col_description shobj_description get_block_size""".split()
)
_REFUSED_PREFIXES: Final = ("pg_", "duckdb_", "pragma_", "inet_", "__internal", "parquet_", "variant_bytes", "has_")


class QueryRejected(PicklableError):
    """The query is not run; the message says why, and the fix."""


@dataclass(frozen=True)
class Named:
    """The tables of the catalog that a query names."""

    tables: frozenset[str]


def check_query(tree: Mapping[str, Any], tables: Collection[str]) -> Named:
    """Refuses a query that does more than read the given tables.

    Args:
        tree: what DuckDB's `json_serialize_sql` gives.
        tables: names that the query may read.

    Raises:
        QueryRejected: naming the part that is not allowed.
    """
    if tree.get("error"):
        raise QueryRejected(f"DuckDB cannot read this as one SELECT: {tree.get('error_message', 'no message')}")
    if len(tree["statements"]) != 1:
        raise QueryRejected("give exactly one SELECT statement")
    nodes = list(_nodes(tree))
    known = {name.lower(): name for name in tables}
    own = {name.lower() for node in nodes for name in _cte_names(node)}
    named: set[str] = set()
    for node in nodes:
        kind = node.get("type")
        if not isinstance(kind, str):
            continue
        if kind.endswith("_NODE") and kind not in _QUERY_NODES:
            raise QueryRejected(f"{kind.removesuffix('_NODE').lower()}: a query only reads; give one SELECT")
        if kind == "TABLE_FUNCTION":
            _check_table_function(node)
        elif kind == "FUNCTION":
            _check_function(_path_of(node))
        elif kind == "BASE_TABLE":
            name = _check_table(_path_of(node), known, own)
            named.update({name} if name is not None else ())
        elif kind == "SHOW_REF" and node.get("query") is None:
            raise QueryRejected(
                "SHOW: the catalog endpoint lists the tables; DESCRIBE <table> shows the columns of one"
            )
    return Named(frozenset(named))


def _check_table(path: list[str], known: Mapping[str, str], own: Collection[str]) -> str | None:
    """The table of the catalog that a path names; None where it is a name of the query's own."""
    name = path[-1].lower()
    if len(path) == 1 and name in own:
        return known.get(name)
    if name in known and [part.lower() for part in path[:-1]] in ([], ["main"]):
        return known[name]
    shown = ", ".join(sorted(known.values())[:12])
    raise QueryRejected(f"there is no table {'.'.join(path)!r} here; the catalog has {shown}")


def _check_table_function(node: Mapping[str, Any]) -> None:
    path = _path_of(node["function"])
    if len(path) != 1 or path[0].lower() not in _TABLE_FUNCTIONS:
        allowed = ", ".join(sorted(_TABLE_FUNCTIONS))
        raise QueryRejected(f"{'.'.join(path)}() is no table of this catalog; of table functions there are {allowed}")


def _check_function(path: list[str]) -> None:
    name = path[-1].lower()
    if name in _REFUSED_FUNCTIONS or name.startswith(_REFUSED_PREFIXES):
        raise QueryRejected(f"{name}() is not allowed here; read the tables of the catalog")


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
    """Every object of a JSON value, without recursion: a query may be nested as deeply as DuckDB takes it."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
