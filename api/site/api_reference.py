"""The OpenAPI description as a reference for reading: operations by tag, their parameters, bodies and responses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from promptreel.api.site.api_schema import SchemaRow, described, row_of, schema_rows

_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class ReferenceBody:
    """A body of a request or a response.

    Attributes:
        name: of its schema, or its type.
        examples: JSON text.
    """

    content_type: str
    name: str
    text: str
    rows: tuple[SchemaRow, ...]
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReferenceResponse:
    """A response that is no error. `body` is None without one."""

    status: str
    body: ReferenceBody | None


@dataclass(frozen=True, slots=True)
class ReferenceOperation:
    """One operation of the API.

    Attributes:
        anchor: its id on the page of its tag.
        errors: statuses of its errors.
    """

    anchor: str
    method: str
    path: str
    summary: str
    text: str
    needs_key: bool
    parameters: tuple[tuple[str, SchemaRow], ...]
    body: ReferenceBody | None
    responses: tuple[ReferenceResponse, ...]
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReferenceEntry:
    """An operation in the overview."""

    anchor: str
    method: str
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class ReferenceTag:
    """The operations of one tag in the overview."""

    name: str
    entries: tuple[ReferenceEntry, ...]


def reference_tags(description: Mapping[str, Any]) -> tuple[ReferenceTag, ...]:
    """Return the tags of an OpenAPI description in its order."""
    tags: dict[str, list[ReferenceEntry]] = {}
    for path, method, operation in _operations(description):
        text = " ".join(str(operation.get("description", "")).split("\n\n")[0].split())
        tags.setdefault(operation["tags"][0], []).append(
            ReferenceEntry(_anchor(method, path), method.upper(), path, text)
        )
    return tuple(ReferenceTag(name, tuple(entries)) for name, entries in tags.items())


def reference_operations(description: Mapping[str, Any], tag: str) -> tuple[ReferenceOperation, ...]:
    """Return the operations of a tag; none if the tag does not exist."""
    return tuple(
        _operation(description, path, method, operation)
        for path, method, operation in _operations(description)
        if operation["tags"][0] == tag
    )


def reference_errors(description: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return (status, meaning) of the errors that operations share."""
    found: dict[str, str] = {}
    for _, _, operation in _operations(description):
        found |= {status: body["description"] for status, body in operation["responses"].items() if status >= "400"}
    return tuple(sorted(found.items()))


def error_rows(description: Mapping[str, Any]) -> tuple[SchemaRow, ...]:
    """Return the fields of every error response."""
    schemas = description["components"]["schemas"]
    return schema_rows(schemas["ErrorResponse"], schemas)


def _operations(description: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    paths = description["paths"].items()
    return [(path, method, operation) for path, operations in paths for method, operation in operations.items()]


def _operation(
    description: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]
) -> ReferenceOperation:
    schemas = description["components"]["schemas"]
    parameters = tuple(
        (
            part["in"],
            row_of(
                part["name"],
                part["schema"],
                schemas,
                is_required=bool(part.get("required")),
                text=str(part.get("description", "")),
            ),
        )
        for part in operation.get("parameters", ())
    )
    responses = operation["responses"]
    return ReferenceOperation(
        anchor=_anchor(method, path),
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        text=" ".join(str(operation["description"]).split()),
        needs_key=bool(operation.get("security")),
        parameters=parameters,
        body=_body(operation.get("requestBody", {}), schemas),
        responses=tuple(
            ReferenceResponse(status, _body(response, schemas))
            for status, response in responses.items()
            if status < "400"
        ),
        errors=tuple(sorted(status for status in responses if status >= "400")),
    )


def _body(holder: Mapping[str, Any], schemas: Mapping[str, Any]) -> ReferenceBody | None:
    """Return the body of a request or a response; None without one."""
    for content_type, content in holder.get("content", {}).items():
        schema = content.get("schema", {})
        found = schema
        for part in (schema, *schema.get("anyOf", ())):
            if "$ref" in part:
                found = schemas.get(part["$ref"].rsplit("/", 1)[-1], {})
        row = row_of("", schema, schemas, is_required=True)
        name = found.get("title", row.kind) if "$ref" in schema else row.kind
        examples = [*schema.get("examples", ()), *found.get("examples", ())] if content_type == _JSON else []
        return ReferenceBody(
            content_type=content_type,
            name="form" if name.startswith("Body_") else name,
            text=described(str(found.get("description", "")))[0],
            rows=schema_rows(schema, schemas),
            examples=tuple(json.dumps(example, ensure_ascii=False, indent=2) for example in examples),
        )
    return None


def _anchor(method: str, path: str) -> str:
    return f"{method}-" + "-".join(part.strip("{}") for part in path.split("/")[3:])
