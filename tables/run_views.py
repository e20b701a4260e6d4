"""SQL views over committed parts: one per table, and one per run with the prompt's leaf fields as columns."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from promptreel.schemas.field_paths import Node, parse_schema
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.table_rows import TABLES
from promptreel.tables import layout
from promptreel.tables.evidence_views import FIELD_EVIDENCE, with_evidence_columns
from promptreel.tables.manifest import Manifest
from promptreel.tables.readable_columns import TABLES_WITH_FILES, VIDEO_NAME, with_names, with_paths
from promptreel.tables.storage import Storage
from promptreel.tables.table_schemas import FIELDS, table_schemas

RUN_VIEW_COLUMNS: Final[tuple[str, ...]] = (
    "video_id", VIDEO_NAME, "segment_id", "media_type", "start_time", "end_time",
)  # fmt: skip

_DATA_FOLDER: Final = "../.."  # as seen from a run folder

# Tables with columns added since the first release: those have a default in the record class.
_TABLES_WITH_ADDED_COLUMNS: Final = frozenset(
    name
    for name, record in TABLES.items()
    if any(part.default is not dataclasses.MISSING for part in dataclasses.fields(record))
)


def table_view_sql(table: str, files: Sequence[str], schema: pa.Schema) -> str:
    """Build a SELECT over the part files of one table; without files, it returns the same columns and no rows.

    A column that was added after a part was written is null in the rows of that part.
    """
    columns = ", ".join(f"NULL::{duckdb_type(column.type)} AS {quoted(column.name)}" for column in schema)
    empty = f"SELECT {columns} WHERE false"
    if not files:
        return empty
    listed = ", ".join(_text(file) for file in files)
    if table not in _TABLES_WITH_ADDED_COLUMNS:
        return f"SELECT * FROM read_parquet([{listed}])"
    return f"{empty} UNION ALL BY NAME SELECT * FROM read_parquet([{listed}], union_by_name = true)"


def run_view_sql(prompt: Prompt, source: str, evidence: Sequence[str] = (), evidence_source: str = "") -> str:
    """Build a SELECT with one typed column per leaf field, named by its canonical path.

    A leaf below an array of objects is a list. A name that is already in use (ignoring case, as SQL does) gets the prefix
    `metadata.`, and a number if that is in use too.

    Args:
        source: the rows of `results`, as `with_names` returns them.
        evidence: top-level fields whose evidence gets columns, from `evidence_source`.
    """
    columns = [quoted(name) for name in RUN_VIEW_COLUMNS]
    taken = {name.lower() for name in RUN_VIEW_COLUMNS}
    for path, expression in leaf_columns(prompt):
        columns.append(f"{expression} AS {quoted(_free_name(path, taken))}")
    view = f"SELECT {', '.join(columns)} FROM {source}"
    return with_evidence_columns(view, sorted(taken), evidence, evidence_source)


def views_sql(prompt: Prompt, manifest: Manifest, evidence: Sequence[str] = ()) -> str:
    """Render the views of a committed run as a script for a DuckDB that is started in the run folder."""
    schemas = table_schemas(prompt)
    lines = [
        f"-- Views over manifest {manifest.number} of {manifest.run_id}; rewritten at every commit.",
        "-- Run it in this folder: duckdb -init tables.sql",
    ]
    for table in TABLES:
        select = table_view_sql(table, [part.file for part in manifest.parts_of(table)], schemas[table])
        if table in TABLES_WITH_FILES:
            select = with_paths(select, _DATA_FOLDER)
        lines.append(f"CREATE OR REPLACE VIEW {quoted(table)} AS {select};")
    view = run_view_sql(prompt, f"({with_names('results', 'media')})", evidence, quoted(FIELD_EVIDENCE))
    lines.append(f"CREATE OR REPLACE VIEW {quoted(manifest.run_id)} AS {view};")
    lines.append(f'CREATE OR REPLACE VIEW "fields" AS SELECT * FROM {quoted(manifest.run_id)};')
    return "\n".join(lines) + "\n"


def write_views(storage: Storage, prompt: Prompt, manifest: Manifest, evidence: Sequence[str] = ()) -> None:
    """Write `tables.sql` for a committed manifest."""
    storage.write_atomic(layout.views_file(manifest.run_id), views_sql(prompt, manifest, evidence).encode())


def duckdb_type(kind: pa.DataType) -> str:
    """DuckDB type of an Arrow type; covers the types in our schemas."""
    if pa.types.is_list(kind):
        return f"{duckdb_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        keys = _distinct([part.name for part in kind])
        parts = (f"{quoted(key)} {duckdb_type(part.type)}" for key, part in zip(keys, kind, strict=True))
        return f"STRUCT({', '.join(parts)})"
    names = {
        pa.float32(): "FLOAT",
        pa.string(): "VARCHAR",
        pa.int64(): "BIGINT",
        pa.float64(): "DOUBLE",
        pa.bool_(): "BOOLEAN",
    }
    return names[kind]


def quoted(name: str) -> str:
    """Quote a SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def leaf_columns(prompt: Prompt) -> list[tuple[str, str]]:
    """(canonical path, SQL expression over `results`) of each leaf field, in the column order of the run's view."""
    root = parse_schema(prompt.json_schema)
    return _columns_below(root, quoted(FIELDS), "", 0) if root.fields else []


def _columns_below(node: Node, value: str, path: str, depth: int) -> list[tuple[str, str]]:
    """(path, SQL expression) of each leaf below a node whose SQL expression is `value`.

    Keys that differ only in case are the same name to DuckDB, so these are extracted by position.
    """
    columns: list[tuple[str, str]] = []
    uses = Counter(name.casefold() for name, _ in node.fields)
    for at, (name, child) in enumerate(node.fields, 1):
        is_unique = uses[name.casefold()] == 1
        part = f"{value}.{quoted(name)}" if is_unique else f"struct_extract_at({value}, {at})"
        columns += _columns_of(child, part, f"{path}.{name}" if path else name, depth)
    return columns


def _columns_of(node: Node, value: str, path: str, depth: int) -> list[tuple[str, str]]:
    if node.kind == "object":
        return _columns_below(node, value, path, depth)
    if node.kind == "array" and node.items is not None and _contains_objects(node.items):
        element = f"e{depth}"
        below = f"{path}[]" if node.items.kind == "object" else path
        inner = _columns_of(node.items, element, below, depth + 1)
        return [(leaf, f"list_transform({value}, lambda {element}: {expression})") for leaf, expression in inner]
    return [(path, value)]


def _contains_objects(node: Node) -> bool:
    if node.kind == "array" and node.items is not None:
        return _contains_objects(node.items)
    return node.kind == "object" and bool(node.fields)


def _distinct(names: Sequence[str]) -> list[str]:
    """Struct keys as DuckDB names them: a key that differs from an earlier one only in case gets a number."""
    found: dict[str, str] = {}
    for name in names:
        shown, number = name, 1
        while shown.lower() in found:
            shown, number = f"{name}_{number}", number + 1
        found[shown.lower()] = shown
    return list(found.values())


def _free_name(path: str, taken: set[str]) -> str:
    name, number = path, 1
    while name.lower() in taken:
        name = f"metadata.{path}" if number == 1 else f"metadata.{path}_{number}"
        number += 1
    taken.add(name.lower())
    return name


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
