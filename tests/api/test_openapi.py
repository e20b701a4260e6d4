"""The OpenAPI schema: complete, with valid examples, and consistent with the responses of the API."""

import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from promptreel.api.config import RateLimitSettings
from tests.api_server import ApiServer, ok_json
from tests.pipeline_runs import make_image

pytest_plugins = ["tests.api_fixtures"]

# A request may match the schema and still be rejected for rules that JSON Schema cannot express, e.g. a field that the
# built-in model cannot fill, or an unknown field path.
SETTINGS = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 401, 403, 404, 409, 422, 429]

# Nested groups of conditions have tens of thousands of variants to cover; random ones are still generated.
[[operations]]
include-path-regex = "/search/filter/"
phases.coverage.enabled = false
"""


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    """A server without a supervisor, and an account with an index, a video, a prompt and a run."""
    folder = tmp_path_factory.mktemp("fuzzed")
    limits = RateLimitSettings(**dict.fromkeys(("search", "read", "write", "upload"), 10_000_000))
    with ApiServer(folder / "data", supervise=False, rate_limits=limits) as server:
        server.someone = server.caller()
        index_id = server.someone.index()
        server.someone.video(make_image(folder / "c.png"), index_id)
        server.someone.start(server.someone.prompt(), {"type": "index", "index_id": index_id})
        yield server


@pytest.fixture(scope="module")
def description(fuzzed):
    return ok_json(fuzzed.someone.get("/openapi.json"))


def test_every_operation_has_a_description_and_its_errors(description):
    names = []
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            label = f"{method} {path}"
            names.append(operation["operationId"])
            assert operation["summary"], label
            assert operation["description"], label
            assert operation["tags"], label
            assert {"401", "403", "404", "422", "429"} <= set(operation["responses"]), label
            if not path.endswith("/content"):
                assert operation["security"] == [{"apiKey": []}, {"bearer": []}], label
    assert len(set(names)) == len(names)


def test_every_json_body_has_valid_examples(description):
    def resolve(schema):
        if "anyOf" in schema:  # an optional body
            schema = next(part for part in schema["anyOf"] if "$ref" in part)
        return description["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema

    seen = 0
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" not in content:
                continue
            schema = resolve(content["application/json"]["schema"])
            assert schema.get("examples"), f"{method} {path} has no example"
            for example in schema["examples"]:
                jsonschema.Draft202012Validator({**schema, "components": description["components"]}).validate(example)
                seen += 1
    assert seen >= 12


def test_the_example_of_a_prompt_can_be_created(fuzzed, description):
    example = description["components"]["schemas"]["CreatePrompt"]["examples"][0]
    ok_json(fuzzed.someone.post("/prompts", example), 201)


def fuzz(server, folder, examples):
    """Let schemathesis send valid and invalid requests to every operation and apply all its checks to the responses: no
    5xx, documented statuses and bodies, required keys, deleted resources, and more."""
    (folder / "schemathesis.toml").write_text(SETTINGS)
    command = [Path(sys.executable).parent / "schemathesis", "run", f"{server.base_url}/api/v2/openapi.json"]
    command += [
        "--checks",
        "all",
        "--max-examples",
        str(examples),
        "--seed",
        "1",
        "--continue-on-failure",
        "--no-color",
    ]
    # A stream does not end; it has its own tests.
    command += ["--header", f"X-API-Key: {server.someone.key}", "--exclude-path-regex", "/stream$"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    assert "Selected: 0/" not in done.stdout
    return done.stdout


def test_fuzzed_requests_match_the_schema(fuzzed, tmp_path):
    output = fuzz(fuzzed, tmp_path, examples=2)
    assert int(re.search(r"Tested: (\d+)", output).group(1)) >= 50
    assert int(re.search(r"(\d+) generated", output).group(1)) >= 1000


@pytest.mark.slow
def test_many_fuzzed_requests_match_the_schema(fuzzed, tmp_path):
    fuzz(fuzzed, tmp_path, examples=100)
