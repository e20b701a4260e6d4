"""Odd request bodies of runs and retries: valid ones with one oddity each, as JSON text."""

import json
from dataclasses import dataclass

LONG = "x" * 5000
# JSON texts that replace a value.
WRONG = (
    *("[]", "{}", "7", "-1", "1.5", "true", '""', '" "', "NaN", "-Infinity"),
    *("1" * 400, "9" * 6000, "null", '"15"', f'"{LONG}"'),
)
EXTRA = ("dry_run", "limit", "max_tokens", "Target", "segment_ids", "é", "__proto__")


@dataclass(frozen=True)
class OddBody:
    """A request body.

    Attributes:
        text: the JSON text.
        oddity: what is odd, for test output.
        names: the odd keys; a rejection names one of them, or its value.
    """

    text: str
    oddity: str
    names: tuple[str, ...]


def odd_bodies(valid):
    """Yield the odd variants of a valid body, with each oddity at each level."""
    yield from _odd_objects(valid, lambda text: text, "body")
    for key, value in valid.items():
        if isinstance(value, dict):
            yield from _odd_objects(value, lambda text, key=key: _with(valid, key, text), key)
        if isinstance(value, list):
            for wrong in ("[[]]", "[null]", "[7]", '["unknown-1", "unknown-2"]', '[""]', "[]"):
                yield OddBody(_with(valid, key, wrong), f"{key}: {wrong}", (key,))


def _odd_objects(valid, enclosed, where):
    for wrong in ("[]", '"text"', "7", "true", "NaN", "null", f"[{json.dumps(valid)}]"):
        yield OddBody(enclosed(wrong), f"{where} is {wrong[:20]}", (where,))
    for key in valid:
        rest = {name: value for name, value in valid.items() if name != key}
        yield OddBody(enclosed(json.dumps(rest)), f"{where} without {key}", (key,))
        for misspelt in (key[:-1], key.upper(), key.replace("_", "-") + "s"):
            text = json.dumps({**rest, misspelt: valid[key]})
            yield OddBody(enclosed(text), f"{where}: {key} as {misspelt}", (key, misspelt))
        for wrong in WRONG:
            yield OddBody(enclosed(_with(valid, key, wrong)), f"{where}.{key}: {wrong[:20]}", (key,))
        twice = f"{json.dumps(valid)[:-1]}, {json.dumps(key)}: {json.dumps(valid[key])}}}"
        yield OddBody(enclosed(twice), f"{where}: {key} twice", (key,))
    for extra in EXTRA:
        for value in (True, {"nested": 1}):
            text = json.dumps({**valid, extra: value})
            yield OddBody(enclosed(text), f"{where} with {extra}: {value}", (extra,))


def _with(valid, key, text):
    """Return the JSON text of an object with one value replaced by a JSON text."""
    parts = [f"{json.dumps(name)}: {text if name == key else json.dumps(value)}" for name, value in valid.items()]
    return f"{{{', '.join(parts)}}}"
