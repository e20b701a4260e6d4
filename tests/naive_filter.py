"""A reference implementation of filter conditions in plain Python, following the documentation."""

import json


def holds(node, answer, spoken=""):
    """Return whether a condition or group in request format holds for an answer."""
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
    operator, operand = node["operator"], node.get("value")
    if operator in ("is_empty", "is_not_empty"):
        filled = any(set(value) - set(" \t\n\f\r") for value in values)
        return filled == (operator == "is_not_empty")
    tests = {
        "contains": lambda value: _lower(operand) in _lower(value),
        "starts_with": lambda value: _lower(value).startswith(_lower(operand)),
        "ends_with": lambda value: _lower(value).endswith(_lower(operand)),
        "equals": lambda value: _lower(value) == _lower(operand) if isinstance(operand, str) else value == operand,
        "greater_than": lambda value: value > operand,
        "greater_equal": lambda value: value >= operand,
        "less_than": lambda value: value < operand,
        "less_equal": lambda value: value <= operand,
    }
    return any(tests[operator](value) for value in values)


def _array_holds(node, answer):
    operator, operand = node["operator"], node.get("value")
    *parents, last = node["field"].removesuffix("[]").split(".")
    owners = list(_values(answer, parents)) if parents else [answer]
    lists = [owner.get(last) or [] for owner in owners if isinstance(owner, dict)]
    if operator == "is_not_empty":
        return any(lists)
    if operator == "is_empty":
        return not any(lists)
    items = [item for one in lists for item in one if item is not None]
    return {
        "length_equals": lambda: any(len(one) == operand for one in lists),
        "length_greater": lambda: any(len(one) > operand for one in lists),
        "length_less": lambda: any(len(one) < operand for one in lists),
        "item_equals": lambda: any(
            _lower(item) == _lower(operand) if isinstance(operand, str) else item == operand for item in items
        ),
        "item_contains": lambda: any(_lower(operand) in _lower(item) for item in items),
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
    """Lower-case each character independently, as databases do: length and context-free mapping are preserved."""
    return "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text)


def _canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
