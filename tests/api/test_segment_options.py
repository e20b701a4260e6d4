"""Runs over the API with overlapping windows and a time range."""

import pytest

from tests.api_server import DESCRIBE, MEASURE, MODEL, assert_error, ok_json

pytest_plugins = ["tests.api_fixtures"]


@pytest.fixture
def caller(service):
    """A caller with an account of its own."""
    return service.caller()


def test_hop_and_range_cut_the_segments_of_a_run(caller, api_media):
    video_id = caller.video(api_media / "a.mp4")
    options = {"hop": 1, "start_time": 0.5, "end_time": 3.0}
    body = {"video_segment_duration": 2, "segment_options": options}
    started = ok_json(caller.execute(caller.prompt(MEASURE), {"type": "playground"}, **body), 202)
    assert started["segment_options"] == {**options, "definition": None, "dedupe": False}
    ended = caller.wait(started["run_id"])
    assert (ended["status"], ended["total_segments"]) == ("completed", 2)
    path = f"/prompt-runs/{started['run_id']}/results"
    results = ok_json(caller.get(path, params={"video_id": video_id}))["data"]
    assert [(row["start_time"], row["end_time"]) for row in results] == [(0.5, 2.5), (1.5, 3.0)]


def test_estimate_knows_hop_and_range(caller, api_media):
    caller.video(api_media / "a.mp4")
    body = {"prompt_id": caller.prompt(MEASURE), "target": {"type": "playground"}, "video_segmentation_type": "fixed"}
    body |= {"video_segment_duration": 2, "segment_options": {"hop": 1, "end_time": 3}}
    counts = ok_json(caller.post("/prompt-runs/estimate", json=body))["breakdown"]["prompt_run_estimate"]
    assert counts["segment_count"] == {"least": 2, "most": 2}


def test_hop_without_a_fixed_window_is_ignored_with_a_warning(caller, api_media):
    caller.video(api_media / "a.mp4")
    kinds = {"video_segmentation_type": "smart", "audio_segmentation_type": "content_aware"}
    kinds |= {"video_segment_duration": None, "audio_segment_duration": None}
    run = ok_json(
        caller.execute(caller.prompt(MEASURE), {"type": "playground"}, segment_options={"hop": 3}, **kinds), 202
    )
    assert run["warnings"] == ["ignored: segment_options.hop is 3, but neither video nor audio segmentation is 'fixed'"]
    assert run["segment_options"]["hop"] is None


def test_dedupe_is_an_option_of_prompts_without_media_times(caller, api_media):
    caller.video(api_media / "a.mp4")
    target, options = {"type": "playground"}, {"segment_options": {"dedupe": True}, "processing_model": MODEL}
    run = ok_json(caller.execute(caller.prompt(DESCRIBE), target, **options), 202)
    assert run["segment_options"]["dedupe"] is True
    timed = {"type": "object", "properties": {"at": {"type": "number", "format": "media-time"}}}
    prompt_id = caller.prompt({**DESCRIBE, "name": "timed", "json_schema": timed, "video_level": None})
    message = assert_error(caller.execute(prompt_id, target, **options), 422, "validation_failed")["message"]
    assert "near-duplicate segments cannot share an answer with media times" in message


def test_built_in_model_cannot_segment_by_a_definition(caller, api_media):
    caller.video(api_media / "a.mp4")
    kinds = {"video_segmentation_type": "smart", "video_segment_duration": None}
    options = {"segment_options": {"definition": "one segment per product shown"}}
    response = caller.execute(caller.prompt(MEASURE), {"type": "playground"}, **kinds, **options)
    message = assert_error(response, 422, "validation_failed")["message"]
    assert "the built-in model signals cannot mark segments" in message


def test_definition_lets_the_model_mark_the_segments(caller, api_media):
    video_id = caller.video(api_media / "a.mp4")
    kinds = {"video_segmentation_type": "smart", "video_segment_duration": None, "processing_model": MODEL}
    options = {"segment_options": {"definition": "one segment per product shown"}}
    run = ok_json(caller.execute(caller.prompt(DESCRIBE), {"type": "playground"}, **kinds, **options), 202)
    ended = caller.wait(run["run_id"])
    assert (ended["status"], ended["total_segments"]) == ("completed", 1)
    (row,) = ok_json(caller.get(f"/prompt-runs/{run['run_id']}/results", params={"video_id": video_id}))["data"]
    assert (row["start_time"], row["end_time"]) == (0, 3)
    calls = ok_json(caller.get(f"/prompt-runs/{run['run_id']}/llm-calls"))
    (call,) = [call for call in calls if call["purpose"] == "segmentation"]
    assert "one segment per product shown" in call["prompt_text"]
    assert call["segment_id"] is None
