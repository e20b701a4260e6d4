"""Keys come back in the order of the prompt's schema: in prompts, results, searches, exports and schemas."""

import json

from promptreel.api.db.models import PromptRecord
from tests.api_server import DESCRIBE, ApiServer, ok_json
from tests.pipeline_runs import plain_rows, wait_for

pytest_plugins = ["tests.api_fixtures"]

FIELDS = list(DESCRIBE["json_schema"]["properties"])
SCHEMA = {
    "type": "object",
    "properties": {
        "zoo": {"type": "object", "properties": {"wolf": {"type": "string"}, "ape": {"type": "string"}}},
        "art": {"type": "array", "items": {"type": "object", "properties": {"year": {"type": "integer"}, "by": {}}}},
        "mood": {"type": "string"},
    },
    "required": ["zoo", "art", "mood"],
}


def test_results_have_their_keys_in_the_order_of_the_schema(world):
    caller = world.caller
    assert sorted(FIELDS) != FIELDS
    results = ok_json(caller.get(f"/prompt-runs/{world.run_id}/results?video_id={world.video_id}"))["data"]
    segments = ok_json(caller.get(f"/videos/{world.video_id}/segments?run_id={world.run_id}"))["data"]
    found = [row["metadata"] for row in (*results, *segments) if row["metadata"]]
    assert len(found) == 4
    condition = {"field": "summary", "type": "string", "operator": "is_not_empty"}
    body = {"conditions": [condition], "run_ids": [world.run_id]}
    hits = ok_json(caller.post(f"/search/filter/{world.index_id}", body))["results"]
    assert len(hits) == 5
    found += [hit["metadata"] for hit in hits]
    found += [json.loads(row["metadata"]) for row in plain_rows(world.service.data, world.run_id, "results")]
    assert {tuple(metadata) for metadata in found} == {tuple(FIELDS)}
    schema_used = json.loads(results[0]["schema_used"])
    assert json.dumps(schema_used) == json.dumps(DESCRIBE["json_schema"])


def test_exports_have_their_keys_in_the_order_of_the_schema(world):
    export_id = ok_json(world.caller.post(f"/exports/prompt-run/{world.run_id}"), 202)["export_id"]
    wait_for(lambda: ok_json(world.caller.get(f"/exports/{export_id}"))["status"] == "completed", 30)
    (run,) = ok_json(world.caller.get(f"/exports/{export_id}/download"))["runs"]
    segments = [segment for item in run["media"] for segment in item["segments"] if segment["metadata"]]
    assert {tuple(segment["metadata"]) for segment in segments} == {tuple(FIELDS)}
    assert json.dumps(run["prompt"]["json_schema"]) == json.dumps(DESCRIBE["json_schema"])


def check_prompt_order(server):
    """Check the order of a prompt's keys as answered, as stored, and after an update."""
    caller = server.caller()
    body = {"name": "order", "prompt_text": "Describe the segment.", "json_schema": SCHEMA}
    prompt_id = ok_json(caller.post("/prompts", body), 201)["prompt_id"]
    ok_json(caller.put(f"/prompts/{prompt_id}", json={"description": "changed"}))
    assert json.dumps(ok_json(caller.get(f"/prompts/{prompt_id}"))["json_schema"]) == json.dumps(SCHEMA)
    with server.app.state.database.read() as session:
        stored = session.get(PromptRecord, prompt_id).definition["json_schema"]
    assert json.dumps(stored) == json.dumps(SCHEMA)


def test_schemas_keep_the_order_of_their_keys(service):
    check_prompt_order(service)


def test_schemas_keep_the_order_of_their_keys_in_postgresql(postgres, tmp_path):
    with ApiServer(tmp_path / "data", supervise=False, database_url=postgres.new_database()) as server:
        check_prompt_order(server)
