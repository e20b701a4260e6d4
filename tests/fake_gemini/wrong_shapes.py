"""Answers whose value is right and whose form is not JSON: each function takes the JSON text of an object."""

import json


def _raw_newlines(text):
    """Replace the spaces in all strings by a raw newline and a raw tab."""
    return json.dumps(_with_newlines(json.loads(text))).replace("\\n\\t", "\n\t")


def _with_newlines(value):
    if isinstance(value, str):
        return value.replace(" ", "\n\t")
    if isinstance(value, list):
        return [_with_newlines(part) for part in value]
    if isinstance(value, dict):
        return {key: _with_newlines(part) for key, part in value.items()}
    return value


WRONG_SHAPES = {
    "fenced": lambda text: f"```json\n{text}\n```",
    "one_line_fence": lambda text: f"```json {text}```",
    "tilde_fence": lambda text: f"~~~json\n{text}\n~~~",
    "prose_and_fence": lambda text: f"Here is the JSON:\n\n```json\n{text}\n```\n\nI hope this helps.",
    "prose": lambda text: f"Here is the JSON: {text}\nI hope this helps.",
    "bom": lambda text: f"\ufeff{text}",
    "twice": lambda text: f"{text}\n{text}",
    "list": lambda text: f"[{text}]",
    "raw_newlines": _raw_newlines,
    "trailing_comma": lambda text: f"{text[:-1]},\n}}",
}
