"""Response bodies: they match their models in `schemas/wire` exactly, and agree with the tables of the run."""

import json

import httpx2 as httpx
import pydantic
import pytest

from promptreel.api.web.json_response import JsonResponse
from promptreel.schemas.wire.accounts import ApiKeyBody, NewApiKey, RateStatus, RotatedApiKey
from promptreel.schemas.wire.common import DeletionStatus, Message, Page, RunPage
from promptreel.schemas.wire.failed_segments import FailedSegments
from promptreel.schemas.wire.indexes import IndexBody
from promptreel.schemas.wire.llm_calls import LlmCallBody
from promptreel.schemas.wire.prompt_runs import (
    PromptRunBody,
    RunEstimateBody,
    SegmentResult,
    VideoResult,
)
from promptreel.schemas.wire.prompts import PromptBody, PromptList, PromptUsage, SchemaVerdict
from promptreel.schemas.wire.videos import (
    ImportOutputs,
    RegisteredVideo,
    SegmentBody,
    SignedUrl,
    VideoBody,
    VideoSegments,
    VideoStatus,
    VideoWithDetails,
)
from tests.api_server import DESCRIBE, MEASURE, MODEL, WINDOWS, assert_error, ok_json
from tests.pipeline_runs import plain_rows

pytest_plugins = ["tests.api_fixtures"]

READS = {
    "prompt run": ("/prompt-runs/{run_id}", PromptRunBody),
    "failed run": ("/prompt-runs/{lost_id}", PromptRunBody),
    "prompt runs": ("/prompt-runs?limit=2", list[PromptRunBody]),
    "results": ("/prompt-runs/{run_id}/results?video_id={video_id}", RunPage[SegmentResult]),
    "results of an image": ("/prompt-runs/{run_id}/results?video_id={image_id}", RunPage[SegmentResult]),
    "video result": ("/prompt-runs/{run_id}/videos/{video_id}/video-result", VideoResult),
    "failed segments": ("/prompt-runs/{run_id}/failed-segments", FailedSegments),
    "failed item": ("/prompt-runs/{lost_id}/failed-segments", FailedSegments),
    "llm calls": ("/prompt-runs/{run_id}/llm-calls", list[LlmCallBody]),
    "prompt": ("/prompts/{prompt_id}", PromptBody),
    "prompts": ("/prompts", PromptList),
    "prompt usage": ("/prompts/{prompt_id}/usage", PromptUsage),
    "index": ("/indexes/{index_id}", IndexBody),
    "indexes": ("/indexes?include_defaults=true", list[IndexBody]),
    "videos of an index": ("/indexes/{index_id}/videos", Page[VideoBody]),
    "runs of an index": ("/indexes/{index_id}/prompt-runs", Page[PromptRunBody]),
    "video": ("/videos/{video_id}", VideoBody),
    "segments": ("/videos/{video_id}/segments", RunPage[SegmentBody]),
    "segments of a run": ("/videos/{video_id}/segments?run_id={measured_id}&latest_run=false", RunPage[SegmentBody]),
    "runs of a video": ("/videos/{video_id}/prompt-runs", list[PromptRunBody]),
    "import job": ("/import-jobs/job_{video_id}", RegisteredVideo),
    "import outputs": ("/import-jobs/job_{video_id}/outputs?limit=100", ImportOutputs),
    "playground": ("/playground/videos", Page[VideoBody]),
    "keys": ("/api-keys", list[ApiKeyBody]),
    "rate limits": ("/rate-limit/status", RateStatus),
}


def validate_exactly(model, body):
    """Check that a body has exactly the fields of its model; return it."""
    parsed = pydantic.TypeAdapter(model).validate_python(body, extra="forbid")
    assert pydantic.TypeAdapter(model).dump_python(parsed, mode="json") == body
    return body


@pytest.mark.parametrize("name", READS)
def test_a_response_matches_its_model(world, name):
    path, model = READS[name]
    validate_exactly(model, ok_json(world.caller.get(path.format(**vars(world)))))


def test_responses_to_writes_match_their_models(caller, api_media):
    index_id = validate_exactly(IndexBody, ok_json(caller.post("/indexes", {"name": "one"}), 201))["index_id"]
    prompt = validate_exactly(PromptBody, ok_json(caller.post("/prompts", DESCRIBE), 201))
    validate_exactly(PromptBody, ok_json(caller.put(f"/prompts/{prompt['prompt_id']}", json={"description": ""})))
    sample = {"json_schema": DESCRIBE["json_schema"], "sample_data": {"summary": "a"}}
    verdict = validate_exactly(SchemaVerdict, ok_json(caller.post("/prompts/test-schema", sample)))
    assert (verdict["valid"], verdict["validated_data"]) == (False, None)
    assert "people" in verdict["error"]
    video_id = validate_exactly(RegisteredVideo, ok_json(caller.upload(api_media / "a.mp4", index_id), 201))["video_id"]
    validate_exactly(list[VideoWithDetails], ok_json(caller.post("/videos/batch", {"video_ids": [video_id]})))
    validate_exactly(list[VideoStatus], ok_json(caller.post("/videos/batch/status", {"video_ids": [video_id]})))
    validate_exactly(list[VideoSegments], ok_json(caller.post("/videos/batch/segments", {"video_ids": [video_id]})))
    validate_exactly(SignedUrl, ok_json(caller.post("/videos/signed-url", {"gcs_uri": f"media://{video_id}"})))
    created = validate_exactly(NewApiKey, ok_json(caller.post("/api-keys", {"name": "second"}), 201))
    assert created["scopes"] == ["read"]
    rotated = validate_exactly(RotatedApiKey, ok_json(caller.post(f"/api-keys/{created['key_id']}/rotate")))
    validate_exactly(ApiKeyBody, ok_json(caller.post(f"/api-keys/{rotated['new_key']['key_id']}/revoke")))
    validate_exactly(Message, ok_json(caller.delete(f"/api-keys/{created['key_id']}")))
    validate_exactly(RateStatus, ok_json(caller.post("/rate-limit/refresh")))
    validate_exactly(Message, ok_json(caller.delete(f"/prompts/{prompt['prompt_id']}")))
    validate_exactly(DeletionStatus, ok_json(caller.delete(f"/videos/{video_id}")))
    validate_exactly(DeletionStatus, ok_json(caller.get(f"/videos/{video_id}/deletion")))
    validate_exactly(DeletionStatus, ok_json(caller.delete(f"/indexes/{index_id}")))
    validate_exactly(DeletionStatus, ok_json(caller.get(f"/indexes/{index_id}/deletion")))


@pytest.mark.parametrize("value", [2**70, "half \ud83d of a pair", "\0", 0.1, {"ä": [None, True]}])
def test_any_json_value_can_be_rendered(value):
    assert json.loads(JsonResponse({"metadata": value}).body) == {"metadata": value}


def test_batches_show_media_through_runs(world):
    both = [world.video_id, world.image_id]
    statuses = validate_exactly(
        list[VideoStatus], ok_json(world.caller.post("/videos/batch/status", {"video_ids": both}))
    )
    assert [status["video_id"] for status in statuses] == both
    newest = statuses[0]["processing_status"][0]
    assert newest["total_segments"] == len(newest["segments"]) == 3
    targets = {"targets": [{"video_id": world.video_id, "run_id": world.run_id}, {"video_id": world.image_id}]}
    rows = validate_exactly(list[VideoSegments], ok_json(world.caller.post("/videos/batch/segments", targets)))
    assert [len(row["segments"]) for row in rows] == [3, 1]
    assert rows[0]["run_id"] == world.run_id
    assert [segment["segment_status"] for segment in rows[0]["segments"]] == ["successful", "successful", "failed"]


def test_an_estimate_agrees_with_its_run(world):
    body = {"prompt_id": world.prompt_id, "target": {"type": "index", "index_id": world.index_id}, **WINDOWS}
    estimate = validate_exactly(
        RunEstimateBody, ok_json(world.caller.post("/prompt-runs/estimate", {**body, "processing_model": MODEL}))
    )
    counts = estimate["breakdown"]["prompt_run_estimate"]
    run = world.runs[world.run_id]
    assert counts["eligible_item_count"] == 3
    assert counts["segment_count"] == {"least": 6, "most": 6}
    assert run["total_segments"] == 6
    assert counts["reused_result_count"] == 6  # five segments, and the synthesis of the audio


def test_counters_of_a_run_agree_with_its_tables(world):
    run = world.runs[world.run_id]
    rows = {name: plain_rows(world.service.data, world.run_id, name) for name in ("segments", "failures", "llm_calls")}
    assert run["status"] == "completed_with_failures"
    assert run["total_segments"] == len(rows["segments"])
    assert run["completed_segments"] == sum(row["status"] == "succeeded" for row in rows["segments"])
    assert run["field_extraction_failures"] == sum(row["operation"] == "field_extraction" for row in rows["failures"])
    assert (run["total_videos"], run["partial_videos"], run["completed_videos"]) == (1, 1, 0)
    assert (run["completed_audios"], run["completed_images"]) == (1, 1)
    assert run["field_extraction_succeeded"] is False
    assert run["transcription_succeeded"] is None
    assert run["model_calls"] == len(rows["llm_calls"])
    assert run["actual_tokens"]["total"] == sum(row["total_tokens"] for row in rows["llm_calls"])
    assert run["video_level_completed_items"] == run["video_level_total_items"] == 2
    assert run["run_context"] == {"type": "index", "index_id": world.index_id}
    calls = ok_json(world.caller.get(f"/prompt-runs/{world.run_id}/llm-calls"))
    assert {call["llm_call_id"] for call in calls} == {row["llm_call_id"] for row in rows["llm_calls"]}
    assert {call["purpose"] for call in calls} == {"metadata_extraction", "video_level_synthesis"}


def test_results_list_all_segments_with_their_failures(world):
    results = ok_json(world.caller.get(f"/prompt-runs/{world.run_id}/results?video_id={world.video_id}"))["data"]
    assert [(row["start_time"], row["end_time"]) for row in results] == [(0, 1), (1, 2), (2, 3)]
    assert [row["field_extraction_succeeded"] for row in results] == [True, True, False]
    assert results[2]["metadata"] == {}
    assert results[2]["metadata_text"] == ""
    assert results[2]["field_extraction_error"]
    assert f"summary: {results[0]['metadata']['summary']}" in results[0]["metadata_text"]
    failures = ok_json(world.caller.get(f"/prompt-runs/{world.run_id}/failed-segments"))
    assert failures["failed_segments"] == failures["operation_counts"]["field_extraction"] == 1
    failed = failures["videos"][0]["segments"][0]
    assert failed["segment_id"] == results[2]["segment_id"]
    assert failed["failed_operations"] == ["field_extraction"]
    assert failed["retryable"] is True


def test_a_synthesis_reports_its_sources(world):
    found = ok_json(world.caller.get(f"/prompt-runs/{world.run_id}/videos/{world.video_id}/video-result"))
    assert (found["successful_segment_count"], found["failed_segment_count"]) == (2, 1)
    assert found["template_fields"] == ["summary", "people[].name"]
    assert len(found["omitted_segment_ids"]) == 1
    assert found["status"] == "completed_with_failures"
    assert set(found["metadata"]) == {"topic"}


def test_no_synthesis_means_no_video_result(world):
    for run_id, video_id in ((world.measured_id, world.video_id), (world.run_id, world.image_id)):
        assert_error(
            world.caller.get(f"/prompt-runs/{run_id}/videos/{video_id}/video-result"),
            404,
            "resource_video_result_not_found",
        )


def test_results_are_limited_to_media_of_the_run(world):
    path = f"/prompt-runs/{world.run_id}/results"
    assert_error(world.caller.get(path), 422, "validation_failed")
    assert_error(world.caller.get(path, params={"video_id": world.playground_id}), 404, "resource_video_not_found")


def test_a_signed_url_needs_no_key_and_rejects_changes(world, api_media):
    body = ok_json(
        world.caller.post("/videos/signed-url", {"gcs_uri": f"media://{world.video_id}", "force_refresh": True})
    )
    url = body["signed_url"]
    assert httpx.get(url).content == (api_media / "a.mp4").read_bytes()
    for changed in (url[:-1] + ("0" if url[-1] != "0" else "1"), url.replace(world.video_id, world.image_id)):
        assert_error(httpx.get(changed), 403, "link_expired")
    assert_error(world.caller.post("/videos/signed-url", {"gcs_uri": "gs://other/a"}), 422, "validation_failed")


def test_only_the_sent_fields_of_a_prompt_change(caller):
    prompt_id = caller.prompt({**DESCRIBE, "semantic_indexing": {"disabled_video_level_fields": ["topic"]}})
    before = ok_json(caller.get(f"/prompts/{prompt_id}"))
    after = ok_json(caller.put(f"/prompts/{prompt_id}", json={"name": "renamed", "video_level": None}))
    assert after == {**before, "name": "renamed", "content_id": after["content_id"]}
    assert after["content_id"] != before["content_id"]
    cleared = ok_json(caller.put(f"/prompts/{prompt_id}", json={"description": "", "clear_video_level": True}))
    assert cleared["description"] == ""
    assert cleared["video_level"] is None
    assert ok_json(caller.get(f"/prompts/{prompt_id}")) == cleared


def test_a_prompt_in_use_is_deactivated_only_with_force(caller, api_media):
    prompt_id, video_id = caller.prompt(), caller.video(api_media / "c.png")
    run_id = caller.start(prompt_id, {"type": "videos", "video_ids": [video_id]})
    assert ok_json(caller.get(f"/prompts/{prompt_id}/usage"))["is_in_use"] is True
    assert_error(caller.delete(f"/prompts/{prompt_id}"), 409, "prompt_in_use")
    ok_json(caller.delete(f"/prompts/{prompt_id}?force=true"))
    listed = ok_json(caller.get("/prompts"))
    assert (listed["prompts"], listed["total_count"], listed["active_count"]) == ([], 1, 0)
    assert len(ok_json(caller.get("/prompts?active_only=false"))["prompts"]) == 1
    assert_error(caller.execute(prompt_id, {"type": "videos", "video_ids": [video_id]}), 422, "validation_failed")
    ok_json(caller.post(f"/prompt-runs/{run_id}/cancel"))


def test_deletion_hides_media_and_is_idempotent(caller, service, api_media):
    index_id = caller.index()
    video_id = caller.video(api_media / "c.png", index_id)
    remaining = caller.video(api_media / "c.png")
    assert_error(caller.get(f"/videos/{video_id}/deletion"), 404, "resource_deletion_not_found")
    first = ok_json(caller.delete(f"/indexes/{index_id}"))
    assert first["status"] == "deleted"
    assert ok_json(caller.delete(f"/indexes/{index_id}")) == first
    assert ok_json(caller.get(f"/indexes/{index_id}/deletion")) == first
    assert ok_json(caller.get(f"/videos/{video_id}/deletion"))["video_id"] == video_id
    assert_error(caller.get(f"/videos/{video_id}"), 404, "resource_video_not_found")
    assert_error(caller.get(f"/indexes/{index_id}/videos"), 404, "resource_index_not_found")
    assert ok_json(caller.get("/indexes")) == []
    names = service.uploads()
    assert not any(video_id in name for name in names)
    assert any(remaining in name for name in names)


def test_execute_rejects_invalid_runs_and_stores_nothing(caller, service, api_media):
    prompt_id, index_id = caller.prompt(MEASURE), caller.index()
    video_id = caller.video(api_media / "a.mp4", index_id)
    empty = caller.index("empty")
    index = {"type": "index", "index_id": index_id}
    assert_error(caller.execute(caller.prompt(DESCRIBE), index), 422, "validation_failed")  # the built-in model cannot
    assert_error(caller.execute(prompt_id, {"type": "index", "index_id": empty}), 422, "validation_failed")
    assert_error(caller.execute(prompt_id, {"type": "playground"}), 422, "validation_failed")
    assert_error(caller.execute(prompt_id, {"type": "videos", "video_ids": [video_id]}), 422, "validation_failed")
    assert_error(caller.execute(prompt_id, {"type": "videos", "video_ids": []}), 422, "validation_failed")
    assert_error(caller.execute(prompt_id, {"type": "shelf"}), 422, "validation_failed")
    assert_error(caller.execute("prompt_none", index), 404, "resource_prompt_not_found")
    assert_error(caller.execute(prompt_id, {"type": "index", "index_id": "idx_none"}), 404, "resource_index_not_found")
    lone = {"type": "videos", "video_ids": ["vid_none"], "index_id": index_id}
    assert_error(caller.execute(prompt_id, lone), 404, "resource_video_not_found")
    for settings in (
        {"video_segment_duration": None},
        {"video_segment_duration": 301},
        {"video_segment_duration": 1.5},
        {"audio_segmentation_type": "smart"},
        {"processing_model": "no-such-model"},
        {"segment_options": {"hop": 0}},
        {"segment_options": {"start_time": -1}},
        {"segment_options": {"start_time": 5, "end_time": 5.2}},
        {"segment_options": {"stop_time": 5}},
        {"segment_options": {"definition": "one segment per shot"}},  # video segmentation is fixed
    ):
        error = assert_error(caller.execute(prompt_id, index, **settings), 422, "validation_failed")
        assert error["details"]["errors"][0]["message"]
    assert ok_json(caller.get("/prompt-runs")) == []
