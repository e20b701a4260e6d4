"""A cancelled run says for every item, segment and synthesis that it will never run, and its totals stay."""

import time

import pytest

from promptreel.tables import layout
from tests.api_server import DESCRIBE, MEASURE, MODEL, ApiServer, ok_json
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import make_video, wait_for

pytest_plugins = ["tests.api_fixtures", "tests.api.supervisor_fixtures"]

MEASURED_LEVEL = {"instructions_text": "Measure the complete item.", "json_schema": MEASURE["json_schema"]}


def check_agreement(caller, run_id, video_ids, *, segments):
    """Check that every view of a cancelled run agrees; return the run and the status of each item's synthesis."""
    run = caller.run(run_id)
    assert run["status"] == "cancelled"
    for kind in ("videos", "audios", "images"):
        outcomes = [run[f"{word}_{kind}"] for word in ("completed", "failed", "partial", "cancelled")]
        assert sum(outcomes) == run[f"total_{kind}"], kind
    assert run["total_segments"] == segments
    assert run["completed_segments"] + run["cancelled_segments"] == segments
    levels = [run[f"video_level_{word}_items"] for word in ("completed", "failed", "partial", "cancelled")]
    assert sum(levels) == run["video_level_total_items"]
    items = [_item(caller, run_id, video_id) for video_id in video_ids]
    for name in ("total_segments", "cancelled_segments"):
        assert sum(item[name] for item, _ in items) == run[name], name
    assert sum(item["successful_segments"] for item, _ in items) == run["completed_segments"]
    assert {item["pending_segments"] for item, _ in items} == {0}
    statuses = [level for _, level in items if level is not None]
    assert statuses.count("cancelled") == run["video_level_cancelled_items"]
    assert statuses.count("failed") == run["video_level_failed_items"]
    assert len(statuses) == run["video_level_total_items"]
    return run, statuses


def _item(caller, run_id, video_id):
    """Return (processing status, status of the synthesis) of an item, after comparing all that is said about it."""
    (item,) = [s for s in ok_json(caller.get(f"/videos/{video_id}"))["processing_status"] if s["run_id"] == run_id]
    results = ok_json(caller.get(f"/prompt-runs/{run_id}/results?video_id={video_id}"))["data"]
    for row in results:
        assert row["field_extraction_succeeded"] != (row["field_extraction_error"] is not None)
        if not row["field_extraction_succeeded"]:
            assert row["field_extraction_error"].startswith("cancelled: ")
    segments = ok_json(caller.get(f"/videos/{video_id}/segments?run_id={run_id}"))["data"]
    statuses = [segment["segment_status"] for segment in segments]
    assert set(statuses) <= {"successful", "cancelled"}
    assert statuses.count("successful") == item["successful_segments"]
    found = caller.get(f"/prompt-runs/{run_id}/videos/{video_id}/video-result")
    level = item["video_level"]
    if level is None:
        assert found.status_code == 404
        return item, None
    result = ok_json(found)
    assert level["status"] == result["status"] != "pending"
    assert level["result_available"] == bool(result["metadata"])
    assert bool(result["error_message"]) == bool(level["error_message"]) == (not result["metadata"])
    return item, result["status"]


@pytest.fixture
def measured(on_sqlite, api_media):
    """(bench, run id, item ids) of a pending run of a video, an audio and an image with a video level."""
    bench = on_sqlite
    video_ids = [bench.caller.video(api_media / name) for name in ("a.mp4", "b.flac", "c.png")]
    prompt_id = bench.caller.prompt({**MEASURE, "video_level": MEASURED_LEVEL})
    return bench, bench.caller.start(prompt_id, {"type": "videos", "video_ids": video_ids}), video_ids


def test_run_cancelled_before_its_start(measured):
    bench, run_id, video_ids = measured
    ok_json(bench.caller.post(f"/prompt-runs/{run_id}/cancel"))
    run, levels = check_agreement(bench.caller, run_id, video_ids, segments=6)
    assert levels == ["cancelled", "cancelled"]
    assert run["field_extraction_succeeded"] is None


def test_run_cancelled_before_its_media_are_read(measured):
    bench, run_id, video_ids = measured
    bench.storage.write_atomic(layout.stop_file(run_id), b"{}")
    bench.run_to_end(bench.supervisor(), run_id)
    _, levels = check_agreement(bench.caller, run_id, video_ids, segments=6)
    assert levels == ["cancelled", "cancelled"]


@pytest.fixture
def limited(monkeypatch, tmp_path):
    """A server whose model service answers three calls per second, and two videos of 6 s and 3 s."""
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    films = make_video(tmp_path / "a.mp4", 6), make_video(tmp_path / "b.mp4", 3, "smptebars")
    with FakeGemini(rps=3) as gemini, ApiServer(tmp_path / "data", model_base_url=gemini.base_url) as server:
        server.gemini, server.films = gemini, films
        yield server


def start(server, **settings):
    caller = server.caller()
    video_ids = [caller.video(film) for film in server.films]
    target = {"type": "videos", "video_ids": video_ids}
    return caller, caller.start(caller.prompt(DESCRIBE), target, processing_model=MODEL, **settings), video_ids


def cancel_when(caller, run_id, condition):
    wait_for(lambda: time.sleep(0.05) or condition(), 60)
    ok_json(caller.post(f"/prompt-runs/{run_id}/cancel"))
    caller.wait(run_id)


def test_run_cancelled_during_its_calls(limited):
    caller, run_id, video_ids = start(limited)
    cancel_when(caller, run_id, lambda: len(limited.gemini.ledger.answered()) >= 2)
    run, levels = check_agreement(caller, run_id, video_ids, segments=9)
    assert levels == ["cancelled", "cancelled"]
    assert 2 <= run["completed_segments"] < 9
    assert run["field_extraction_succeeded"] is None  # not all segments have one, and none has failed


def test_run_cancelled_during_the_synthesis(limited):
    limited.gemini.service.quota = None
    limited.gemini.set_faults(Fault(text="Sum the item up", status=503))
    caller, run_id, video_ids = start(limited)
    syntheses = limited.gemini.ledger
    cancel_when(caller, run_id, lambda: any("Sum the item up" in entry.text for entry in syntheses.calls()))
    run, levels = check_agreement(caller, run_id, video_ids, segments=9)
    assert levels == ["cancelled", "cancelled"]
    assert (run["completed_segments"], run["cancelled_segments"]) == (9, 0)
    assert run["field_extraction_succeeded"] is True


def test_synthesis_without_any_result_fails(limited):
    limited.gemini.service.quota = None
    limited.gemini.set_faults(Fault(text="This segment is|0:0[0-9].00 to", finish_reason="SAFETY"))
    caller, run_id, video_ids = start(limited)
    run = caller.wait(run_id)
    assert (run["video_level_total_items"], run["video_level_failed_items"]) == (2, 2)
    for video_id in video_ids:
        result = ok_json(caller.get(f"/prompt-runs/{run_id}/videos/{video_id}/video-result"))
        assert (result["status"], result["llm_attempted"], result["metadata"]) == ("failed", False, {})
        assert "no segment" in result["error_message"]
        (item,) = ok_json(caller.get(f"/videos/{video_id}"))["processing_status"]
        assert item["video_level"]["status"] == "failed"
