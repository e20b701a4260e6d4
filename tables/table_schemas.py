"""Arrow schemas of a run's tables: the columns of each record, plus for results a struct typed by the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from promptreel.schemas.arrow import arrow_schema, arrow_type_of_node
from promptreel.schemas.field_paths import Node, parse_schema
from promptreel.schemas.ids import canonical_json
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.table_rows import TABLES

FIELDS = "fields"
VECTOR = "vector"
VECTOR_TABLES = ("image_embeddings", "text_embeddings")


def table_schemas(prompt: Prompt) -> dict[str, pa.Schema]:
    """Arrow schema of each table, by name."""
    schemas = {table: arrow_schema(record) for table, record in TABLES.items()}
    schemas["results"] = _with_fields(schemas["results"], parse_schema(prompt.json_schema))
    if prompt.video_level is not None:
        node = parse_schema(prompt.video_level.json_schema, "video_level.json_schema")
        schemas["video_results"] = _with_fields(schemas["video_results"], node)
    for table in VECTOR_TABLES:
        schemas[table] = schemas[table].append(pa.field(VECTOR, pa.list_(pa.float32()), nullable=False))
    return schemas


def with_dimension(schema: pa.Schema, dimension: int) -> pa.Schema:
    """Return the schema with its vectors as fixed-size lists: float32[dimension]."""
    if VECTOR not in schema.names:
        return schema
    at = schema.get_field_index(VECTOR)
    return schema.set(at, pa.field(VECTOR, pa.list_(pa.float32(), dimension), nullable=False))


def typed_fields(node: Node, value: Any) -> Any:
    """Convert an answer to the value of its `fields` struct.

    Leaves without an Arrow type become JSON text, keys that are not in the schema are dropped, and values that do not fit
    their type (e.g. an integer beyond 64 bits) become null.
    """
    if value is None:
        return None
    if node.kind == "object":
        if not isinstance(value, Mapping):
            return None
        return {name: typed_fields(child, value.get(name)) for name, child in node.fields}
    if node.kind == "array":
        assert node.items is not None
        if arrow_type_of_node(node.items) is None:
            return canonical_json(value)
        return [typed_fields(node.items, part) for part in value] if isinstance(value, list) else None
    return _typed_leaf(node.type, value)


def _typed_leaf(kind: str, value: Any) -> Any:
    if kind == "string":
        return value if isinstance(value, str) else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if kind in ("integer", "number"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if kind == "number":
            return float(value)
        integer = int(value) if float(value).is_integer() else None
        return integer if integer is not None and -(2**63) <= integer < 2**63 else None
    return canonical_json(value)


def _with_fields(schema: pa.Schema, node: Node) -> pa.Schema:
    kind = arrow_type_of_node(node)
    return schema if kind is None else schema.append(pa.field(FIELDS, kind))
