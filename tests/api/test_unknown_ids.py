"""Unknown ids get the code of their own kind, also in batches, which name what they omit."""

import pytest

from tests.api_server import assert_error, ok_json

pytest_plugins = ["tests.api_fixtures"]

MISSING = {
    "import job": ("GET", "/import-jobs/job_vid_none", "import_job", {"import_job_id": "job_vid_none"}),
    "outputs of an import job": ("GET", "/import-jobs/vid_none/outputs", "import_job", {"import_job_id": "vid_none"}),
    "retry of an unknown run": ("GET", "/prompt-runs/run_none/retries/retry_none", "run", {"run_id": "run_none"}),
    "retry": ("GET", "/prompt-runs/{run_id}/retries/retry_none", "retry", {"retry_id": "retry_none"}),
    "item of a retried segment": (
        "POST",
        "/prompt-runs/{run_id}/videos/vid_none/segments/seg_none/retry",
        "video",
        {"video_id": "vid_none"},
    ),
    "segment": (
        "POST",
        "/prompt-runs/{run_id}/videos/{video_id}/segments/seg_none/retry",
        "segment",
        {"segment_id": "seg_none"},
    ),
    "item of results": ("GET", "/prompt-runs/{run_id}/results?video_id=seg_none", "video", {"video_id": "seg_none"}),
    "segments of an unknown run": ("GET", "/videos/{video_id}/segments?run_id=vid_none", "run", {"run_id": "vid_none"}),
    "segments of a run over other media": (
        "GET",
        "/videos/{playground_id}/segments?run_id={run_id}",
        "video",
        {"video_id": "{playground_id}"},
    ),
    "deletion of an item": ("GET", "/videos/{video_id}/deletion", "deletion", {"video_id": "{video_id}"}),
    "synthesis": (
        "GET",
        "/prompt-runs/{run_id}/videos/{image_id}/video-result",
        "video_result",
        {"video_id": "{image_id}"},
    ),
}


@pytest.mark.parametrize("name", MISSING)
def test_an_unknown_id_has_the_code_of_its_kind(world, name):
    method, path, kind, details = MISSING[name]
    response = world.caller.request(method, path.format(**vars(world)))
    error = assert_error(response, 404, f"resource_{kind}_not_found")
    assert error["details"] == {key: value.format(**vars(world)) for key, value in details.items()}


@pytest.mark.parametrize("path", ["/videos/batch", "/videos/batch/status", "/videos/batch/segments"])
def test_a_batch_names_the_ids_that_it_omits(world, path):
    response = world.caller.post(path, {"video_ids": ["vid_1", world.image_id, "vid_2"]})
    assert [row["video_id"] for row in ok_json(response)] == [world.image_id]
    assert response.headers["X-Request-Warning"] == "not found: vid_1, vid_2"
    complete = world.caller.post(path, {"video_ids": [world.image_id]})
    assert "X-Request-Warning" not in complete.headers


def test_a_batch_of_segments_names_all_unknown_runs(world):
    targets = [{"video_id": world.video_id, "run_id": name} for name in ("run_1", world.run_id, "run_2")]
    response = world.caller.post("/videos/batch/segments", {"targets": targets})
    assert assert_error(response, 404, "resource_run_not_found")["details"]["run_ids"] == ["run_1", "run_2"]


def test_lists_of_media_show_their_processing_status(world):
    listed = ok_json(world.caller.get(f"/indexes/{world.index_id}/videos"))["data"]
    batch = ok_json(world.caller.post("/videos/batch", {"video_ids": [video["video_id"] for video in listed]}))
    assert len(listed) == 3
    for video in (*listed, *batch):
        alone = ok_json(world.caller.get(f"/videos/{video['video_id']}"))
        assert [status["run_id"] for status in video["processing_status"]] == [world.measured_id, world.run_id]
        assert video["processing_status"] == alone["processing_status"]
    loose = ok_json(world.caller.get("/playground/videos"))["data"]
    states = {video["video_id"]: video["processing_status"] for video in loose}
    assert states[world.playground_id] is None
    assert [status["status"] for status in states[world.lost_video_id]] == ["failed"]
