"""Filter conditions judged in plain Python over the JSON of an answer, as the documentation words them."""

import json


def holds(node, answer, spoken=""):
    """Whether a condition or group, as the request spells it, holds for an answer."""
    if "any" in node:
        return any(holds(part, answer, spoken) for part in node["any"])
    if "all" in node:
        return all(holds(part, answer, spoken) for part in node["all"])
    if "not" in node:
        return not holds(node["not"], answer, spoken)
    if node["type"] == "array":
        return _array_holds(node, answer)
    values = [spoken] if node["field"] == "transcription" else list(_values(answer, node["field"].split(".")))
    if node["field"] == "extra":
        values = [value if isinstance(value, str) else _canonical(value) for value in values]
    operator, given = node["operator"], node.get("value")
    if operator in ("is_empty", "is_not_empty"):
        filled = any(set(value) - set(" \t\n\f\r") for value in values)
        return filled == (operator == "is_not_empty")
    tests = {
        "contains": lambda value: _lower(given) in _lower(value),
        "starts_with": lambda value: _lower(value).startswith(_lower(given)),
        "ends_with": lambda value: _lower(value).endswith(_lower(given)),
        "equals": lambda value: _lower(value) == _lower(given) if isinstance(given, str) else value == given,
        "greater_than": lambda value: value > given,
        "greater_equal": lambda value: value >= given,
        "less_than": lambda value: value < given,
        "less_equal": lambda value: value <= given,
    }
    return any(tests[operator](value) for value in values)


def _array_holds(node, answer):
    operator, given = node["operator"], node.get("value")
    *way, last = node["field"].removesuffix("[]").split(".")
    owners = list(_values(answer, way)) if way else [answer]
    lists = [owner.get(last) or [] for owner in owners if isinstance(owner, dict)]
    if operator == "is_not_empty":
        return any(lists)
    if operator == "is_empty":
        return not any(lists)
    items = [item for one in lists for item in one if item is not None]
    return {
        "length_equals": lambda: any(len(one) == given for one in lists),
        "length_greater": lambda: any(len(one) > given for one in lists),
        "length_less": lambda: any(len(one) < given for one in lists),
        "item_equals": lambda: any(
            _lower(item) == _lower(given) if isinstance(given, str) else item == given for item in items
        ),
        "item_contains": lambda: any(_lower(given) in _lower(item) for item in items),
    }[operator]()


def _values(value, keys):
    if isinstance(value, list):
        for part in value:
            yield from _values(part, keys)
    elif not keys:
        if value is not None:
            yield value
    elif isinstance(value, dict):
        yield from _values(value.get(keys[0].removesuffix("[]")), keys[1:])


def _lower(text):
    """Letter by letter, as databases do it: no letter becomes two, and none looks at its neighbours."""
    return "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text)


def _canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
