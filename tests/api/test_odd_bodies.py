"""Odd bodies of execute, estimate and retry: each is rejected by name, or every key has an effect or a warning."""

import json

import pydantic
import pytest
from sqlalchemy import delete

from promptreel.api.config import RateLimitSettings
from promptreel.api.db.models import RetryRecord, RunRecord
from tests.api.odd_bodies import odd_bodies
from tests.api_server import ApiServer, assert_error, ok_json
from tests.pipeline_runs import make_image

MANY = RateLimitSettings(**dict.fromkeys(("search", "read", "write", "upload"), 10_000_000))
DEFAULTS = {
    "video_segmentation_type": "smart",
    "audio_segmentation_type": "content_aware",
    "video_segment_duration": None,
    "audio_segment_duration": None,
    "enable_transcription": True,
    "enable_image_embedding": True,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A service that executes nothing, an index with two images, one image in the playground, and a failed run."""
    folder = tmp_path_factory.mktemp("odd")
    with ApiServer(folder / "data", supervise=False, rate_limits=MANY) as server:
        caller = server.caller()
        image = make_image(folder / "c.png")
        server.someone, server.index_id = caller, caller.index()
        server.video_ids = [caller.video(image, server.index_id) for _ in range(2)]
        server.loose_id = caller.video(image)
        server.prompt_id = caller.prompt()
        server.run_id = caller.start(server.prompt_id, {"type": "index", "index_id": server.index_id})
        with server.app.state.database.write() as session:
            session.get(RunRecord, server.run_id).status = "failed"
        yield server


def run_bodies(place):
    """Return valid bodies with every field, for each kind of target."""
    settings = {
        "video_segmentation_type": "fixed",
        "video_segment_duration": 15,
        "audio_segmentation_type": "fixed",
        "audio_segment_duration": 20,
        "processing_model": "signals",
        "enable_transcription": False,
        "enable_image_embedding": False,
    }
    targets = (
        {"type": "videos", "video_ids": place.video_ids[:1], "index_id": place.index_id},
        {"type": "index", "index_id": place.index_id},
        {"type": "playground"},
    )
    return [{"prompt_id": place.prompt_id, "target": target, **settings} for target in targets]


def send(place, path, text):
    headers = {"Content-Type": "application/json"}
    return place.someone.post(path, content=text.encode("utf-8", "surrogatepass"), headers=headers)


def assert_names_the_fault(response, odd):
    """Check that a rejection names the odd field, or the value that it had."""
    assert 400 <= response.status_code < 500, (odd, response.text)
    error = response.json()["error"]
    assert any(name in json.dumps(error, ensure_ascii=False) for name in odd.names), (odd, error)


def assert_every_key_counts(sent, run, warnings):
    """Check that each value sent is a setting of the run, or named in a warning. Null means absent."""
    effects = {
        "prompt_id": run["prompt_id"],
        "target": run["run_context"],
        **{name: run[name] for name in (*DEFAULTS, "processing_model")},
    }
    for name, value in sent.items():
        if value is None or any(name in warning for warning in warnings):
            continue
        assert name in effects, (name, warnings)
        if name.startswith("enable_"):
            value = pydantic.TypeAdapter(bool).validate_python(value)
        if name == "target":
            value = {key: part for key, part in value.items() if part is not None}
        assert effects[name] == value, (name, value, effects[name])


def test_every_key_of_a_run_counts_or_is_named(place):
    bodies = [odd for valid in run_bodies(place) for odd in odd_bodies(valid)]
    assert len(bodies) > 300
    accepted = 0
    for odd in bodies:
        response = send(place, "/prompt-runs/execute", odd.text)
        estimate = send(place, "/prompt-runs/estimate", odd.text)
        if response.status_code >= 300:
            assert_names_the_fault(response, odd)
            assert_names_the_fault(estimate, odd)
            continue
        accepted += 1
        run = ok_json(response, 202)
        assert_every_key_counts(json.loads(odd.text), run, run["warnings"])
        assert ok_json(estimate)["warnings"] == run["warnings"]
        shown = ok_json(place.someone.get(f"/prompt-runs/{run['run_id']}"))
        assert shown["warnings"] == run["warnings"]
    assert 50 < accepted < len(bodies) / 2


def test_every_key_of_a_retry_narrows_it(place):
    path = f"/prompt-runs/{place.run_id}/retry-failures"
    valid = {"operations": ["processing"], "codes": ["interrupted"], "video_ids": place.video_ids[:1]}
    for odd in odd_bodies(valid):
        response = send(place, path, odd.text)
        with place.app.state.database.write() as session:
            retried = [retry.scope["targets"] for retry in session.query(RetryRecord)]
            session.execute(delete(RetryRecord))
        if response.status_code >= 300:
            assert_names_the_fault(response, odd)
            continue
        sent = json.loads(odd.text)
        assert {name for name, value in sent.items() if value is not None} <= valid.keys(), odd
        expected = sent.get("video_ids") or place.video_ids
        assert [video_id for video_id, _ in retried[0]] == expected, odd


def test_a_retry_of_one_segment_has_no_options(place):
    path = f"/prompt-runs/{place.run_id}/videos/{place.video_ids[0]}/segments/{place.video_ids[0]}/retry"
    error = assert_error(place.someone.post(path, {"operations": ["transcription"]}), 422, "validation_failed")
    assert "operations" in error["message"]
    for body in ("", "{}", "null"):  # published clients send no body or an empty one
        assert_error(send(place, path, body), 404, "resource_segment_not_found")


@pytest.mark.parametrize(
    ("target", "field", "hint"),
    [
        ({"type": "index", "index_id": "{index_id}", "video_ids": ["v"]}, "video_ids", "type 'videos'"),
        ({"type": "playground", "index_id": "{index_id}"}, "index_id", "type 'index'"),
        ({"type": "videos", "video_ids": ["v"], "indexid": "{index_id}"}, "indexid", "'index_id'"),
    ],
    ids=["index with video_ids", "playground with index_id", "misspelt"],
)
def test_a_target_rejects_what_it_would_not_use(place, target, field, hint):
    target = {key: value.format(**vars(place)) if isinstance(value, str) else value for key, value in target.items()}
    response = place.someone.execute(place.prompt_id, target)
    error = assert_error(response, 422, "validation_failed")
    assert hint in error["message"]
    assert [problem["path"].rsplit(".", 1)[1] for problem in error["details"]["errors"]] == [field]


def test_a_null_in_a_target_means_absent(place):
    target = {"type": "index", "index_id": place.index_id, "video_ids": None}
    run = ok_json(place.someone.execute(place.prompt_id, target), 202)
    assert run["run_context"] == {"type": "index", "index_id": place.index_id}


def test_whole_seconds_may_be_written_as_a_float(place):
    target = {"type": "index", "index_id": place.index_id}
    run = ok_json(place.someone.execute(place.prompt_id, target, video_segment_duration=15.0), 202)
    assert run["video_segment_duration"] == 15
    for wrong in ("15", True, 15.5):
        response = place.someone.execute(place.prompt_id, target, video_segment_duration=wrong)
        assert "video_segment_duration" in assert_error(response, 422, "validation_failed")["message"]


def test_all_unknown_ids_of_a_request_are_named(place):
    names = ["vid_unknown1", "vid_unknown2"]
    target = {"type": "videos", "video_ids": [names[0], place.video_ids[0], names[1]], "index_id": place.index_id}
    error = assert_error(place.someone.execute(place.prompt_id, target), 404, "resource_video_not_found")
    assert error["details"] == {"video_id": names[0], "video_ids": names}
    outside = {"type": "videos", "video_ids": [*place.video_ids, place.loose_id]}
    error = assert_error(place.someone.execute(place.prompt_id, outside), 422, "validation_failed")
    assert all(video_id in error["message"] for video_id in place.video_ids)
    assert place.loose_id not in error["message"]
    path = f"/prompt-runs/{place.run_id}/retry-failures"
    error = assert_error(place.someone.post(path, {"video_ids": names}), 404, "resource_video_not_found")
    assert error["details"]["video_ids"] == names
    many = [f"run_{number}" for number in range(200)]
    search = {"query": "a", "run_ids": many}
    error = assert_error(place.someone.post("/search/multi-run", search), 404, "resource_run_not_found")
    assert error["details"]["run_ids"] == many[:50]
    assert "and 150 more" in error["message"]
    search = {"query": "a", "index_ids": ["idx_1", "idx_2"]}
    response = place.someone.post(f"/indexes/{place.index_id}/search", search)
    assert assert_error(response, 404, "resource_index_not_found")["details"]["index_ids"] == ["idx_1", "idx_2"]


def test_a_code_that_no_failure_has_is_rejected(place):
    path = f"/prompt-runs/{place.run_id}/retry-failures"
    error = assert_error(place.someone.post(path, {"codes": ["interupted"]}), 422, "validation_failed")
    assert "did you mean 'interrupted'?" in error["message"]
