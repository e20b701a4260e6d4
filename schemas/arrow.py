"""Derive Arrow schemas and tables from frozen dataclasses: the record class defines names, types and nullability."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from promptreel.schemas.field_paths import Node

_SCALARS: dict[type, pa.DataType] = {
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bool: pa.bool_(),
}


def arrow_schema(record: type) -> pa.Schema:
    """Return the Arrow schema of a dataclass.

    The types are int64, float64, string and bool, list for a tuple, and struct for a dataclass. A field is nullable if
    its type includes None.
    """
    hints = typing.get_type_hints(record)
    return pa.schema([_arrow_field(field.name, hints[field.name]) for field in dataclasses.fields(record)])


def to_table(schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Convert rows to an Arrow table with exactly these columns; fixed-size lists (vectors, float32[d]) come last.

    Raises:
        pa.ArrowInvalid: a value does not fit its column, or a non-nullable column contains null.
    """
    records = [dict(row) for row in rows]
    vectors = [column for column in schema if pa.types.is_fixed_size_list(column.type)]
    plain = pa.schema([column for column in schema if column not in vectors])
    table = pa.Table.from_pylist(records, schema=plain)
    for column in vectors:
        flat = np.concatenate(
            [np.asarray(row[column.name], np.float32) for row in records] or [np.zeros(0, np.float32)]
        )
        values = pa.FixedSizeListArray.from_arrays(pa.array(flat, column.type.value_type), column.type.list_size)
        table = table.append_column(column, values)
    for column in schema:
        if not column.nullable and table[column.name].null_count:
            raise pa.ArrowInvalid(f"column '{column.name}' must not be null")
    return table


def row_of(record: Any) -> dict[str, Any]:
    """Convert a record to a row for `to_table`."""
    return dataclasses.asdict(record)


def arrow_type_of_node(node: Node) -> pa.DataType | None:
    """Return the Arrow type of a node of a prompt's schema: struct for an object, list for an array.

    Parquet cannot store an object without named fields; its type is None. A leaf of type "json" is stored as JSON text.
    """
    if node.kind == "object":
        types_by_name = [(name, arrow_type_of_node(child)) for name, child in node.fields]
        fields = [pa.field(name, arrow_type) for name, arrow_type in types_by_name if arrow_type is not None]
        return pa.struct(fields) if fields else None
    if node.kind == "array":
        assert node.items is not None
        items = arrow_type_of_node(node.items)
        return pa.list_(items) if items is not None else pa.string()
    return {"string": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}.get(
        node.type, pa.string()
    )


def _arrow_field(name: str, hint: Any) -> pa.Field:
    hint, nullable = _split_optional(hint)
    return pa.field(name, _arrow_type(hint), nullable=nullable)


def _split_optional(hint: Any) -> tuple[Any, bool]:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        members = [member for member in typing.get_args(hint) if member is not type(None)]
        if len(members) != 1:
            raise TypeError(f"no Arrow type for the union {hint}")
        return members[0], True
    return hint, False


def _arrow_type(hint: Any) -> pa.DataType:
    if hint in _SCALARS:
        return _SCALARS[hint]
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return pa.string()
    if origin is tuple:
        return pa.list_(_arrow_type(typing.get_args(hint)[0]))
    if dataclasses.is_dataclass(hint):
        return pa.struct(list(arrow_schema(typing.cast(type, hint))))
    raise TypeError(f"no Arrow type for {hint!r}")
