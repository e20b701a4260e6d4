"""Error responses: one format, an exact code, and a message that names the problem. Validation of request bodies."""

import json

import pytest

from tests.api_server import MEASURE, ApiServer, assert_error, ok_json

pytest_plugins = ["tests.api_fixtures"]

UNSUPPORTED = [
    ("GET", "/webhooks"),
    ("GET", "/webhooks/events"),
    ("GET", "/billing/balance"),
    ("GET", "/usage/summary"),
    ("GET", "/connectors"),
    ("POST", "/workflow/define"),
    ("GET", "/indexes/"),
    ("GET", "/prompt-runs/run_1/"),
]


@pytest.mark.parametrize(("method", "path"), UNSUPPORTED)
def test_an_unsupported_path_is_404_without_a_redirect(caller, method, path):
    assert_error(caller.request(method, path), 404, "endpoint_not_supported")


def test_an_unsupported_method_is_405_with_allowed_methods(caller):
    response = caller.request("PATCH", "/prompts/prompt_1")
    assert_error(response, 405, "method_not_allowed")
    assert response.headers["Allow"] == "DELETE, GET, PUT"
    assert caller.request("DELETE", "/rate-limit/status").headers["Allow"] == "GET"


@pytest.mark.parametrize("body", ['{"name": ', "{'name': 'x'}", "", "\x00", "[" * 100_000])
def test_a_body_that_is_not_json_is_malformed(caller, body):
    response = caller.post("/indexes", content=body.encode(), headers={"Content-Type": "application/json"})
    assert response.status_code in ((422,) if body == "" else (400,))
    assert_error(response, response.status_code, response.json()["error"]["code"])
    assert ok_json(caller.get("/indexes")) == []


def test_a_body_that_is_not_utf_8_is_malformed(caller):
    response = caller.post("/indexes", content=b'{"name": "\xff"}', headers={"Content-Type": "application/json"})
    assert_error(response, 400, "malformed_request")


def test_every_problem_of_a_body_has_its_path(caller):
    error = assert_error(caller.post("/prompts", {"name": "x", "json_schema": []}), 422, "validation_failed")
    paths = {problem["path"] for problem in error["details"]["errors"]}
    assert paths == {"body.name", "body.prompt_text", "body.json_schema"}
    assert all(problem["message"] for problem in error["details"]["errors"])


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array"},
        {"type": "object", "properties": {"a.b": {"type": "string"}}},
        {"type": "object", "properties": {"transcription": {"type": "string"}}},
        {"type": "object", "properties": {"a": {"type": "wish"}}},
        {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:1/schema.json"}}},
        {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}},
        {"type": "object", "allOf": [{"$ref": "http://127.0.0.1:1/schema.json"}]},
        {"type": "object", "allOf": [{"$ref": "#"}]},
        {"type": "object", "not": {"$ref": "#/nope"}},
        {"type": "object", "properties": {"a": {"anyOf": 5}}},
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}},
    ],
)
def test_an_invalid_schema_is_rejected(caller, schema):
    error = assert_error(caller.post("/prompts", {**MEASURE, "json_schema": schema}), 422, "validation_failed")
    assert "json_schema" in error["message"]
    verdict = ok_json(caller.post("/prompts/test-schema", {"json_schema": schema, "sample_data": {}}))
    assert verdict["valid"] is False
    assert verdict["error"]


def test_a_sample_is_validated_like_an_answer(caller):
    time = {"type": "NUMBER", "format": "media-time", "nullable": True}
    schema = {"type": "OBJECT", "properties": {"at": time, "until": time}}
    body = {"json_schema": schema, "sample_data": {"at": "00:03", "until": None}}
    assert ok_json(caller.post("/prompts/test-schema", body))["validated_data"] == {"at": 3, "until": None}
    created = ok_json(caller.post("/prompts", {**MEASURE, "json_schema": schema}), 201)
    assert created["json_schema"]["properties"]["at"] == {"type": ["number", "null"], "format": "media-time"}


def test_a_sample_too_large_to_validate_is_rejected(caller):
    body = {"json_schema": {"type": "object"}, "sample_data": {"a": "x" * 100_000}}
    verdict = ok_json(caller.post("/prompts/test-schema", body))
    assert verdict["valid"] is False
    assert "sample_data" in verdict["error"]


UNSTORABLE = [
    '"\\u0000"',
    '"half \\ud83d of a pair"',
    "NaN",
    "-Infinity",
    str(2**63),
    "1" * 400,
    "[" * 80 + "]" * 80,
    '{"\\udc00": 1}',
]


@pytest.mark.parametrize("value", UNSTORABLE)
def test_a_value_that_cannot_be_stored_is_rejected(caller, value):
    prompt = {**MEASURE, "json_schema": {"type": "object", "properties": {"a": {"default": "VALUE"}}}}
    body = json.dumps(prompt).replace('"VALUE"', value)
    response = caller.post("/prompts", content=body, headers={"Content-Type": "application/json"})
    assert_error(response, 422, "validation_failed")
    assert ok_json(caller.get("/prompts"))["total_count"] == 0


def test_a_form_with_a_nul_is_rejected(caller, api_media):
    assert_error(caller.upload(api_media / "c.png", title="a\0b"), 422, "validation_failed")


def test_a_valid_request_id_of_the_client_is_used(caller):
    generated = assert_error(caller.get("/nowhere"), 404, "endpoint_not_supported")["request_id"]
    assert generated.startswith("req_")
    response = caller.get("/nowhere", headers={"X-Request-ID": "trace-7"})
    assert assert_error(response, 404, "endpoint_not_supported")["request_id"] == "trace-7"
    invalid = caller.get("/nowhere", headers={"X-Request-ID": "a b\tc"})
    assert assert_error(invalid, 404, "endpoint_not_supported")["request_id"].startswith("req_")


def test_an_internal_error_does_not_reveal_its_cause(tmp_path):
    with ApiServer(tmp_path / "data", supervise=False) as server:

        def broken():
            raise RuntimeError("the password is swordfish")

        server.app.add_api_route("/api/v2/broken", broken)
        response = server.stranger().get("/broken")
        error = assert_error(response, 500, "internal_error")
        assert "swordfish" not in json.dumps(error)
