"""Parse JSON of requests: a key that occurs twice is an error, because only one of its values would count."""

from __future__ import annotations

import json
import reprlib
from typing import Any, Final

_MAX_DIGITS: Final = 20  # of a 64-bit integer with its sign
_BEYOND_64_BITS: Final = 2**64


def parse_json(body: bytes) -> Any:
    """Parse a JSON body. An integer of more than 64 bits becomes one that `storable` rejects with its path.

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
    return int(digits) if len(digits) <= _MAX_DIGITS else _BEYOND_64_BITS
