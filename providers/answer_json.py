"""Read the JSON value of a model's answer: strictly, otherwise with repairs that leave only one possible value."""

from __future__ import annotations

import json
import re
from typing import Any, Final

REPAIRS: Final = {
    "byte_order_mark": "a byte order mark was removed",
    "fence": "a code fence around the value was removed",
    "surrounding_text": "text before or after the value was ignored",
    "duplicate": "the value was there several times, each time the same",
    "list": "the object was the only entry of a list",
    "control_characters": "strings held line breaks, tabs or other control characters that JSON escapes",
    "trailing_comma": "a comma after the last entry was removed",
    "comment": "comments were removed",
    "python_literal": "True, False, None and strings in single quotes were read as in Python",
}
"""The closed set of repairs: the code of each, with its meaning."""

_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t\n\r]+)
      | (?P<string>"(?:[^"\\]|\\.)*+")
      | (?P<python_string>'(?:[^'\\\n]|\\.)*+')
      | (?P<comment>//[^\n]*|/\*.*?\*/)
      | (?P<open>[{\[])
      | (?P<close>[}\]])
      | (?P<comma>,)
      | (?P<colon>:)
      | (?P<word>[^\s{}\[\],:"'/]+)""",
    re.VERBOSE | re.DOTALL,
)
_VALUE_ENDS: Final = ("string", "python_string", "word", "close")
_CLOSING: Final = {"{": "}", "[": "]"}
_PYTHON_WORDS: Final = {"True": "true", "False": "false", "None": "null"}
_CONTROL_CHARACTER: Final = re.compile(r"[\x00-\x1f]")
# `{name}` and `[1]` in prose are not values.
_PLACEHOLDER: Final = re.compile(r"\{[\w .-]+\}|\[[\w .-]*\]")
_FENCE: Final = re.compile(r"(?:`{3,}|~{3,})[\w+-]*")
# What a cut or broken value leaves outside the value that was found: the text around it is then not prose.
_REMAINS: Final = re.compile(r"""[{}\[\]]|["']\s*:|["']\s*,\s*\Z""")
_REMAINS_AFTER_VALUE: Final = re.compile(r"\s*[,:]")


class AnswerNotJson(ValueError):
    """The answer has no value, or more than one value can be read from it."""


def read_answer_json(text: str) -> tuple[Any, str | None]:
    """Return the value of an answer, and the codes of the repairs that it needed, joined by commas.

    Strict JSON is read as it is. Otherwise the value is the only complete object in the text. A value that ends too early is
    never completed, and a value is never guessed: the text fails if it holds two different values, or if what surrounds the
    value may belong to it. The repairs are None for strict JSON.

    Raises:
        AnswerNotJson: says why no value could be read.
    """
    repairs: set[str] = set()
    try:
        value = _loads(text)
    except AnswerNotJson:
        value = _read_only_value(text, repairs)
    value = _unwrap(value, repairs)
    return value, ",".join(code for code in REPAIRS if code in repairs) or None


def _read_only_value(text: str, repairs: set[str]) -> Any:
    values: list[Any] = []
    outside: list[str] = []
    position = 0
    while (start := _next_value(text, position)) is not None:
        outside.append(text[position:start])
        json_text, position = _scan_value(text, start, repairs)
        values.append(_unwrap(_loads(json_text, strict=False), repairs))
    outside.append(text[position:])
    if not values:
        raise AnswerNotJson("it holds no JSON object")
    for number, part in enumerate(outside):
        _check_outside(part, number > 0, repairs)
    if len(values) > 1:
        if len({json.dumps(value, sort_keys=True) for value in values}) > 1:
            raise AnswerNotJson(f"it holds {len(values)} values that differ")
        repairs.add("duplicate")
    return values[0]


def _next_value(text: str, position: int) -> int | None:
    """Return the position of the next opening bracket that does not belong to prose."""
    while (opening := re.compile(r"[{\[]").search(text, position)) is not None:
        placeholder = _PLACEHOLDER.match(text, opening.start())
        if placeholder is None:
            return opening.start()
        position = placeholder.end()
    return None


def _scan_value(text: str, start: int, repairs: set[str]) -> tuple[str, int]:
    """Return the value that starts with the bracket at a position, as JSON but for control characters, and its end."""
    parts: list[str] = []
    closing: list[str] = []
    before_comma = previous = ""  # kinds of token
    comma_at, position = 0, start
    while token := _TOKEN.match(text, position):
        kind, part, position = str(token.lastgroup), token.group(), token.end()
        if kind in ("space", "comment"):
            if kind == "comment":
                _check_comment(part)
                repairs.add("comment")
            parts.append(" ")
            continue
        if kind == "open":
            closing.append(_CLOSING[part])
        elif kind == "close":
            if part != closing.pop():
                raise AnswerNotJson(f"a bracket is closed by {part!r} at character {token.start()}")
            if previous == "comma" and before_comma in _VALUE_ENDS:
                parts[comma_at] = " "
                repairs.add("trailing_comma")
        elif kind == "comma":
            before_comma, comma_at = previous, len(parts)
        else:
            part = _as_json(kind, part, repairs)
        parts.append(part)
        previous = kind
        if not closing:
            return "".join(parts), position
    raise AnswerNotJson("it ends before its value is complete")


def _as_json(kind: str, part: str, repairs: set[str]) -> str:
    """Return a string or word as JSON, but for control characters in strings."""
    if kind == "python_string":
        repairs.add("python_literal")
        part = '"' + re.sub(r"\\.|\"", _python_escape, part[1:-1], flags=re.DOTALL) + '"'
    if kind == "word" and part in _PYTHON_WORDS:
        repairs.add("python_literal")
        return _PYTHON_WORDS[part]
    if kind in ("string", "python_string") and _CONTROL_CHARACTER.search(part):
        repairs.add("control_characters")
    return part


def _python_escape(match: re.Match[str]) -> str:
    return {"\\'": "'", '"': '\\"'}.get(match.group(), match.group())


def _check_comment(comment: str) -> None:
    """Reject a comment with a quote: it may be the content of a string that lost its first quote."""
    if '"' in comment or "'" in comment:
        raise AnswerNotJson(f"{comment[:40]!r} may be a comment or a part of a string")


def _check_outside(part: str, is_after_value: bool, repairs: set[str]) -> None:
    """Note what surrounds the value; reject it if it may belong to the value."""
    rest = _PLACEHOLDER.sub("", _FENCE.sub("", part.replace("\ufeff", "")))
    if _REMAINS.search(rest) or (is_after_value and _REMAINS_AFTER_VALUE.match(rest)):
        raise AnswerNotJson(f"{part.strip()[:40]!r} may be a part of its value")
    if "\ufeff" in part:
        repairs.add("byte_order_mark")
    if _FENCE.search(part):
        repairs.add("fence")
    if _FENCE.sub("", part.replace("\ufeff", "")).strip():
        repairs.add("surrounding_text")


def _unwrap(value: Any, repairs: set[str]) -> Any:
    """Return the object of a list that holds one object and nothing else; a schema's root is never a list."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        repairs.add("list")
        return value[0]
    return value


def _loads(text: str, *, strict: bool = True) -> Any:
    try:
        return json.loads(text, strict=strict, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise AnswerNotJson(str(error)) from error


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
