"""Names and tags of runs."""

import pytest

from promptreel.schemas.errors import InvalidInput
from promptreel.schemas.run_labels import RunLabels, parse_tags


def test_tags_are_parsed_and_shown_in_order():
    tags = parse_tags(["b=2", "a=1=x", "c.d-e_f=y"])
    assert tags == {"b": "2", "a": "1=x", "c.d-e_f": "y"}
    assert RunLabels("n", tags).tags_text == "a=1=x, b=2, c.d-e_f=y"


@pytest.mark.parametrize(
    ("texts", "problem"),
    [(["a"], "tag is 'a'; give it as key=value"), (["a=1", "a=2"], "tag a is given twice: '1' and '2'")],
)
def test_invalid_tag_text_is_rejected_with_its_value(texts, problem):
    with pytest.raises(InvalidInput, match=problem):
        parse_tags(texts)


@pytest.mark.parametrize(
    ("name", "tags", "problem"),
    [
        (" ", {}, "name is ' '"),
        ("a\nb", {}, "name is"),
        ("x" * 101, {}, "name has 101 characters; the limit is 100"),
        (None, {"a b": "x"}, "key is 'a b'"),
        (None, {"": "x"}, "key is ''"),
        (None, {"a": ""}, "tags: a is ''"),
        (None, {"a": "x" * 201}, "tags: a has 201 characters"),
        (None, {f"k{number}": "x" for number in range(21)}, "21 tags exceed the limit of 20"),
    ],
)
def test_invalid_labels_are_rejected_with_value_and_limit(name, tags, problem):
    with pytest.raises(InvalidInput, match=problem):
        RunLabels(name, tags)


def test_filter_needs_the_name_and_every_tag():
    labels = RunLabels("nightly", {"a": "1", "b": "2"})
    assert labels.matches(RunLabels())
    assert labels.matches(RunLabels("nightly", {"a": "1"}))
    assert not labels.matches(RunLabels("night"))
    assert not labels.matches(RunLabels(None, {"a": "1", "b": "3"}))
    assert not labels.matches(RunLabels(None, {"c": "1"}))
