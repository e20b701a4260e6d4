"""Untrusted schemas: validation makes no request and takes bounded time."""

import json
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jsonschema
import pytest

from promptreel.schemas.errors import PromptError
from promptreel.schemas.prompt import check_json_schema
from promptreel.schemas.validation import (
    MAX_CHARS,
    MAX_EXPANDED,
    MAX_NESTING,
    check_is_closed,
    validator_of,
)


def object_with(**keywords):
    return {"type": "object", "properties": {"a": {"type": "string"}}, **keywords}


@pytest.fixture
def canary():
    """Address of a server that must receive no request, and the list of requested paths."""
    requested = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requested.append(self.path)
            body = b"{}"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", requested
        server.shutdown()


POSITIONS = {
    "allOf": lambda part: {"allOf": [part]},
    "not": lambda part: {"not": part},
    "if": lambda part: {"if": part},
    "dependentSchemas": lambda part: {"dependentSchemas": {"a": part}},
    "propertyNames": lambda part: {"propertyNames": part},
    "additionalProperties": lambda part: {"properties": {"a": {"type": "object", "additionalProperties": part}}},
    "prefixItems": lambda part: {"properties": {"a": {"type": "array", "prefixItems": [part]}}},
    "contains": lambda part: {"properties": {"a": {"type": "array", "contains": part}}},
    "definitions": lambda part: {"$defs": {"d": part}},
    "several": lambda part: {"properties": {"a": {"anyOf": [part, {"type": "string"}, {"type": "integer"}]}}},
}


@pytest.mark.parametrize("position", POSITIONS)
def test_references_outside_the_schema_are_rejected(position, canary, tmp_path):
    address, requested = canary
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"required": ["pw_hunter2"]}))
    for target in (f"{address}/schema", secret.as_uri(), "other.json", "urn:x:y"):
        schema = object_with(**POSITIONS[position]({"$ref": target}))
        with pytest.raises(PromptError, match=r"\$ref .* is not local"):
            check_json_schema(schema, "json_schema")
        # The validator makes no request even for an unchecked schema.
        with pytest.raises(Exception, match=r"(?i)unresolvable|retrieve|fit|Unretrievable"):
            list(validator_of(object_with(allOf=[{"$ref": target}])).iter_errors({"a": "x"}))
    assert requested == []


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"allOf": [{"$ref": "#/nope"}]}, "points to nothing"),
        ({"allOf": [{"$ref": "#/title"}], "title": "t"}, "does not point to a schema"),
        ({"allOf": [{"$ref": "#/x/y"}], "x": {"y": {"$ref": "http://h/"}}}, "is not local"),
        ({"properties": {"a": {"not": {"$ref": "#/x/y"}}}, "x": {"y": {}}}, "does not point to a schema"),
        ({"allOf": [{"$ref": "#"}]}, "circular"),
        ({"properties": {"a": {"anyOf": [{"properties": {"b": {"$ref": "#"}}}, {}]}}}, "field 'a.b': .* circular"),
        ({"$defs": {"b": {"not": {"allOf": [{"$ref": "#/$defs/b"}]}}}, "if": {"$ref": "#/$defs/b"}}, "circular"),
        ({"not": {"$dynamicRef": "#x"}}, r"\$dynamicRef"),
        ({"not": {"$id": "http://h/x"}}, r"\$id"),
        ({"not": {"$schema": "http://json-schema.org/draft-07/schema#"}}, r"\$schema"),
        ({"patternProperties": {"^(a+)+$": {}}}, "patternProperties"),
        ({"properties": {"a": {"type": "string", "pattern": "(?=a)b"}}}, r"pattern '\(\?=a\)b'.*RE2"),
        ({"propertyNames": {"pattern": "("}}, "pattern"),
        ({"properties": {"a": {"anyOf": 5}}}, "not a valid JSON schema"),
        ({"properties": {"a": {"oneOf": {"x": 1}}}}, "not a valid JSON schema"),
        ({"description": "x" * MAX_CHARS}, "characters"),
    ],
)
def test_unsupported_keyword_is_rejected_by_name(keywords, message):
    with pytest.raises(PromptError, match=message):
        check_json_schema(object_with(**keywords), "json_schema")


def test_nesting_is_bounded():
    def nested(levels):
        part = {"type": "string"}
        for _ in range(levels):
            part = {"not": part}
        return object_with(allOf=[part])

    check_json_schema(nested(MAX_NESTING - 4), "json_schema")
    with pytest.raises(PromptError, match="nested deeper"):
        check_json_schema(nested(5_000), "json_schema")


def test_expanded_references_are_bounded():
    def doubled(times):
        chain = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(times)}
        return object_with(**{"$defs": {**chain, f"d{times}": {"type": "object"}}, "allOf": [{"$ref": "#/$defs/d0"}]})

    check_json_schema(doubled(8), "json_schema")
    with pytest.raises(PromptError, match=str(MAX_EXPANDED)):
        check_json_schema(doubled(20), "json_schema")


@pytest.mark.parametrize("link", ["not", "allOf", "anyOf"])
def test_chain_of_references_is_bounded(link):
    def chained(times):
        def refer(number):
            part = {"$ref": f"#/$defs/d{number}"}
            return {link: part if link == "not" else [part, {"minLength": 1}]}

        return object_with(
            properties={"a": refer(0), "b": {"type": "object", **refer(0)}},
            **{"$defs": {**{f"d{n}": refer(n + 1) for n in range(times)}, f"d{times}": {}}},
        )

    check_json_schema(chained(20), "json_schema")
    with pytest.raises(PromptError, match="nested deeper"):
        check_json_schema(chained(800), "json_schema")


def test_backtracking_pattern_matches_in_linear_time():
    schema = object_with(properties={"a": {"type": "string", "pattern": "^(a+)+$"}})
    check_json_schema(schema, "json_schema")
    assert validator_of(schema).is_valid({"a": "a" * 100_000})
    assert not validator_of(schema).is_valid({"a": "a" * 100_000 + "!"})


def test_root_id_and_dialect_do_not_change_validation():
    schema = object_with(
        **{"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://example.com/x"},
        properties={"a": {"$ref": "#/$defs/code"}},
    )
    schema["$defs"] = {"code": {"type": "string", "pattern": "^(x+)+$"}}
    check_json_schema(schema, "json_schema")
    assert validator_of(schema).is_valid({"a": "xx"})
    assert not validator_of(schema).is_valid({"a": "x" * 60 + "!"})


def test_validation_agrees_with_jsonschema():
    """Compare random values, on a schema without the keywords that are handled differently."""
    schema = {
        "type": "object",
        "properties": {
            "tags": {"type": "array", "items": {"enum": ["x", 1, 1.5, None, True]}, "uniqueItems": True, "maxItems": 4},
            "code": {"type": ["string", "null"], "pattern": "^[a-c]{1,2}$"},
            "more": {"oneOf": [{"$ref": "#/$defs/n"}, {"type": "object", "required": ["k"]}]},
        },
        "required": ["tags"],
        "additionalProperties": False,
        "$defs": {"n": {"type": "number", "multipleOf": 0.5}},
    }
    check_json_schema(schema, "json_schema")
    rng = random.Random(7)
    plain, ours = jsonschema.Draft202012Validator(schema), validator_of(schema)
    verdicts = set()
    for _ in range(3000):
        value = {"tags": rng.choices(["x", 1, 1.0, 1.5, None, True, 2], k=rng.randrange(5))}
        if rng.random() < 0.7:
            value["code"] = rng.choice(["a", "ab", "abc", "d", "", None, "a\n"])
        if rng.random() < 0.5:
            value["more"] = rng.choice([1, 1.5, 0.3, {"k": 1}, {}, "n"])
        if rng.random() < 0.1:
            value["unknown"] = 1
        if value.get("code") == "a\n":  # Python's `$` matches before a trailing newline; ECMA-262's and RE2's do not
            assert not ours.is_valid(value)
            continue
        verdicts.add(ours.is_valid(value))
        assert ours.is_valid(value) == plain.is_valid(value), value
    assert verdicts == {True, False}


def test_equal_numbers_are_not_unique():
    schema = object_with(properties={"a": {"type": "array", "uniqueItems": True}})
    check_is_closed(schema, "json_schema")
    validator = validator_of(schema)
    assert not validator.is_valid({"a": [1, 1.0]})
    assert not validator.is_valid({"a": [{"x": [2.0]}, {"x": [2]}]})
    assert validator.is_valid({"a": [1, True, "1", None, [1], {"x": 1}]})
