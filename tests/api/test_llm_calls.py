"""Call records over the API: the prompt and text that were sent, and unusable answers as errors."""

import json

import pytest

from tests.api_server import DESCRIBE, ok_json

pytest_plugins = ["tests.api_fixtures"]


@pytest.fixture(scope="module")
def calls(world):
    return ok_json(world.caller.get(f"/prompt-runs/{world.run_id}/llm-calls"))


def test_prompt_text_is_the_instruction_and_text_of_the_call(world, calls):
    sent = {_words(entry.text) for entry in world.gemini.ledger.calls()}
    for call in calls:
        # The ledger lists labels of frames between the instruction and the text.
        assert any(all(part in text for part in map(_words, call["prompt_text"].split("\n\n"))) for text in sent)
        is_synthesis = call["purpose"] == "video_level_synthesis"
        assert ("Sum the item up." in call["prompt_text"]) == is_synthesis
        assert (DESCRIBE["prompt_text"] in call["prompt_text"]) != is_synthesis
        assert ("summary: " in call["prompt_text"]) == is_synthesis
        schema = DESCRIBE["video_level"]["json_schema"] if is_synthesis else DESCRIBE["json_schema"]
        assert json.loads(call["schema_used"]) == schema


def test_second_try_shows_the_note_about_the_first_answer(calls):
    failed = [call for call in calls if call["error_message"]]
    assert [("could not be used" in call["prompt_text"]) for call in failed] == [False, True]


def test_unusable_answer_is_an_error_with_code_and_message(calls):
    failed = [call for call in calls if call["status"] != "success"]
    assert [(call["status"], call["error_code"]) for call in failed] == [("error", "answer_not_json")] * 2
    assert all("not JSON" in call["error_message"] and call["response_text"] for call in failed)
    assert all(call["error_code"] is None for call in calls if call["status"] == "success")
    assert all(call["model_version"] for call in calls)


def test_repaired_answer_is_marked_on_its_result_and_call(world, calls):
    results = ok_json(world.caller.get(f"/prompt-runs/{world.run_id}/results?video_id={world.video_id}"))["data"]
    warnings = [row["processing_warning"] for row in results]
    assert warnings == [None, "the answer was not strict JSON and was repaired: fence", None]
    repaired = [call["segment_id"] for call in calls if call["answer_repair"] == "fence"]
    assert repaired == [results[1]["segment_id"]]


def _words(text):
    return " ".join(text.split())
