"""The top-level fields of a prompt's schema, each on its own: compare their definitions, and request only some of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from promptreel.providers.key_material import schema_material
from promptreel.schemas.errors import PromptError
from promptreel.schemas.ids import digest
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.references import look_up
from promptreel.schemas.subschemas import DEFINITIONS, map_subschemas, named_subschemas

# Keywords that a schema can have at its root if each field is answered independently of the others.
_PLAIN: Final = {"type", "properties", "required", "additionalProperties", "$schema", "$id", *DEFINITIONS}


def field_definitions(json_schema: Mapping[str, Any]) -> dict[str, str] | None:
    """Return a hash of the definition of each top-level field, in schema order.

    Equal hashes mean that the same values are valid: the definitions that a field refers to are included, annotations such
    as descriptions are not, and neither is whether the field is required.

    Returns:
        None if the fields depend on each other: the root has a condition or a union, allows further fields, or has
        references to other parts than definitions.
    """
    material = schema_material(json_schema)
    is_plain = _PLAIN.issuperset(material) and material.get("type") == "object"
    if not is_plain or material.get("additionalProperties", False) is not False:
        return None
    properties = material.get("properties") or {}
    if not properties or any(_definition_of(reference) is None for reference in _references(material)):
        return None
    try:
        return {name: digest(_without_references(part, material)) for name, part in properties.items()}
    except PromptError:  # a reference does not exist
        return None


def schema_of_fields(json_schema: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return the schema with only these top-level fields and the definitions that they refer to.

    Args:
        json_schema: a schema for which `field_definitions` returns a result.
    """
    properties = {name: part for name, part in json_schema["properties"].items() if name in names}
    needed = _needed_definitions(properties, json_schema)
    reduced: dict[str, Any] = {}
    for keyword, value in json_schema.items():
        if keyword == "properties":
            reduced[keyword] = properties
        elif keyword == "required":
            reduced[keyword] = [name for name in value if name in names]
        elif keyword in DEFINITIONS:
            used = {name: part for name, part in value.items() if (keyword, name) in needed}
            reduced |= {keyword: used} if used else {}
        elif keyword != "examples":  # of answers with all fields
            reduced[keyword] = value
    return reduced


def prompt_of_fields(prompt: Prompt, names: Collection[str]) -> Prompt:
    """Return the prompt that requests only some of a prompt's fields for each segment."""
    return Prompt(prompt.name, prompt.prompt_text, schema_of_fields(prompt.json_schema, names))


def _needed_definitions(properties: Mapping[str, Any], root: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return (keyword, name) of the definitions that properties refer to, directly or through other definitions."""
    needed: set[tuple[str, str]] = set()
    pending: list[Any] = list(properties.values())
    while pending:
        for reference in _references(pending.pop()):
            found = _definition_of(reference)
            if found is not None and found not in needed:
                needed.add(found)
                pending.append(root[found[0]][found[1]])
    return needed


def _definition_of(reference: Any) -> tuple[str, str] | None:
    """Return the root keyword and the name of the definition that a reference points into; None for other references."""
    steps = reference.split("/") if isinstance(reference, str) else []
    if len(steps) < 3 or steps[0] != "#" or steps[1] not in DEFINITIONS or "%" in steps[2]:
        return None
    return steps[1], steps[2].replace("~1", "/").replace("~0", "~")


def _references(schema: Any) -> Iterator[Any]:
    """Yield every `$ref` in a schema."""
    pending = [schema]
    while pending:
        part = pending.pop()
        if isinstance(part, Mapping):
            if "$ref" in part:
                yield part["$ref"]
            pending.extend(below for _, _, below in named_subschemas(part))


def _without_references(schema: Any, root: Mapping[str, Any]) -> Any:
    """Replace each `$ref` in a schema by a hash of its target, so that equal values mean equal definitions."""
    hashes: dict[str, str] = {}

    def inlined(part: Any) -> Any:
        if not isinstance(part, Mapping):
            return part
        changed = map_subschemas(part, lambda keyword, step, below: inlined(below))
        if "$ref" in part:
            reference = part["$ref"]
            if reference not in hashes:
                hashes[reference] = digest(inlined(look_up(reference, root, "schema")))
            changed["$ref"] = hashes[reference]
        return changed

    return inlined(schema)
