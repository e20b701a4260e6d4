"""The API's own description: complete, with examples that hold, and never contradicted by what the API answers."""

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

# A request can fit its description and still be refused, for what a JSON schema cannot say: a field that the built-in model
# cannot fill, a path of a field that there is not.
SETTINGS = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 401, 403, 404, 409, 422, 429]

# Conditions within groups within groups have tens of thousands of variants to cover; made-up ones are tried all the same.
[[operations]]
include-path-regex = "/search/filter/"
phases.coverage.enabled = false
"""


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    """A server that executes nothing, with an account that has some of everything."""
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


def test_every_operation_is_named_described_and_says_how_it_fails(description):
    names = []
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            place = f"{method} {path}"
            names.append(operation["operationId"])
            assert operation["summary"], place
            assert operation["description"], place
            assert operation["tags"], place
            assert {"401", "403", "404", "422", "429"} <= set(operation["responses"]), place
            if not path.endswith("/content"):
                assert operation["security"] == [{"apiKey": []}, {"bearer": []}], place
    assert len(set(names)) == len(names)


def test_every_json_body_has_examples_that_hold(description):
    def resolve(schema):
        if "anyOf" in schema:  # a body that may be absent
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
    """Sends made-up requests to every operation, right ones and wrong ones, and lets schemathesis check every answer by all
    that it knows: no 5xx, statuses, types and bodies as described, keys asked for, deleted things gone, and so on."""
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
    # A stream does not end; its own tests read it.
    command += ["--header", f"X-API-Key: {server.someone.key}", "--exclude-path-regex", "/stream$"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    assert "Selected: 0/" not in done.stdout
    return done.stdout


def test_no_made_up_request_breaks_the_service_or_its_description(fuzzed, tmp_path):
    shown = fuzz(fuzzed, tmp_path, examples=2)
    assert int(re.search(r"Tested: (\d+)", shown).group(1)) >= 50
    assert int(re.search(r"(\d+) generated", shown).group(1)) >= 1000


@pytest.mark.slow
def test_no_one_of_many_made_up_requests_breaks_the_service_or_its_description(fuzzed, tmp_path):
    fuzz(fuzzed, tmp_path, examples=100)
