"""Compare an answer with its label: exact, numeric, set and text similarity. Each score is from 0 to 1."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from rapidfuzz import fuzz, utils

from promptreel.schemas.field_paths import LeafField
from promptreel.schemas.ids import canonical_json

Measure = Literal["exact", "numeric", "set", "text"]
MEASURES: Final[tuple[Measure, ...]] = get_args(Measure)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One answer compared with its label.

    Attributes:
        score: exact: 1 if equal. numeric: 1 if within the tolerance. set: F1. text: similarity.
        absolute_error, relative_error: of two numbers; the relative error is None if the label is 0 and the answer is not.
        hits, answered, expected: of a set, the number of common, answered and expected elements.
    """

    score: float
    absolute_error: float | None = None
    relative_error: float | None = None
    hits: int = 0
    answered: int = 0
    expected: int = 0


def measure_of(leaf: LeafField) -> Measure:
    """The default measure of a field: set for lists, numeric for numbers, text for free text, otherwise exact."""
    if leaf.list_depth:
        return "set"
    if leaf.type in ("integer", "number"):
        return "numeric"
    is_free_text = leaf.type == "string" and not {"enum", "const"} & set(leaf.schema)
    return "text" if is_free_text else "exact"


def compare(measure: Measure, expected: Any, answer: Any, tolerance: float) -> Comparison:
    """Compare an answer with its label; None is a missing value, and two missing values are equal.

    Args:
        tolerance: largest relative error of a number that counts as correct.
    """
    if measure == "set":
        return _compare_sets(_elements(expected), _elements(answer))
    if expected is None or answer is None:
        return Comparison(float(expected is None and answer is None))
    if measure == "numeric":
        return _compare_numbers(expected, answer, tolerance)
    if measure == "text":
        return Comparison(_similarity(expected, answer))
    return Comparison(float(_key(expected) == _key(answer)))


def summarize(measure: Measure, comparisons: Sequence[Comparison]) -> dict[str, float | None]:
    """Aggregate the comparisons of one field.

    Returns:
        score: exact and numeric: share that is correct. text: mean similarity. set: F1 over all elements.
        Numeric has also `mean_absolute_error`, `mean_relative_error` and `max_absolute_error`, of the labels with an
        answer; set has `precision`, `recall` and `mean_f1`. A figure without data is None.
    """
    mean = _mean([part.score for part in comparisons])
    if measure == "numeric":
        absolute = [part.absolute_error for part in comparisons if part.absolute_error is not None]
        relative = [part.relative_error for part in comparisons if part.relative_error is not None]
        return {
            "score": mean,
            "mean_absolute_error": _mean(absolute),
            "mean_relative_error": _mean(relative),
            "max_absolute_error": max(absolute, default=None),
        }
    if measure == "set":
        hits = sum(part.hits for part in comparisons)
        answered, expected = (sum(getattr(part, name) for part in comparisons) for name in ("answered", "expected"))
        precision = hits / answered if answered else None
        recall = hits / expected if expected else None
        both = answered + expected
        score = None if not comparisons else 2 * hits / both if both else 1.0
        return {"score": score, "precision": precision, "recall": recall, "mean_f1": mean}
    return {"score": mean}


def _compare_numbers(expected: Any, answer: Any, tolerance: float) -> Comparison:
    wanted, found = _number(expected), _number(answer)
    if wanted is None or found is None:
        return Comparison(0.0)
    error = abs(found - wanted)
    relative = error / abs(wanted) if wanted else (0.0 if error == 0 else None)
    return Comparison(float(relative is not None and relative <= tolerance + 1e-12), error, relative)


def _compare_sets(expected: set[str], answer: set[str]) -> Comparison:
    hits, both = len(expected & answer), len(expected) + len(answer)
    return Comparison(2 * hits / both if both else 1.0, hits=hits, answered=len(answer), expected=len(expected))


def _similarity(expected: Any, answer: Any) -> float:
    values = (expected, answer)
    texts = [value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str) for value in values]
    prepared = [utils.default_process(unicodedata.normalize("NFC", text)) for text in texts]
    if not any(prepared):  # only punctuation: compare it as it is
        prepared = texts
    return float(fuzz.ratio(*prepared)) / 100


def _elements(value: Any) -> set[str]:
    if value is None:
        return set()
    values = value if isinstance(value, list | tuple) else [value]
    return {_key(part) for part in values if part is not None}


def _key(value: Any) -> str:
    """A text that is equal for equal values: 1 and 1.0, and texts that differ only in the form of their characters or in
    spaces."""
    if isinstance(value, str):
        return "text:" + " ".join(unicodedata.normalize("NFC", value).split())
    if isinstance(value, bool) or value is None:
        return canonical_json(value)
    if isinstance(value, int | float):
        is_whole = isinstance(value, int) or value.is_integer()
        return f"number:{int(value) if is_whole else value!r}"
    if isinstance(value, Mapping):
        return canonical_json({str(name): _key(part) for name, part in value.items()})
    return canonical_json([_key(part) for part in value]) if isinstance(value, list | tuple) else f"other:{value}"


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
