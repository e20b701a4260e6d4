"""Measures of answers against labels, against figures computed by hand."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from promptreel.schemas.field_paths import LeafField
from promptreel.tables.scoring.measures import MEASURES, compare, measure_of, summarize


def leaf(kind, depth=0, **schema):
    return LeafField("a", kind, depth, schema)


def test_default_measure_follows_the_type():
    expected = {
        "set": [leaf("string", 1), leaf("number", 2)],
        "numeric": [leaf("integer"), leaf("number")],
        "text": [leaf("string")],
        "exact": [leaf("boolean"), leaf("json"), leaf("string", enum=["a"]), leaf("string", const="a")],
    }
    assert {name: [measure_of(part) for part in parts] for name, parts in expected.items()} == {
        name: [name] * len(parts) for name, parts in expected.items()
    }


@pytest.mark.parametrize(
    ("expected", "answer", "score"),
    [
        ("dock", " dock", 1), ("dock", "Dock", 0), ("caf\u00e9", "cafe\u0301", 1), (1, 1.0, 1), (True, 1, 0), ("1", 1, 0),
        (None, None, 1), (None, "x", 0), ("x", None, 0), ({"a": 1}, {"a": 1.0}, 1), ([1, 2], [2, 1], 0),
    ],
)  # fmt: skip
def test_exact_ignores_only_spaces_and_forms(expected, answer, score):
    assert compare("exact", expected, answer, 0).score == score


def test_numeric_errors_are_averaged_over_answered_labels():
    pairs = [(10, 10.4), (10, 12), (0, 0), (0, 1), (5, None), (None, None), (3, True), (4, float("nan"))]
    parts = [compare("numeric", expected, answer, 0.05) for expected, answer in pairs]
    assert [part.score for part in parts] == [1, 0, 1, 0, 0, 1, 0, 0]
    figures = summarize("numeric", parts)
    assert figures["score"] == 3 / 8
    assert figures["mean_absolute_error"] == pytest.approx((0.4 + 2 + 0 + 1) / 4)
    assert figures["mean_relative_error"] == pytest.approx((0.04 + 0.2 + 0) / 3)
    assert figures["max_absolute_error"] == 2


def test_set_counts_elements_over_all_labels():
    parts = [
        compare("set", e, a, 0) for e, a in ((["a", "b"], ["b", "c", "b"]), (["d"], None), ([], []), (None, ["e"]))
    ]
    assert [part.score for part in parts] == [0.5, 0, 1, 0]
    figures = summarize("set", parts)  # 1 common element; 3 answered, 3 expected
    assert figures == {"score": 1 / 3, "precision": 1 / 3, "recall": 1 / 3, "mean_f1": 1.5 / 4}
    assert summarize("set", [compare("set", [], [], 0)])["score"] == 1


def test_text_similarity_ignores_case_and_punctuation():
    assert compare("text", "A crane lifts a box.", "a CRANE lifts a box", 0).score == 1
    assert 0.5 < compare("text", "a crane lifts a box", "a crane drops a bag", 0).score < 1
    assert compare("text", "?!", "?!", 0).score == 1
    assert compare("text", "x", None, 0).score == 0


def test_figures_without_labels_are_none():
    assert all(value is None for name in MEASURES for value in summarize(name, []).values())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=6,
)


@example("text", float("nan"), "x")
@example("text", {"a": [float("inf")]}, 10**400)
@example("numeric", 10**400, 1)
@example("exact", 10**400, 1)
@given(st.sampled_from(MEASURES), VALUES, VALUES)
def test_every_comparison_has_a_score_between_0_and_1(measure, expected, answer):
    assert 0 <= compare(measure, expected, answer, 0.1).score <= 1
    both = compare(measure, expected, expected, 0.1).score
    assert both == 1 or measure == "numeric" or expected != expected or "nan" in repr(expected)
