"""Answers of a model as lines of (field, value), bounded in number and length."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from markupsafe import escape

MAX_FIELDS: Final = 60
MAX_VALUE_CHARS: Final = 600
MAX_ANSWER_CHARS: Final = 4000
_MAX_NAME_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class FieldValue:
    """One field of an answer: its path, e.g. `people[0].name`, and its value as text."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """The fields of an answer that a page shows.

    Attributes:
        is_shortened: fields or parts of values are left out, to bound the page.
    """

    fields: tuple[FieldValue, ...]
    is_shortened: bool


def shown_answer(metadata: str) -> ShownAnswer:
    """Flatten the JSON text of an answer. Text that is not JSON is one field without a name."""
    try:
        answer = json.loads(metadata)
    except (ValueError, RecursionError):
        answer = metadata
    found = list(islice(_leaves(answer, "", 0), MAX_FIELDS + 1))
    fields: list[FieldValue] = []
    is_shortened, left = len(found) > MAX_FIELDS, MAX_ANSWER_CHARS
    for path, text in found[:MAX_FIELDS]:
        if left <= 0:
            is_shortened = True
            break
        name, value = shorten(path, _MAX_NAME_CHARS), shorten(text, min(left, MAX_VALUE_CHARS))
        is_shortened = is_shortened or value != text
        left -= len(name) + len(value)
        fields.append(FieldValue(name, value))
    return ShownAnswer(tuple(fields), is_shortened)


def shorten(text: str, limit: int) -> str:
    """Return at most `limit` characters, with an ellipsis in place of the rest."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def html_bytes(text: str) -> int:
    """Return the size of a text on a page, where markup characters are longer than one byte."""
    return len(str(escape(text)).encode("utf-8", "replace"))


def shorten_to_bytes(text: str, limit: int) -> str:
    """Return the longest beginning of a text that takes at most `limit` bytes on a page, with an ellipsis if it is cut.

    >>> shorten_to_bytes("a<b", 6), shorten_to_bytes("a<b<c", 9)
    ('a<b', 'a<b…')
    """
    if html_bytes(text) <= limit:
        return text
    room = limit - html_bytes("…")
    for at, character in enumerate(text):
        room -= html_bytes(character)
        if room < 0:
            return f"{text[:at]}…"
    return text


def _leaves(value: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value and depth < 20:
        for name, part in value.items():
            yield from _leaves(part, f"{path}.{name}" if path else name, depth + 1)
    elif isinstance(value, list) and any(isinstance(part, dict | list) for part in value) and depth < 20:
        for index, part in enumerate(value):
            yield from _leaves(part, f"{path}[{index}]", depth + 1)
    elif isinstance(value, list) and value:
        yield path, ", ".join(map(_plain, value))
    elif value is not None:
        yield path, _plain(value)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
