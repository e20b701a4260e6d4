"""Hypothesis strategies for JSON objects in the forms in which models send them."""

import json

from hypothesis import strategies as st

_TEXT = st.text(st.sampled_from("ab {}[]\":,'\\/\n\t`~#1é\u2028") | st.characters(codec="utf-8"), max_size=8)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXT
)
OBJECTS = st.dictionaries(
    _TEXT,
    st.recursive(
        _SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)
_PROSE = st.sampled_from(["Here is the JSON:", "I see [1] a {name}.", "Hope this helps!", "json", "It's 5 o'clock.\n"])
_FENCES = st.sampled_from(["```json\n{}\n```", "```{}```", "~~~\n{}\n~~~", "~~~json {}~~~", "```JSON\r\n{}"])


@st.composite
def decorated(draw, value):
    """Draw (tokens, text): the tokens of an object, and the text of the answer that holds it."""
    tokens = draw(_object_tokens(value))
    return tokens, draw(around("".join(tokens)))


@st.composite
def around(draw, text):
    """Draw what surrounds a value: a list, a second copy, a fence, prose, a byte order mark."""
    if draw(st.booleans()):
        text = f"[{text}]"
    if draw(st.booleans()):
        text = draw(st.sampled_from(["", "\n", " or, again,\n"])).join([text, text])
    if draw(st.booleans()):
        text = draw(_FENCES).replace("{}", text)
    before, after = (draw(st.just("") | _PROSE) for _ in range(2))
    return draw(st.sampled_from(["", "\ufeff"])) + f"{before}\n{text}\n{after}"


@st.composite
def _object_tokens(draw, value):
    flags = draw(
        st.fixed_dictionaries(
            {name: st.booleans() for name in ("trailing_comma", "raw", "comment", "spaces", "python")}
        )
    )
    return list(_tokens(value, flags))


def _tokens(value, flags):
    """Yield the tokens of a value; the quotes of a string are tokens of their own."""
    if isinstance(value, dict):
        yield from _container(
            "{", "}", [[*_string(key), ":", *_tokens(part, flags)] for key, part in value.items()], flags
        )
    elif isinstance(value, list):
        yield from _container("[", "]", [list(_tokens(part, flags)) for part in value], flags)
    elif isinstance(value, str):
        yield from _string(value, flags["raw"])
    elif flags["python"] and (value is None or isinstance(value, bool)):
        yield repr(value)
    else:
        yield json.dumps(value)


def _container(opening, closing, parts, flags):
    yield opening
    for number, part in enumerate(parts):
        if number:
            yield ","
        if flags["comment"]:
            yield f"// part {number}, as seen\n"
        if flags["spaces"]:
            yield "\n\t"
        yield from part
    if parts and flags["trailing_comma"]:
        yield ","
    yield closing


def _string(value, raw=False):
    yield '"'
    yield "".join(part if raw and part < " " else json.dumps(part)[1:-1] for part in value)
    yield '"'
