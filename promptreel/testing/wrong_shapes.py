"""JSON values in which one part has the wrong type, for responses that violate the format of their service."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Final

REPLACEMENTS: Final[tuple[Any, ...]] = (None, True, 7, "text", [], ["text"], [None], {}, {"text": 1})


def wrong_shapes(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield (what was replaced, changed copy) for each part of a JSON value and each replacement of it."""
    for path in _paths(value):
        for replacement in REPLACEMENTS:
            yield f"{'.'.join(map(str, path)) or 'all'} = {replacement!r}", _replaced(value, path, replacement)


def _paths(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield at
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in entries:
        yield from _paths(part, (*at, key))


def _replaced(value: Any, path: tuple[str | int, ...], replacement: Any) -> Any:
    if not path:
        return replacement
    changed = copy.deepcopy(value)
    target = changed
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = replacement
    return changed
