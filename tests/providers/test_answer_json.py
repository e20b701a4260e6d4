"""Reading of an answer's JSON: repairs that leave one possible value, and answers that stay unread."""

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from promptreel.providers.answer_json import REPAIRS, AnswerNotJson, read_answer_json
from tests.providers.decorated_json import OBJECTS, around, decorated


@pytest.mark.parametrize(
    ("text", "repair"),
    [
        ('{"n": 1}', None),
        ('\ufeff{"n": 1}', "byte_order_mark"),
        ('```json\n{"n": 1}\n```', "fence"),
        ('```json {"n": 1}```', "fence"),
        ('~~~\n{"n": 1}\n~~~', "fence"),
        ('```\n{"n": 1}', "fence"),
        ('Here it is:\n```json\n{"n": 1}\n```\nHope it helps.', "fence,surrounding_text"),
        ('The value of {n} [1] is: {"n": 1}', "surrounding_text"),
        ('{"n": 1}\n{"n": 1}', "duplicate"),
        ('{"n": 1}{"n": 1}', "duplicate"),
        ('[{"n": 1}]', "list"),
        ('[{"n": 1},]', "list,trailing_comma"),
        ('{"n": 1,}', "trailing_comma"),
        ('{"n": 1, // one\n}', "trailing_comma,comment"),
        ('{/* the number */ "n": 1}', "comment"),
        ("{'n': 1}", "python_literal"),
        ('\ufeffSure!\n~~~json\n[{"n": 1,}]\n~~~', "byte_order_mark,fence,surrounding_text,list,trailing_comma"),
    ],
)
def test_value_is_read_with_the_repairs_it_needed(text, repair):
    assert read_answer_json(text) == ({"n": 1}, repair)
    assert set((repair or "").split(",")) <= {"", *REPAIRS}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": "x\n\ty"}', {"a": "x\n\ty"}),
        ('{"a": "`x` [1] // {y} \'z\'",}', {"a": "`x` [1] // {y} 'z'"}),
        ("{'a': 'say \"it\\'s\"', 'b': [True, None, False]}", {"a": 'say "it\'s"', "b": [True, None, False]}),
        ('```\n{"a": "```"}\n```', {"a": "```"}),
    ],
)
def test_strings_are_read_as_they_were_written(text, value):
    assert read_answer_json(text)[0] == value


@pytest.mark.parametrize(
    "text",
    [
        "I cannot answer.",
        '{"n": 1',
        '{"n": "x',
        '{"a": {"n": 1}',
        '"a": {"n": 1}}',
        '"a": {"n": 1}',
        '{"n": 1}, "m": 2}',
        '{"n": 1}\n"m": 2',
        '{"n": 1}}',
        '{"n": 1] ',
        '{"n": 1}\n{"n": 2}',
        '{"n": 1}\n{"n": 1.0}',
        '{"n": true}\n{"n": 1}',
        '{"n": 1}\n{"n": 1',
        '[{"n": 1}] [{"n": 2}]',
        '```\n{"n": NaN}\n```',
        '{"n": Infinity,}',
        '{"n": 01,}',
        '{"n": .5,}',
        '{"n": ,}',
        '{"a": [,]}',
        '{"a": [1,,]}',
        '{"n" 1,}',
        "{n: 1}",
        '{"a": "say "hi" to her",}',
        "{'a': 'it's'}",
        '{"n": 1, // "m": 2\n}',
        '["a",\n//x",\n"b"]',
        '{"n": 1, /* }',
        '{"n": ' + "9" * 5000 + ",}",
        '{"a": ' * 5000 + "1" + "}" * 5000 + "\n",
    ],
)
def test_ambiguous_or_incomplete_values_are_not_read(text):
    with pytest.raises(AnswerNotJson):
        read_answer_json(text)


@given(st.data(), OBJECTS)
def test_decorated_object_is_read_unchanged(data, value):
    _, text = data.draw(decorated(value))
    assert exact(read_answer_json(text)[0]) == exact(value)


@given(st.data(), OBJECTS)
def test_cut_answer_is_never_another_value(data, value):
    _, text = data.draw(decorated(value))
    start = data.draw(st.integers(0, len(text)))
    for part in (text[:start], text[start:]):
        assert_read_or_rejected(part, value)


@given(st.data(), OBJECTS)
def test_lost_bracket_or_quote_is_never_another_value(data, value):
    tokens, _ = data.draw(decorated(value))
    at = data.draw(st.sampled_from([n for n, token in enumerate(tokens) if token in ("{", "}", "[", "]", '"', ":")]))
    assert_read_or_rejected(data.draw(around("".join(tokens[:at] + tokens[at + 1 :]))), value)


@given(st.data(), OBJECTS, OBJECTS)
def test_two_different_objects_are_ambiguous(data, first, second):
    assume(exact(first) != exact(second))
    texts = ["".join(data.draw(decorated(value))[0]) for value in (first, second)]
    with pytest.raises(AnswerNotJson):
        read_answer_json("\n".join(texts))


def assert_read_or_rejected(text, value):
    try:
        found = read_answer_json(text)[0]
    except AnswerNotJson:
        return
    assert exact(found) == exact(value), text


def exact(value):
    """Text that distinguishes 1, 1.0 and true, which are equal in Python."""
    return json.dumps(value, sort_keys=True)
