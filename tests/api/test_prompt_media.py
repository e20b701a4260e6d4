"""Prompts over the API that need pictures only: stored, changed, and applied to their runs."""

from tests.api_server import DESCRIBE, MODEL, assert_error, ok_json

pytest_plugins = ["tests.api_fixtures"]
PICTURES = {"pictures_only": True, "frames_per_segment": 1}
COMPLETE = {"pictures_only": True, "frames_per_segment": 1, "resolution": None}


def test_needs_of_a_prompt_are_stored_and_changed(caller):
    plain = ok_json(caller.get(f"/prompts/{caller.prompt(DESCRIBE)}"))
    assert plain["media"] is None
    prompt_id = caller.prompt({**DESCRIBE, "media": PICTURES})
    stored = ok_json(caller.get(f"/prompts/{prompt_id}"))
    assert stored["media"] == COMPLETE
    assert stored["content_id"] != plain["content_id"]
    renamed = ok_json(caller.put(f"/prompts/{prompt_id}", json={"name": "renamed"}))
    assert renamed["media"] == COMPLETE
    removed = ok_json(caller.put(f"/prompts/{prompt_id}", json={"name": plain["name"], "media": {}}))
    assert removed["content_id"] == plain["content_id"]
    added = ok_json(caller.put(f"/prompts/{prompt_id}", json={"media": PICTURES}))
    assert added["media"] == COMPLETE


def test_unknown_needs_are_rejected(caller):
    for wrong in ({"pictures": True}, {"frames_per_segment": 0}, {"resolution": "tiny"}):
        assert_error(caller.post("/prompts", {**DESCRIBE, "media": wrong}), 422, "validation_failed")


def test_run_of_a_prompt_that_needs_pictures_sends_them_alone(caller, api_media):
    target = {"type": "videos", "video_ids": [caller.video(api_media / "a.mp4")]}
    used = []
    for definition in (DESCRIBE, {**DESCRIBE, "media": PICTURES}):
        run_id = caller.start(caller.prompt(definition), target, processing_model=MODEL, enable_transcription=False)
        run = caller.wait(run_id)
        used.append((run["estimated_input_tokens"], run["actual_tokens"]))
    assert used[1][0] < used[0][0]
    assert used[1][1]["input"] < used[0][1]["input"]
