"""Evidence over the API: the request for it, its check, and the results."""

import pytest

from promptreel.schemas.evidence import VERDICTS
from tests.api_server import DESCRIBE, MEASURE, MODEL, assert_error, ok_json

pytest_plugins = ["tests.api_fixtures"]


@pytest.fixture
def caller(service):
    """A caller with an account of its own."""
    return service.caller()


def results_of(caller, run_id, video_id):
    return ok_json(caller.get(f"/prompt-runs/{run_id}/results", params={"video_id": video_id}))["data"]


@pytest.mark.parametrize(("evidence", "fields"), [({}, []), ({"fields": ["summary"]}, ["summary"])])
def test_results_show_the_evidence_of_requested_fields(caller, api_media, evidence, fields):
    video_id = caller.video(api_media / "a.mp4")
    body = {"processing_model": MODEL, "evidence": evidence}
    run = ok_json(caller.execute(caller.prompt(DESCRIBE), {"type": "playground"}, **body), 202)
    assert run["evidence"] == {"fields": fields}
    caller.wait(run["run_id"])
    shown = [row for row in results_of(caller, run["run_id"], video_id) if row["field_extraction_succeeded"]]
    assert shown
    for row in shown:
        assert set(row["metadata"]) >= set(row["evidence"]) >= {"summary"}
        assert not fields or set(row["evidence"]) == {"summary"}
        assert row["evidence"]["summary"]["verdict"] in VERDICTS
        assert set(row["evidence"]["summary"]) == {
            "start_time", "end_time", "frame_time", "quote", "quote_source", "quote_score", "verdict",
        }  # fmt: skip
    calls = ok_json(caller.get(f"/prompt-runs/{run['run_id']}/llm-calls"))
    assert all("quote_source" in call["schema_used"] for call in calls if call["purpose"] == "metadata_extraction")


def test_run_without_evidence_shows_none(caller, api_media):
    video_id = caller.video(api_media / "a.mp4")
    run = ok_json(caller.execute(caller.prompt(MEASURE), {"type": "playground"}), 202)
    assert run["evidence"] is None
    caller.wait(run["run_id"])
    assert {row["evidence"] for row in results_of(caller, run["run_id"], video_id)} == {None}


@pytest.mark.parametrize(
    ("prompt", "model", "evidence", "problem"),
    [
        (DESCRIBE, MODEL, {"fields": ["sumary"]}, "'sumary' is not a top-level field of the prompt"),
        (DESCRIBE, MODEL, {"field": ["summary"]}, "field"),
        (MEASURE, "signals", {}, "the model signals gives none"),
    ],
)
def test_evidence_that_cannot_be_given_is_rejected(caller, api_media, prompt, model, evidence, problem):
    caller.video(api_media / "a.mp4")
    body = {"processing_model": model, "evidence": evidence}
    response = caller.execute(caller.prompt(prompt), {"type": "playground"}, **body)
    assert problem in str(assert_error(response, 422, "validation_failed"))
