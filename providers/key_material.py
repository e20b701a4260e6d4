"""What of a prompt is part of an operation's key: all that constrains an answer, without its wording's trivia.

Results of a prompt are reused after its schema is described, titled or commented differently, or after its lines end in
other spaces. Both are sent to the model, so they may change how it words an answer, but an answer that was valid remains
valid; `reuse_results = False` (`--fresh`) requests new answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

# Keywords that describe a schema and do not constrain a value.
_ANNOTATIONS: Final = frozenset({"title", "description", "examples", "$comment"})
# Keywords whose keys are names chosen by the prompt, and whose values are schemas.
_NAMED_SUBSCHEMAS: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
# Keywords whose value is data, not a schema.
_VALUES: Final = frozenset({"enum", "const", "default", "required"})


def schema_material(json_schema: Any) -> Any:
    """Return a schema without its annotations, at every level; a field with the name of an annotation is retained."""
    if isinstance(json_schema, list):
        return [schema_material(part) for part in json_schema]
    if not isinstance(json_schema, Mapping):
        return json_schema
    return {key: _keyword_material(key, value) for key, value in json_schema.items() if key not in _ANNOTATIONS}


def text_material(text: str) -> str:
    """Return a text without spaces at the ends of its lines and empty lines at its end."""
    return "\n".join(line.rstrip() for line in text.splitlines()).rstrip()


def _keyword_material(key: str, value: Any) -> Any:
    if key in _VALUES:
        return value
    if key in _NAMED_SUBSCHEMAS and isinstance(value, Mapping):
        return {name: schema_material(part) for name, part in value.items()}
    return schema_material(value)
