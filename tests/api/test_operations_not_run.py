"""Clients see on the run and on each result that a requested operation did not run, and why."""

import pytest

from tests.api_server import MEASURE, ApiServer, ok_json
from tests.published_clients import CLIENTS, run_client

pytest_plugins = ["tests.api_fixtures"]

LEVEL = {"instructions_text": "Measure the complete item.", "json_schema": MEASURE["json_schema"]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, api_media):
    """(caller, run, item ids by kind) of a run with both local operations on a machine without their weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMPTREEL_MODELS", str(tmp_path_factory.mktemp("no-models")))
        with ApiServer(tmp_path_factory.mktemp("service") / "data") as server:
            caller = server.caller()
            kinds = {"video": "a.mp4", "audio": "b.flac", "image": "c.png"}
            video_ids = {kind: caller.video(api_media / name) for kind, name in kinds.items()}
            prompt_id = caller.prompt({**MEASURE, "video_level": LEVEL})
            options = {"enable_transcription": True, "enable_image_embedding": True}
            run_id = caller.start(prompt_id, {"type": "playground"}, **options)
            yield caller, caller.wait(run_id), video_ids


def results(caller, run, video_id):
    return ok_json(caller.get(f"/prompt-runs/{run['run_id']}/results?video_id={video_id}"))["data"]


def test_run_names_the_operations_that_did_not_run(finished):
    _, run, _ = finished
    assert run["status"] == "completed"
    assert [text.split(":")[0] for text in run["warnings"]] == ["no image_embedding", "no transcription"]
    assert (run["transcription_succeeded"], run["image_embedding_succeeded"]) == (False, False)
    assert (run["transcription_failures"], run["field_extraction_succeeded"]) == (0, True)
    assert run["status_text"].startswith("completed: 6 of 6 segments")
    assert all(warning in run["status_text"] for warning in run["warnings"])
    assert run["error_message"] is None


def test_each_result_names_the_operations_that_did_not_run(finished):
    caller, run, video_ids = finished
    clip, whisper = run["warnings"]
    silent, blind = "no transcription: the item has no sound", "no image_embedding: the item has no pictures"
    expected = {
        "video": (f"{clip}; {whisper}", False, whisper, False, clip),
        "audio": (f"{blind}; {whisper}", False, whisper, None, None),
        "image": (f"{clip}; {silent}", None, None, False, clip),
    }
    for kind, video_id in video_ids.items():
        rows = results(caller, run, video_id)
        rows += ok_json(caller.get(f"/videos/{video_id}/segments?run_id={run['run_id']}"))["data"]
        for row in rows:
            speech = row["transcription_succeeded"], row["transcription_error"]
            pictures = row["image_embedding_succeeded"], row["image_embedding_error"]
            assert (row["processing_warning"], *speech, *pictures) == expected[kind]
            assert row["field_extraction_succeeded"] is True
    path = f"/prompt-runs/{run['run_id']}/videos/{video_ids['audio']}/video-result"
    assert ok_json(caller.get(path))["processing_warning"] == f"{blind}; {whisper}"


@pytest.mark.parametrize("version", CLIENTS)
def test_published_client_sees_what_did_not_run(finished, version):
    caller, run, video_ids = finished
    program = """
    run = client.prompt_runs.retrieve(given["run_id"])
    row = client.prompt_runs.list_results(given["run_id"], video_id=given["video_id"]).data[0]
    report(run.transcription_succeeded, row.transcription_succeeded, row.transcription_error, row.processing_warning)
    """
    of_run, of_row, error, warning = run_client(
        version, caller, program, run_id=run["run_id"], video_id=video_ids["video"]
    )
    clip, whisper = run["warnings"]
    assert (of_run, of_row, error, warning) == (False, False, whisper, f"{clip}; {whisper}")
