"""Every request that the SDK builds matches the OpenAPI description of the service."""

import inspect
import io
import re
from types import SimpleNamespace

import pytest

from promptreel.schemas.wire.prompt_runs import ExecuteRun
from promptreel.schemas.wire.run_targets import VideosTarget
from promptreel.sdk import resources
from promptreel.sdk.calls import api_keys, indexes, playground, prompt_runs, prompts, service, videos
from promptreel.sdk.events import stream_request
from promptreel.sdk.request import Listing

BUILDERS = [
    prompt_runs.execute("p", {"type": "playground"}, video_segmentation_type="smart"),
    prompt_runs.estimate("p", {"type": "playground"}),
    prompt_runs.retrieve("r"),
    prompt_runs.list_runs(limit=1),
    prompt_runs.list_results("r", "v", limit=1).after("c"),
    prompt_runs.diff("r", "o", include_same=True, field="f", change="added", limit=1).after("c"),
    prompt_runs.get_video_result("r", "v"),
    prompt_runs.get_failed_segments("r"),
    prompt_runs.get_llm_calls("r"),
    prompt_runs.cancel("r"),
    prompt_runs.retry_segment("r", "v", "s"),
    prompt_runs.get_segment_retry_status("r", "v", "s", "t"),
    prompt_runs.retry_failures("r", operations=["processing"], codes=["c"], video_ids=["v"]),
    prompt_runs.get_retry_status("r", "t"),
    prompts.create("n", "t", {}, description="d", video_level={}, semantic_indexing={}, media={}),
    prompts.retrieve("p"),
    prompts.list_prompts(),
    prompts.update("p", name="n", clear_video_level=True, is_active=True),
    prompts.delete("p", force=True),
    prompts.usage("p"),
    prompts.test_schema({}, {}),
    indexes.create("n", description="d"),
    indexes.retrieve("i"),
    indexes.list_indexes(),
    indexes.list_videos("i", limit=1).after("c"),
    indexes.list_prompt_runs("i", limit=1).after("c"),
    indexes.delete("i"),
    indexes.deletion("i"),
    videos.upload(io.BytesIO(b"a"), filename="a.mp4"),
    videos.register("t", "u", index_id="i"),
    videos.retrieve("v"),
    videos.delete("v"),
    videos.deletion("v"),
    videos.list_segments("v", run_id="r", latest_run=True, limit=1).after("c"),
    videos.list_prompt_runs("v", limit=1),
    videos.batch(["v"]),
    videos.batch_status(["v"]),
    videos.batch_segments(video_ids=["v"]),
    videos.signed_url("u", force_refresh=True),
    playground.list_videos(limit=1).after("c"),
    api_keys.create("n", scopes=["read"], expires_in_days=1),
    api_keys.retrieve("k"),
    api_keys.list_keys(),
    api_keys.delete("k"),
    api_keys.revoke("k"),
    api_keys.rotate("k"),
    service.validate(),
    service.rate_limit_status(),
    SimpleNamespace(request=stream_request("r", "i", ["v"], ["t"], 1)),
]


@pytest.mark.parametrize("call", BUILDERS, ids=lambda call: str(call.request))
def test_requests_match_the_openapi_description(real_service, call):
    request = call.request
    description = real_service.app.openapi()
    matches = [
        operations[request.method.lower()]
        for path, operations in description["paths"].items()
        if re.fullmatch(re.sub(r"\{\w+\}", "[a-z]", path), "/api/v2" + request.path)
        and request.method.lower() in operations
    ]
    assert len(matches) == 1, request
    parameters = matches[0].get("parameters", [])
    assert set(request.params) <= {entry["name"] for entry in parameters if entry["in"] == "query"}
    accepts_key = any(entry["name"] == "Idempotency-Key" for entry in parameters)
    assert (request.idempotency is not None) == accepts_key
    described = matches[0].get("requestBody", {})
    content = described.get("content", {})
    if request.json is not None:
        body = content["application/json"]["schema"]["$ref"].split("/")[-1]
        assert set(request.json) <= set(description["components"]["schemas"][body]["properties"])
    else:
        assert not described.get("required") or request.file is not None
    if isinstance(call, Listing):
        assert "cursor" in request.params


def test_run_settings_match_the_wire_schema():
    parameters = {*prompt_runs.ExecuteOptions.__annotations__, "prompt_id", "target"}
    assert parameters == set(ExecuteRun.model_fields)
    for method in (resources.PromptRuns.execute, resources.PromptRuns.estimate):
        assert set(inspect.signature(method).parameters) - {"self", "idempotency_key"} == parameters


def test_execute_and_estimate_send_the_same_settings():
    target, settings = VideosTarget(type="videos", video_ids=["v"]), {"video_segmentation_type": "fixed"}
    started = prompt_runs.execute("p", target, video_segment_duration=5, processing_model=None, **settings)
    estimated = prompt_runs.estimate("p", target, video_segment_duration=5, processing_model=None, **settings)
    body = {"prompt_id": "p", "target": {"type": "videos", "video_ids": ["v"]}, "video_segment_duration": 5, **settings}
    assert started.request.json == estimated.request.json == body
    assert ExecuteRun.model_validate(body).model_dump(mode="json", exclude_unset=True) == body


def test_every_request_builder_is_checked():
    modules = (prompt_runs, prompts, indexes, videos, playground, api_keys, service)
    builders = {
        (module.__name__, name)
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and (module, name) != (playground, "search")
    }
    assert len(builders) == len(BUILDERS) - 1  # the stream request is built in promptreel.sdk.events
