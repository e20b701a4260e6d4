"""SQL views over committed parts: one per table, and one per run with the prompt's leaf fields as columns."""

from __future__ import annotations

import dataclasses
import shlex
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

_DATA_FOLDER: Final = "/../.."  # as seen from a run folder

# Tables with columns added since the first release: those have a default in the record class.
_TABLES_WITH_ADDED_COLUMNS: Final = frozenset(
    name
    for name, record in TABLES.items()
    if any(part.default is not dataclasses.MISSING for part in dataclasses.fields(record))
)


def table_view_sql(table: str, files: Sequence[str], schema: pa.Schema, variable: str | None = None) -> str:
    """Build a SELECT over the part files of one table; without files, it returns the same columns and no rows.

    A column that was added after a part was written is null in the rows of that part.

    Args:
        variable: the files are relative to the folder in this variable of DuckDB.
    """
    columns = ", ".join(f"NULL::{duckdb_type(column.type)} AS {quoted(column.name)}" for column in schema)
    empty = f"SELECT {columns} WHERE false"
    if not files:
        return empty
    listed = f"[{', '.join(_text(file) for file in files)}]"
    if variable is not None:
        listed = f"list_transform({listed}, lambda file: getvariable({_text(variable)}) || '/' || file)"
    if table not in _TABLES_WITH_ADDED_COLUMNS:
        return f"SELECT * FROM read_parquet({listed})"
    return f"{empty} UNION ALL BY NAME SELECT * FROM read_parquet({listed}, union_by_name = true)"


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


def views_sql(prompt: Prompt, manifest: Manifest, folder: str, evidence: Sequence[str] = ()) -> str:
    """Render the views of a committed run as a script for any DuckDB, started in any folder.

    The folder of the run is a variable of DuckDB, named by the run's id, so that the script also works after a move: the
    value that the user has set, otherwise the working directory if it is this run's folder, otherwise `folder`.

    Args:
        folder: the folder of the run at the commit, as an absolute path or a URL.
    """
    run_id, schemas = manifest.run_id, table_schemas(prompt)
    selects = {
        table: table_view_sql(table, [part.file for part in manifest.parts_of(table)], schemas[table], run_id)
        for table in TABLES
    }
    named = with_names(selects["results"], selects["media"])
    data_folder = f"getvariable({_text(run_id)}) || {_text(_DATA_FOLDER)}"
    selects |= {table: with_paths(selects[table], data_folder) for table in TABLES_WITH_FILES}
    lines = _header(manifest, folder)
    lines += [f"CREATE OR REPLACE VIEW {quoted(table)} AS {select};" for table, select in selects.items()]
    # Not over the views above: the script of another run in the same session replaces those.
    view = run_view_sql(prompt, f"({named})", evidence, f"({selects[FIELD_EVIDENCE]})")
    lines.append(f"CREATE OR REPLACE VIEW {quoted(run_id)} AS {view};")
    lines.append(f'CREATE OR REPLACE VIEW "fields" AS SELECT * FROM {quoted(run_id)};')
    return "\n".join(lines) + "\n"


def _header(manifest: Manifest, folder: str) -> list[str]:
    """Comments on how to load the script, and the statement that sets the variable."""
    run_id = manifest.run_id
    known = next((f"WHEN EXISTS (FROM glob({_text(part.file)})) THEN '.' " for part in manifest.parts), None)
    default = f"CASE {known}ELSE {_text(folder)} END" if known else _text(folder)
    # A line break in a path would end the comment, and the rest would be a statement.
    shown = " ".join(folder.split())
    return [
        f"-- Views over manifest {manifest.number} of {run_id}; rewritten at every commit. They name exactly its files.",
        f"-- From any folder: duckdb -init {shlex.quote(f'{shown}/tables.sql')}",
        "-- If the folder was moved, start DuckDB in it, or set its new path before you load this file:",
        f"--   SET VARIABLE {quoted(run_id)} = '/new/path/{run_id}';",
        f"SET VARIABLE {quoted(run_id)} = coalesce(getvariable({_text(run_id)}), {default});",
    ]


def write_views(storage: Storage, prompt: Prompt, manifest: Manifest, evidence: Sequence[str] = ()) -> None:
    """Write `tables.sql` for a committed manifest, unless it is already that."""
    folder = f"{storage.root}/{layout.run_folder(manifest.run_id)}"
    script = views_sql(prompt, manifest, folder, evidence).encode()
    name = layout.views_file(manifest.run_id)
    if not storage.exists(name) or storage.read_bytes(name) != script:
        storage.write_atomic(name, script)


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
