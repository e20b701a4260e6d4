"""Deterministic answers that fit a response schema, and vectors of texts: equal requests get equal answers."""

import hashlib
import random
import re

_WORDS = "harbour crane crate van driver lamp street night rain river bridge market apple table window voice".split()
_MAX_DEPTH = 12
_DEFAULT_DIMENSION = 48  # of vectors


def answer_for(schema, seed, words=(1, 4), entries=3):
    """Return a value that fits a JSON Schema (or the OpenAPI form with upper-case types), generated from a seed string.

    Args:
        words: minimum and maximum words of a text.
        entries: entries that a list can have beyond its minimum.
    """
    rng = random.Random(hashlib.sha256(seed.encode()).hexdigest())
    rng.words, rng.entries = words, entries
    return _value(schema or {"type": "string"}, schema or {}, rng, 0)


def embedding_for(model, text, dimension=None):
    """Return the vector of a text; like the service's vectors it does not have unit length."""
    rng = random.Random(hashlib.sha256(f"{model}\n{text}".encode()).hexdigest())
    return [round(rng.gauss(0, 1), 6) for _ in range(dimension or _DEFAULT_DIMENSION)]


def _value(schema, root, rng, depth):
    if depth > _MAX_DEPTH:
        return None
    if "$ref" in schema:
        return _value(_resolve(root, schema["$ref"]), root, rng, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return rng.choice(schema["enum"])
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return _value(rng.choice(options), root, rng, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = rng.choice(kind)
    kind = kind.lower()
    if schema.get("nullable") and rng.random() < 0.2:
        return None
    return _GENERATORS[kind](schema, root, rng, depth)


def _object(schema, root, rng, depth):
    required = schema.get("required", ())
    value = {}
    for name, part in schema.get("properties", {}).items():
        if name in required or rng.random() < 0.8:
            value[name] = _value(part, root, rng, depth + 1)
    others = schema.get("additionalProperties")
    if isinstance(others, dict) and others:
        for word in rng.sample(_WORDS, rng.randint(0, 2)):
            value.setdefault(word, _value(others, root, rng, depth + 1))
    return value


def _array(schema, root, rng, depth):
    if "prefixItems" in schema:
        return [_value(part, root, rng, depth + 1) for part in schema["prefixItems"]]
    low = int(schema.get("minItems", 0))
    high = int(schema.get("maxItems", max(low, rng.entries)))
    return [
        _value(schema.get("items", {}), root, rng, depth + 1)
        for _ in range(rng.randint(low, max(low, min(high, low + rng.entries))))
    ]


def _string(schema, root, rng, depth):
    if schema.get("format") == "date":
        return f"2024-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    if schema.get("format") == "date-time":
        return f"2024-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}T{rng.randint(0, 23):02d}:00:00Z"
    text = " ".join(rng.choice(_WORDS) for _ in range(rng.randint(*rng.words)))
    while len(text) < int(schema.get("minLength", 0)):
        text += " " + rng.choice(_WORDS)
    return text[: int(schema.get("maxLength", 10_000))]


def _integer(schema, root, rng, depth):
    low = int(schema.get("minimum", 0))
    return rng.randint(low, int(schema.get("maximum", low + 9)))


def _number(schema, root, rng, depth):
    low = float(schema.get("minimum", 0))
    return round(rng.uniform(low, float(schema.get("maximum", low + 1))), 3)


_GENERATORS = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": lambda schema, root, rng, depth: rng.random() < 0.5,
    "null": lambda schema, root, rng, depth: None,
}


def _resolve(root, reference):
    part = root
    for key in re.split("/", reference.removeprefix("#/")) if reference != "#" else ():
        part = part[key]
    return part
