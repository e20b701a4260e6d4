"""Parse JSON of requests: a key that occurs twice is an error, because only one of its values would count."""

from __future__ import annotations

import json
import reprlib
from typing import Any, Final

_MAX_DIGITS: Final = 4000  # Python rejects more than 4300


def parse_json(body: bytes) -> Any:
    """Parse a JSON body. An integer of more digits than Python converts is cut: its size stays invalid, and the
    check that rejects it names its path.

    Raises:
        json.JSONDecodeError: the body is not JSON, or an object has a key twice.
    """
    return json.loads(body, object_pairs_hook=_object, parse_int=_integer)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in values if names.count(name) > 1)
        raise json.JSONDecodeError(f"the key {reprlib.repr(twice)} occurs more than once", "", 0)
    return values


def _integer(digits: str) -> int:
    return int(digits[:_MAX_DIGITS])
