"""A run with a schema in the dialect of its author: every value arrives in its column, and times in the item."""

import json

from promptreel.schemas.prompt import prompt_from_dict
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import check_counts, make_video, plain_rows, run_media
from tests.pipelines.conftest import frame_settings

TIME = {"type": "NUMBER", "format": "media-time"}
SCHEMA = {
    "$ref": "#/definitions/Segment",
    "definitions": {
        "Segment": {
            "type": "OBJECT",
            "properties": {
                "mood": {"type": "STRING", "nullable": True},
                "kind": {"const": "shot"},
                "first_cut": {"anyOf": [{"type": "NUMBER"}, {"type": "NULL"}], "format": "media-time"},
                "event": {
                    "oneOf": [
                        {"type": "OBJECT", "properties": {"kind": {"const": "cut"}, "at": TIME}, "required": ["kind"]},
                        {"type": "OBJECT", "properties": {"kind": {"const": "none"}}, "required": ["kind"]},
                    ]
                },
                "seen": {"type": "ARRAY", "items": [{"type": "STRING"}, TIME]},
                "by_person": {"type": "OBJECT", "additionalProperties": {"type": "ARRAY", "items": TIME}},
            },
        }
    },
}
ANSWER = {
    "mood": None,
    "kind": "shot",
    "first_cut": "00:00.5",
    "event": {"kind": "cut", "at": 0.25},
    "seen": ["van", "0:01"],
    "by_person": {"Ada": [0, "0.5s"]},
}


def prompt_of(schema):
    return prompt_from_dict({"name": "brought", "prompt_text": "Say what is seen.", "json_schema": schema})


def test_answer_arrives_in_columns_and_item_time(tmp_path):
    film = make_video(tmp_path / "film.mp4", 2, sound=False)
    with FakeGemini(faults=[Fault(text_answer=json.dumps(ANSWER))]) as server:
        run_id = run_media(tmp_path / "data", film, frame_settings(server), prompt_of(SCHEMA))
        calls = len(server.ledger.answered())
    check_counts(tmp_path / "data", run_id)
    rows = sorted(plain_rows(tmp_path / "data", run_id, "results"), key=lambda row: row["start_us"])
    assert calls == len(rows) == 2
    for row in rows:
        start = row["start_time"]
        assert row["fields"] == {
            "mood": None,
            "kind": "shot",
            "first_cut": start + 0.5,
            "event": row["fields"]["event"],
            "seen": row["fields"]["seen"],
            "by_person": row["fields"]["by_person"],
        }
        assert json.loads(row["fields"]["event"]) == {"kind": "cut", "at": start + 0.25}
        assert json.loads(row["fields"]["seen"]) == ["van", start + 1]
        assert json.loads(row["fields"]["by_person"]) == {"Ada": [start, start + 0.5]}
        assert "Ada" in row["metadata_text"]
    assert plain_rows(tmp_path / "data", run_id, "llm_calls")[0]["response_text"] == json.dumps(ANSWER)


def test_generated_answers_fit_the_schema(tmp_path):
    film = make_video(tmp_path / "film.mp4", 2, sound=False)
    with FakeGemini() as server:
        run_id = run_media(tmp_path / "data", film, frame_settings(server), prompt_of(SCHEMA))
    assert len(check_counts(tmp_path / "data", run_id)["results"]) == 2
