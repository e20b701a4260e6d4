"""The table of calls shows each request as the service received it, and an answer that cannot be used as an error."""

import json

import pytest

from tests.fake_gemini import FakeGemini, Fault
from tests.fake_gemini.answers import answer_for
from tests.fake_gemini.request_body import parts_of
from tests.pipeline_runs import check_counts, make_image, make_video, manifest_of, run_media, settings_for, with_models
from tests.prompts import NESTED

UNUSABLE = {
    "answer_not_json": Fault(answer="malformed"),
    "schema_invalid": Fault(answer="wrong_schema"),
    "model_empty": Fault(answer="empty"),
    "media_not_seen": Fault(no_media_tokens=True),
    "model_blocked": Fault(finish_reason="SAFETY"),
    "model_truncated": Fault(answer="truncated"),
}


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("media") / "film.mp4", 3, sound=False)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return make_image(tmp_path_factory.mktemp("media") / "image.png")


def test_calls_show_instruction_text_and_schema_as_sent(tmp_path, film):
    """Includes the second try of a segment, whose text has a note about the first answer."""
    sent = []

    def answer(body, schema):
        (instruction,) = body["systemInstruction"]["parts"]
        text = [part["text"] for part in parts_of(body) if "text" in part][-1]
        is_first = not any(text.startswith(before) or before in text for _, before, _ in sent)
        sent.append((instruction["text"], text, schema))
        return "not JSON" if is_first and "0:01.00 to 0:02.00 of" in text else answer_for(schema, text)

    with FakeGemini(answer=answer) as server:
        run_id = run_media(tmp_path, film, settings_for(server, media_input="frames"))
        assert len(server.ledger.calls()) == len(sent) == 5
    calls = check_counts(tmp_path, run_id)["llm_calls"]
    shown = [(call["instruction"], json.loads(call["request"])["text"]) for call in calls]
    assert sorted(shown) == sorted((instruction, text) for instruction, text, _ in sent)
    assert sum("could not be used" in text for _, text in shown) == 1
    schemas = {"metadata_extraction": NESTED.json_schema, "video_level_synthesis": NESTED.video_level.json_schema}
    for call in calls:
        assert json.loads(call["json_schema"]) == schemas[call["purpose"]]


def test_embedding_calls_show_their_texts_and_no_instruction(tmp_path, image):
    with FakeGemini() as server:
        settings = with_models(settings_for(server, media_input="frames"), text="gemini-embedding-001")
        rows = check_counts(tmp_path, run_media(tmp_path, image, settings))
    (call,) = [call for call in rows["llm_calls"] if call["purpose"] == "text_embedding"]
    assert set(json.loads(call["request"])["texts"]) == {row["text"] for row in rows["text_embeddings"]}
    assert (call["instruction"], call["json_schema"]) == (None, None)


@pytest.mark.parametrize("code", UNUSABLE)
def test_unusable_answer_is_an_error_with_its_code(tmp_path, image, code):
    with FakeGemini(faults=[UNUSABLE[code]]) as server:
        run_id = run_media(tmp_path, image, settings_for(server, media_input="frames"))
        calls_made = len(server.ledger.calls())
    rows = check_counts(tmp_path, run_id)
    (failure,) = rows["failures"]
    assert failure["code"] == code
    assert {(call["status"], call["code"]) for call in rows["llm_calls"]} == {("error", code)}
    assert failure["message"] in {call["message"] for call in rows["llm_calls"]}
    assert all(call["total_tokens"] for call in rows["llm_calls"])
    assert manifest_of(tmp_path, run_id).counts["calls.error"] == len(rows["llm_calls"]) == calls_made


def test_results_and_syntheses_name_the_version_that_answered(tmp_path, film):
    with FakeGemini(versions={"gemini-3.5-flash-lite": "gemini-3.5-flash-lite-001"}) as server:
        run_id = run_media(tmp_path, film, settings_for(server, media_input="frames"))
        rows = check_counts(tmp_path, run_id)
        reused = check_counts(tmp_path, run_media(tmp_path, film, settings_for(server, media_input="frames")))
    for table in (rows["results"], rows["video_results"], rows["llm_calls"], reused["results"]):
        assert {row["model_version"] for row in table} == {"gemini-3.5-flash-lite-001"}
