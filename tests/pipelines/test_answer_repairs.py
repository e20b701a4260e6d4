"""Over HTTP: answers in a wrong form are used at the first call, and their rows and call records say so."""

import json

import pytest

from tests.fake_gemini import FakeGemini, Fault
from tests.fake_gemini.wrong_shapes import WRONG_SHAPES
from tests.pipeline_runs import check_counts, make_video, manifest_of, run_media, settings_for

SEGMENTS = 24
CALLS = SEGMENTS + 1  # with the synthesis
REPAIRS = {
    "fenced": "fence",
    "one_line_fence": "fence",
    "tilde_fence": "fence",
    "prose_and_fence": "fence,surrounding_text",
    "prose": "surrounding_text",
    "bom": "byte_order_mark",
    "twice": "duplicate",
    "list": "list",
    "raw_newlines": "control_characters",
    "trailing_comma": "trailing_comma",
}


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("media") / "film.mp4", SEGMENTS, sound=False)


@pytest.fixture(scope="module")
def plain(tmp_path_factory, film):
    """The metadata of every segment when the service answers with strict JSON."""
    data = tmp_path_factory.mktemp("plain")
    with FakeGemini() as server:
        rows = check_counts(data, run_media(data, film, settings_for(server, media_input="frames")))
    return {row["segment_id"]: json.loads(row["metadata"]) for row in rows["results"]}


@pytest.mark.parametrize("shape", WRONG_SHAPES)
def test_answers_in_a_wrong_form_are_paid_once(tmp_path, film, plain, shape):
    with FakeGemini(faults=[Fault(answer=shape)]) as server:
        run_id = run_media(tmp_path, film, settings_for(server, media_input="frames"))
        assert len(server.ledger.calls()) == CALLS
    assert manifest_of(tmp_path, run_id).status == "completed"
    rows = check_counts(tmp_path, run_id)
    found = {row["segment_id"]: _without_newlines(json.loads(row["metadata"])) for row in rows["results"]}
    assert found == plain
    expected = {REPAIRS[shape]}
    for table in ("results", "video_results"):
        assert rows[table]
        assert all("not strict JSON" in row["warning"] for row in rows[table])
    if shape == "raw_newlines":  # an answer without a space in its strings is strict JSON
        expected |= {None}
    for table in ("results", "video_results", "llm_calls"):
        assert {row["answer_repair"] for row in rows[table]} <= expected, table
    assert {call["status"] for call in rows["llm_calls"]} == {"success"}


def _without_newlines(value):
    return json.loads(json.dumps(value).replace("\\n\\t", " "))
