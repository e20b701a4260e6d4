"""What a request sends in vain is named: unknown fields in a header, and in the warnings of runs; misspelt filters are
rejected."""

import json

import pytest

from promptreel.api import app
from promptreel.api.web.route import ApiRoute
from tests.api_server import DESCRIBE, MEASURE, ApiServer, assert_error, ok_json
from tests.pipeline_runs import make_image

pytest_plugins = ["tests.api_fixtures"]

HEADER = "X-Request-Warning"


@pytest.mark.parametrize(
    ("path", "misspelt", "meant"),
    [
        ("/videos/{video_id}/segments", "runid", "run_id"),
        ("/prompt-runs/{run_id}/results?video_id={video_id}", "Limit", "limit"),
        ("/prompts", "active_onli", "active_only"),
        ("/processing/events/stream", "video_id", "video_ids"),
    ],
)
def test_a_misspelt_query_parameter_is_rejected(world, path, misspelt, meant):
    path = path.format(**vars(world))
    path = f"{path}{'&' if '?' in path else '?'}{misspelt}=x"
    error = assert_error(world.caller.get(path), 422, "validation_failed")
    assert f"query.{misspelt}" in error["message"]
    assert repr(meant) in error["message"]
    assert_error(world.service.stranger().get(path), 401, "authentication_required")


def test_other_unknown_query_parameters_are_named_and_ignored(world):
    path = f"/import-jobs/job_{world.video_id}/outputs"
    response = world.caller.get(path, params={"limit": 100, "colour": "blü\n"})
    assert ok_json(response)["total"] == 1
    assert response.headers[HEADER] == (
        "ignored: unknown field 'limit'; no fields are allowed here; "
        "ignored: unknown field 'colour'; no fields are allowed here"
    )
    assert HEADER not in world.caller.get(path).headers


def test_unknown_fields_of_a_prompt_are_named(caller):
    body = {**MEASURE, "json_shema": {}, "selection_filter": {"a": 1}, "ünknown\n": 1, "video_level": None}
    response = caller.post("/prompts", body)
    assert "json_shema" not in ok_json(response, 201)
    header = response.headers[HEADER]
    assert "'json_shema'; did you mean 'json_schema'?" in header
    assert "selection_filter" in header
    assert header.isascii()
    update = caller.put(f"/prompts/{response.json()['prompt_id']}", json={"describtion": "a"})
    assert ok_json(update)["description"] == ""
    assert "did you mean 'description'?" in update.headers[HEADER]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (
            {"video_level": {**DESCRIBE["video_level"], "included_segment_feilds": ["summary"]}},
            "included_segment_feilds",
        ),
        ({"semantic_indexing": {"disabled_segment_field": ["summary"]}}, "disabled_segment_field"),
    ],
)
def test_a_misspelt_part_of_a_prompt_is_rejected(caller, change, field):
    error = assert_error(caller.post("/prompts", {**DESCRIBE, **change}), 422, "validation_failed")
    assert "did you mean" in error["message"]
    assert error["details"]["errors"][0]["path"].endswith(f".{field}")


def test_an_unknown_field_of_an_upload_is_named(caller, api_media):
    with (api_media / "c.png").open("rb") as file:
        form = {"title": "c", "indexid": "idx_1"}
        response = caller.post("/videos/upload", data=form, files={"file": ("c.png", file)})
    assert ok_json(response, 201)["index_id"] is None
    assert "'indexid'; did you mean 'index_id'?" in response.headers[HEADER]


def test_a_repeated_key_is_rejected_anywhere(caller):
    text = json.dumps({**MEASURE, "name": "first"})[:-1] + ', "name": "second"}'
    response = caller.post("/prompts", content=text, headers={"Content-Type": "application/json"})
    error = assert_error(response, 400, "malformed_json")
    assert "the key 'name' occurs more than once" in error["message"]


def test_warnings_of_a_request_stay_with_its_run(caller, api_media):
    caller.video(api_media / "c.png")
    options = {"video_segmentation_typ": "smart", "audio_segmentation_type": "content_aware"}
    run = ok_json(caller.execute(caller.prompt(), {"type": "playground"}, **options), 202)
    ended = caller.wait(run["run_id"])
    assert ended["status"] == "completed"
    for body in (run, ended, ok_json(caller.get("/prompt-runs"))[0]):
        assert body["warnings"][:2] == [
            "ignored: unknown field 'video_segmentation_typ'; did you mean 'video_segmentation_type'?",
            "ignored: audio_segment_duration is 1, but audio_segmentation_type is 'content_aware'; "
            "it applies only to 'fixed'",
        ]
        assert "request_warnings" not in body


def test_the_same_key_with_another_unknown_field_is_other_content(tmp_path):
    with ApiServer(tmp_path / "data", supervise=False) as server:
        caller = server.caller()
        caller.video(make_image(tmp_path / "c.png"))
        prompt_id, target = caller.prompt(), {"type": "playground"}
        first = ok_json(caller.execute(prompt_id, target, key="k", colour="blue"), 202)
        assert ok_json(caller.execute(prompt_id, target, key="k", colour="blue"), 202) == first
        again = caller.execute(prompt_id, target, key="k", colour="red")
        assert_error(again, 409, "idempotency_request_mismatch")


def test_every_route_of_the_api_names_what_it_ignores():
    routes = [route for router in app._ROUTERS for route in router.routes]
    assert len(routes) > 60
    assert [route.path for route in routes if not isinstance(route, ApiRoute)] == []
