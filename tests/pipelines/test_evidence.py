"""Runs with evidence: what is sent, checked, stored, shown, reused and repaired."""

import json
import re
from dataclasses import replace

import pytest

from promptreel.pipelines.runner import execute_run
from promptreel.providers import on_screen_text, whisper
from promptreel.providers.registry import check_run
from promptreel.providers.transcript import Language, Transcript, Utterance
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.evidence import EvidenceSettings
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.schemas.settings import ModelSettings
from promptreel.schemas.speech_rows import Word
from promptreel.tables.analyst_views import connect_views
from promptreel.tables.reader import committed_run, connect
from promptreel.tables.storage import open_storage
from tests.fake_gemini import FakeGemini
from tests.fake_openai import FakeOpenAI
from tests.pipeline_runs import (
    check_counts,
    create_run,
    kill_runner_after,
    make_image,
    make_speech,
    run_media,
    settings_for,
    with_models,
)
from tests.tiny_models import make_whisper

PROMPT = prompt_from_dict(
    {
        "name": "ferry",
        "prompt_text": "Say where the ferry goes, and when.",
        "json_schema": {
            "type": "object",
            "properties": {
                "pier": {"type": "string"},
                "leaves": {"type": "number", "format": "media-time"},
                "delayed": {"type": ["boolean", "null"]},
                "signs": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["pier", "leaves", "delayed", "signs"],
            "additionalProperties": False,
        },
    }
)
ANSWER = {"pier": "two", "leaves": 1.0, "delayed": None, "signs": ["Pier 2"]}
# Spoken in each window of two seconds, one word every quarter of a second.
SPOKEN = "the ferry leaves from pier two today again".split()
RIGHT = {
    "pier": {"start": 1, "end": "0:01.5", "quote": "from pier two", "quote_source": "speech"},
    "leaves": {"start": 0, "end": 1, "quote": None, "quote_source": "none"},
    "delayed": {"start": 0, "end": 1, "quote": "today", "quote_source": "speech"},
    "signs": {"start": 0.2, "end": 1.8, "quote": "PIER 2", "quote_source": "screen"},
}
WRONG = {
    "pier": {"start": 1, "end": 1.5, "quote": "the train is late", "quote_source": "speech"},
    "leaves": {"start": 1, "end": 9, "quote": None, "quote_source": "none"},
    "signs": {"start": 0, "end": 2, "quote": "NO ENTRY", "quote_source": "screen"},
}
MALFORMED = {"pier": 7, "leaves": {"start": "soon", "end": 1}, "signs": {"start": 2, "end": 1}}
SEGMENTS = {"0:00.00": RIGHT, "0:02.00": WRONG, "0:04.00": MALFORMED}


def transcript(seconds):
    step = 250_000
    words = tuple(
        Word(at * step, at * step + step, f" {SPOKEN[at % len(SPOKEN)]}", 0.9) for at in range(4 * int(seconds))
    )
    text = "".join(word.text for word in words)
    return Transcript("fake", (Utterance(0, words[-1].end_us, Language("en", 1.0), words, text),))


@pytest.fixture
def whisper_words(tmp_path_factory, monkeypatch):
    """The folder of a Whisper model that recognizes `SPOKEN` in everything."""
    monkeypatch.setattr(
        whisper.WhisperTranscriber,
        "transcribe",
        lambda self, audio, speech, duration_us, should_stop=None: transcript(duration_us // 1_000_000),
    )
    return make_whisper(tmp_path_factory.mktemp("whisper") / "tiny")


@pytest.fixture
def screen_words(monkeypatch):
    """On-screen text that is the same in each frame."""
    monkeypatch.setattr(on_screen_text, "is_available", lambda: True)
    line = on_screen_text.ScreenLine("Pier 2 to the islands", 0, 0)
    monkeypatch.setattr(on_screen_text, "read_screen", lambda folder, frames: (line,))


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Six seconds, which are three segments."""
    return make_speech(tmp_path_factory.mktemp("media") / "ferry.mp4", 6, 1, "testsrc2=size=160x90:rate=10")


def envelope(body, schema):
    start = re.search(r"This segment is (\S+) to", json.dumps(body))
    return {"answer": ANSWER, "evidence": SEGMENTS[start.group(1)] if start else RIGHT}


def plain(body, schema):
    return ANSWER


def evidence_settings(server, *fields, model=None, **models):
    made = settings_for(server, window_s=2, media_input="frames", max_in_flight=1)
    if model is not None:
        made = replace(made, model=ModelSettings(model=model, base_url=server.base_url))
    return replace(with_models(made, **models), evidence=EvidenceSettings(fields))


def verdicts(rows):
    """Return the verdicts by start of the segment in seconds and field."""
    return {(row["start_us"] // 1_000_000, row["field"]): row["verdict"] for row in rows["field_evidence"]}


CHECKED = {
    (0, "leaves"): "span_only",
    (0, "pier"): "confirmed",
    (0, "signs"): "confirmed",
    (2, "leaves"): "outside_segment",
    (2, "pier"): "not_found",
    (2, "signs"): "not_found",
    (4, "leaves"): "missing",
    (4, "pier"): "missing",
    (4, "signs"): "missing",
}


def test_evidence_is_checked_against_transcript_and_screen(tmp_path, film, whisper_words, screen_words):
    with FakeGemini(answer=envelope) as server:
        run_id = run_media(tmp_path, film, evidence_settings(server, whisper=whisper_words), PROMPT)
        assert len(server.ledger.answered()) == 3
    rows = check_counts(tmp_path, run_id)
    assert verdicts(rows) == CHECKED
    assert [json.loads(row["metadata"])["leaves"] for row in rows["results"]] == [1.0, 3.0, 5.0]
    (pier,) = [row for row in rows["field_evidence"] if (row["field"], row["start_us"]) == ("pier", 0)]
    assert (pier["evidence_start_time"], pier["evidence_end_time"], pier["frame_time"]) == (1.0, 1.5, 1.0)
    assert (pier["quote"], pier["quote_source"], pier["quote_score"]) == ("from pier two", "speech", 100.0)
    assert pier["frame_us"] in {row["time_us"] for row in rows["frames"]}
    outside = next(row for row in rows["field_evidence"] if row["verdict"] == "outside_segment")
    assert (outside["evidence_start_us"], outside["evidence_end_us"]) == (3_000_000, 11_000_000)


def test_openai_compatible_model_gives_evidence(tmp_path, film, whisper_words, screen_words, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    with FakeOpenAI(answer=envelope) as server:
        settings = evidence_settings(server, model="openai:tiny", whisper=whisper_words)
        run_id = run_media(tmp_path, film, settings, PROMPT)
        sent = server.service.bodies[-1]["response_format"]["json_schema"]
    assert verdicts(check_counts(tmp_path, run_id)) == CHECKED
    assert list(sent["schema"]["properties"]) == ["answer", "evidence"]


def test_quotes_are_not_checked_without_transcript_and_ocr(tmp_path, film, monkeypatch):
    monkeypatch.setattr(on_screen_text, "is_available", lambda: False)
    with FakeGemini(answer=envelope) as server:
        run_id = run_media(tmp_path, film, evidence_settings(server), PROMPT)
    found = verdicts(check_counts(tmp_path, run_id))
    unchecked = {key: "not_checked" for key in CHECKED if key[0] in (0, 2) and key[1] in ("pier", "signs")}
    assert found == {**CHECKED, **unchecked}


def test_image_has_evidence_without_times(tmp_path, screen_words):
    with FakeGemini(answer=envelope) as server:
        picture = make_image(tmp_path / "media" / "pier.png")
        run_id = run_media(tmp_path / "data", picture, evidence_settings(server), PROMPT)
    rows = check_counts(tmp_path / "data", run_id)
    assert verdicts(rows) == {(0, "leaves"): "not_checked", (0, "pier"): "not_checked", (0, "signs"): "confirmed"}
    assert {(row["evidence_start_us"], row["frame_us"]) for row in rows["field_evidence"]} == {(None, 0)}


def test_views_have_columns_for_the_evidence_of_each_field(tmp_path, film, whisper_words):
    with FakeGemini(answer=envelope) as server:
        settings = evidence_settings(server, "pier", whisper=whisper_words)
        run_id = run_media(tmp_path, film, settings, PROMPT)
        plain_id = run_media(tmp_path, film, replace(settings, evidence=None, reuse_results=False), PROMPT)
    storage = open_storage(tmp_path)
    runs = [committed_run(storage, name) for name in (run_id, plain_id)]
    expected = [
        (0.0, "two", 1.0, 1.5, 1.0, "from pier two", "confirmed"),
        (2.0, "two", 3.0, 3.5, 3.0, "the train is late", "not_found"),
        (4.0, "two", None, None, None, None, "missing"),
    ]
    columns = ", ".join(
        f"pier_evidence_{name}" for name in ("start_time", "end_time", "frame_time", "quote", "verdict")
    )
    for connection in (connect(storage, runs[0]), connect_views(storage, runs)):
        with connection:
            query = f'SELECT start_time, pier, {columns} FROM "{run_id}" ORDER BY start_time'
            assert connection.execute(query).fetchall() == expected
            names = [column[0] for column in connection.execute('SELECT * FROM "fields"').description]
            assert [name for name in names if "_evidence_" in name] == columns.split(", ")
    with connect_views(storage, runs) as connection:
        names = [column[0] for column in connection.execute(f'SELECT * FROM "{plain_id}"').description]
        assert names == [*("video_id", "video_name", "segment_id", "media_type", "start_time", "end_time"), *ANSWER]
        count = connection.execute("SELECT count(*) FROM field_evidence").fetchone()
        assert count == (3,)


def test_written_views_have_evidence_columns(tmp_path, film):
    with FakeGemini(answer=envelope) as server:
        run_id = run_media(tmp_path, film, evidence_settings(server, "pier"), PROMPT)
    assert '"pier_evidence_verdict"' in (tmp_path / "runs" / run_id / "tables.sql").read_text()


def test_answers_with_and_without_evidence_are_not_mixed(tmp_path, film):
    with FakeGemini(answer=envelope) as server:
        with_evidence = evidence_settings(server)
        for settings, calls in (
            (with_evidence, 3),
            (with_evidence, 0),
            (replace(with_evidence, evidence=EvidenceSettings(tuple(ANSWER))), 0),
            (replace(with_evidence, evidence=EvidenceSettings(("pier",))), 3),
            (replace(with_evidence, evidence=None), 3),
        ):
            if settings.evidence is None:
                server.service.answer = plain
            before = len(server.ledger.answered())
            run_id = run_media(tmp_path, film, settings, PROMPT)
            assert len(server.ledger.answered()) - before == calls
            assert len(check_counts(tmp_path, run_id)["results"]) == 3


def test_fields_that_do_not_fit_are_requested_again(tmp_path, film):
    wrong = {"answer": {**ANSWER, "leaves": "soon"}, "evidence": RIGHT}

    def answer(body, schema):
        return envelope(body, schema) if "could not be used" in json.dumps(body) else wrong

    with FakeGemini(answer=answer) as server:
        run_id = run_media(tmp_path, film, evidence_settings(server, "leaves"), PROMPT)
        assert len(server.ledger.answered()) == 6
    rows = check_counts(tmp_path, run_id)
    assert [row["code"] for row in rows["llm_calls"] if row["status"] == "error"] == ["schema_invalid"] * 3
    assert [row["verdict"] for row in rows["field_evidence"]] == ["span_only", "outside_segment", "missing"]


def test_resume_reads_evidence_from_recorded_answers(tmp_path, film):
    with FakeGemini(answer=envelope) as server:
        run_id = create_run(tmp_path, film, evidence_settings(server), PROMPT)
        kill_runner_after(2, tmp_path, run_id)
        execute_run(str(tmp_path), run_id)
        assert len(server.ledger.answered()) == 3
    assert {verdict for key, verdict in verdicts(check_counts(tmp_path, run_id)).items() if key[0] == 4} == {"missing"}


def test_call_records_show_the_schema_with_evidence(tmp_path, film):
    with FakeGemini(answer=envelope) as server:
        run_id = run_media(tmp_path, film, evidence_settings(server), PROMPT)
    call = check_counts(tmp_path, run_id)["llm_calls"][0]
    assert "evidence" in json.loads(call["json_schema"])["properties"]
    assert "Give evidence for your answer" in call["instruction"]


def test_built_in_model_rejects_evidence():
    settings = replace(settings_for(), evidence=EvidenceSettings())
    schema = {"type": "object", "properties": {"duration_seconds": {"type": "number"}}}
    prompt = prompt_from_dict({"name": "measure", "prompt_text": "Measure the segment.", "json_schema": schema})
    with pytest.raises(SettingsError, match="evidence: the model signals gives none; choose another model"):
        check_run(prompt, settings)
