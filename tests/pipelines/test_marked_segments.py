"""Runs whose segments a model marks by the user's definition, against a fake service."""

import dataclasses
import json

import numpy as np
import pytest

from promptreel.cli.target import expand_target
from promptreel.pipelines.estimate import estimate_run
from promptreel.pipelines.runner import execute_run
from promptreel.providers.registry import check_definition, provider_of
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.segmentation import SegmentationSettings
from promptreel.schemas.settings import RunSettings
from promptreel.tables.retry_scope import RetryScope, write_retry
from promptreel.tables.stop_signal import clear_stop, request_stop
from promptreel.tables.storage import open_storage
from tests.fake_gemini import FakeGemini, Fault
from tests.media_files import plain, tone, write_film
from tests.pipeline_runs import (
    check_counts,
    comparable_rows,
    create_run,
    kill_runner_after,
    make_audio,
    make_image,
    run_media,
    settings_for,
)
from tests.prompts import NESTED

DEFINITION = "one segment per colour shown"
# The film shows red to 4 s, green to 10 s, and blue to 14 s; the marks are a little off.
MARKS = [(0, 4.4, "red card"), (4.4, 9.7, "green card"), (10.6, 14, "blue card")]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    pictures = [plain([name], frames) for name, frames in (("red", 40), ("green", 60), ("blue", 40))]

    return write_film(
        tmp_path_factory.mktemp("media") / "film.mp4", np.concatenate(pictures), 10, sound=[tone(440, 14)]
    )


def marked(server, definition=DEFINITION, **values):
    """Return settings that let the model mark the segments."""
    reuse = values.pop("reuse", True)
    calls = {name: values.pop(name) for name in ("max_attempts", "max_in_flight") if name in values}
    segmentation = SegmentationSettings(segments_by=definition, **values)
    return dataclasses.replace(settings_for(server, reuse=reuse, **calls), segmentation=segmentation)


def segments(rows):
    columns = ("start_time", "end_time", "start_reason", "end_reason", "segment_label")
    return [tuple(row[name] for name in columns) for row in rows["segments"]]


def marking_calls(server):
    return [call for call in server.ledger.calls() if "This stretch is" in call.text]


def test_marks_become_segments_at_the_cuts_nearby(tmp_path, film):
    with FakeGemini(marks=MARKS) as server:
        rows = check_counts(tmp_path, run_media(tmp_path, film, marked(server)))
    assert segments(rows) == [
        (0, 4, "start", "definition", "red card"),
        (4, 10, "definition", "definition", "green card"),
        (10, 14, "definition", "end", "blue card"),
    ]
    assert all(row["start_score"] > 0 for row in rows["segments"])
    (call,) = [call for call in rows["llm_calls"] if call["purpose"] == "segmentation"]
    assert (call["status"], call["segment_id"]) == ("success", None)
    assert call["video_seconds"] == 14
    assert DEFINITION in call["instruction"]
    assert json.loads(call["json_schema"])["required"] == ["segments"]
    assert rows["media"][0]["status"] == "completed"


def test_marks_are_cached_and_belong_to_their_definition(tmp_path, film):
    with FakeGemini(marks=MARKS) as server:
        first = check_counts(tmp_path, run_media(tmp_path, film, marked(server)))
        server.ledger.clear()
        again = check_counts(tmp_path, run_media(tmp_path, film, marked(server)))
        assert server.ledger.calls() == []
        assert [row["segment_id"] for row in again["segments"]] == [row["segment_id"] for row in first["segments"]]
        other = check_counts(tmp_path, run_media(tmp_path, film, marked(server, "one segment per scene")))
        assert len(server.ledger.calls()) == len(marking_calls(server)) == 1  # the segments are the same time
    assert not {row["segment_id"] for row in other["segments"]} & {row["segment_id"] for row in first["segments"]}


def test_time_that_fits_no_segment_belongs_to_none(tmp_path, film):
    with FakeGemini(marks=[(6, 8.5, "hand")]) as server:
        rows = check_counts(tmp_path, run_media(tmp_path, film, marked(server)))
    assert segments(rows) == [(6, 8.5, "definition", "definition", "hand")]


def test_item_in_which_nothing_fits_is_completed_without_segments(tmp_path, film):
    with FakeGemini(marks=[]) as server:
        run_id = run_media(tmp_path, film, marked(server))
        rows = check_counts(tmp_path, run_id)
        settings = marked(server)
        target = expand_target([str(film)]).items
        estimated = estimate_run(open_storage(tmp_path), NESTED, settings, provider_of(settings), target).to_dict()
    (item,) = rows["media"]
    assert (item["status"], item["segment_count"], rows["failures"]) == ("completed", 0, [])
    assert item["warnings"] == ["no field_extraction: the item has no segments that fit the definition"]
    assert (estimated["segments"], estimated["model_calls"]) == ([0, 0], [0, 0])


def test_audio_is_marked_and_images_are_not(tmp_path):
    target = [make_audio(tmp_path / "tone.flac", 9), make_image(tmp_path / "still.png")]
    with FakeGemini(marks=[(0, 4, "low"), (4, 9, "high")]) as server:
        rows = check_counts(tmp_path / "data", run_media(tmp_path / "data", target, marked(server)))
        assert len(marking_calls(server)) == 1
    found = {row["name"]: row["segment_count"] for row in rows["media"]}
    assert found == {"tone.flac": 2, "still.png": 1}
    assert {row["segment_label"] for row in rows["segments"]} == {"low", "high", None}


def test_marks_stay_in_the_range_of_the_item(tmp_path, film):
    with FakeGemini(marks=MARKS) as server:
        rows = check_counts(tmp_path, run_media(tmp_path, film, marked(server, start_s=2, end_s=8)))
        (call,) = marking_calls(server)
    assert "This stretch is 0:02.00 to 0:08.00 of a video that lasts 0:14.00" in call.text
    assert segments(rows) == [
        (2, 4, "range", "definition", "red card"),
        (4, 8, "definition", "range", "green card"),
    ]


@pytest.mark.parametrize("media_input", ["clips", "files"])
def test_long_item_is_marked_in_stretches_and_stitched(tmp_path, media_input):
    sound = make_audio(tmp_path / "long.flac", 400)
    marks = [(0, 50, "one"), (50, 168, "two"), (168, 330, "three"), (345, 400, "four")]
    with FakeGemini(marks=marks) as server:
        settings = marked(server)
        settings = dataclasses.replace(settings, model=dataclasses.replace(settings.model, media_input=media_input))
        rows = check_counts(tmp_path / "data", run_media(tmp_path / "data", sound, settings))
        calls = marking_calls(server)
    assert sorted(call.text.split("This stretch is ")[1][:18] for call in calls) == [
        "0:00.00 to 3:00.00", "2:40.00 to 5:40.00", "5:20.00 to 6:40.00",
    ]  # fmt: skip
    assert [(row["start_time"], row["end_time"], row["segment_label"]) for row in rows["segments"]] == marks


def test_segment_longer_than_the_maximum_is_split_with_its_label(tmp_path):
    sound = make_audio(tmp_path / "long.flac", 400)
    with FakeGemini(marks=[(0, 400, "talk")]) as server:
        rows = check_counts(tmp_path / "data", run_media(tmp_path / "data", sound, marked(server)))
    lengths = [row["end_us"] - row["start_us"] for row in rows["segments"]]
    assert (sum(lengths), max(lengths) <= 300_000_000) == (400_000_000, True)
    assert {row["segment_label"] for row in rows["segments"]} == {"talk"}


def answering(first, marks=MARKS):
    """Return a function that answers the first marking request with `first`, and all later ones well."""
    from tests.fake_gemini.answers import answer_for
    from tests.fake_gemini.marks import is_marking, marks_for
    from tests.fake_gemini.request_body import text_of

    asked = []

    def answer(body, schema):
        if not is_marking(schema):
            return answer_for(schema, text_of(body))
        asked.append(text_of(body))
        return first if len(asked) == 1 else marks_for(asked[-1], marks)

    return answer, asked


@pytest.mark.parametrize(
    ("marks", "problem"),
    [
        (
            [(0, 4), (2, 9)],
            "segments[0] is 0 to 4 s, but segments[1] starts at 2 s; list the segments in order of time",
        ),
        (
            [(5, 9), (0, 4)],
            "segments[0] is 5 to 9 s, but segments[1] starts at 0 s; list the segments in order of time",
        ),
        ([(3, 60)], "segments[0] is 3 to 60 s; start and end must be in this order within the 14 s of the stretch"),
        ([(9, 3)], "segments[0] is 9 to 3 s; start and end must be in this order"),
        ([(3, 4)], "segments[0] is 3 to 4 s; a segment must last at least 2 s, so join it with a neighbour"),
    ],
)
def test_invalid_marks_are_requested_again_with_their_problem(tmp_path, film, marks, problem):
    first = {"segments": [{"start": start, "end": end, "label": "x"} for start, end in marks]}
    answer, asked = answering(first)
    with FakeGemini(answer=answer) as server:
        rows = check_counts(tmp_path, run_media(tmp_path, film, marked(server)))
    assert len(asked) == 2
    assert problem in asked[1]
    assert [row["segment_label"] for row in rows["segments"]] == ["red card", "green card", "blue card"]
    calls = [call for call in rows["llm_calls"] if call["purpose"] == "segmentation"]
    assert [(call["status"], call["code"]) for call in calls] == [("error", "schema_invalid"), ("success", None)]


def test_item_whose_marks_fail_is_retried_as_an_item(tmp_path, film):
    other = make_audio(tmp_path / "tone.flac", 6)
    data = tmp_path / "data"
    with FakeGemini(marks=MARKS, faults=[Fault(text="stretch is .* of a video", answer="malformed")]) as server:
        settings = marked(server)
        run_id = run_media(data, [film, other], settings)
        rows = check_counts(data, run_id)
        (failure,) = rows["failures"]
        assert (failure["operation"], failure["code"], failure["segment_id"]) == ("processing", "answer_not_json", None)
        assert (failure["retryable"], failure["attempts"], failure["name"]) == (True, 2, "film.mp4")
        assert failure["answer"]
        assert {row["name"]: row["status"] for row in rows["media"]} == {"film.mp4": "failed", "tone.flac": "completed"}
        server.set_faults()
        server.ledger.clear()
        scope = RetryScope(frozenset({(failure["video_id"], failure["video_id"])}))
        write_retry(open_storage(data), run_id, "retry_1", scope)
        execute_run(str(data), run_id, retry_id="retry_1")
        rows = check_counts(data, run_id)
        assert len(marking_calls(server)) == 1
    assert rows["failures"] == []
    assert {row["name"]: row["segment_count"] for row in rows["media"]} == {"film.mp4": 3, "tone.flac": 1}


def test_segment_of_a_marked_item_is_retried_alone(tmp_path, film):
    with FakeGemini(marks=MARKS, faults=[Fault(text="segment is 0:04.00 to 0:10.00", answer="malformed")]) as server:
        run_id = run_media(tmp_path, film, marked(server))
        (failure,) = check_counts(tmp_path, run_id)["failures"]
        assert failure["operation"] == "field_extraction"
        server.set_faults()
        server.ledger.clear()
        scope = RetryScope(frozenset({(failure["video_id"], failure["segment_id"])}))
        write_retry(open_storage(tmp_path), run_id, "retry_1", scope)
        execute_run(str(tmp_path), run_id, retry_id="retry_1")
        rows = check_counts(tmp_path, run_id)
        assert marking_calls(server) == []
    assert rows["failures"] == []
    assert len(rows["results"]) == 3


def test_killed_run_resumes_without_paying_for_marks_again(tmp_path, film):
    with FakeGemini(marks=MARKS) as server:
        whole = tmp_path / "whole"
        expected = run_media(whole, film, marked(server))
        for answers in (1, 2):
            data = tmp_path / str(answers)
            server.ledger.clear()
            # One call at a time: the service may answer another one that the killed runner has not recorded yet.
            run_id = create_run(data, film, marked(server, max_in_flight=1))
            kill_runner_after(answers, data, run_id)
            execute_run(str(data), run_id)
            check_counts(data, run_id)
            assert server.ledger.repeated() == 0
            assert comparable_rows(data, run_id)["segments"] == comparable_rows(whole, expected)["segments"]


def test_run_stopped_before_the_marks_is_resumed(tmp_path, film):
    with FakeGemini(marks=MARKS) as server:
        run_media(tmp_path, film, marked(server, reuse=False))  # stores the analysis
        server.ledger.clear()
        storage, run_id = open_storage(tmp_path), create_run(tmp_path, film, marked(server))
        request_stop(storage, run_id, "test")
        execute_run(str(tmp_path), run_id)
        rows = check_counts(tmp_path, run_id)
        assert server.ledger.calls() == []
        (item,) = rows["media"]
        assert (item["status"], item["synthesis"], item["segment_count"]) == ("cancelled", "cancelled", 0)
        clear_stop(storage, run_id)
        execute_run(str(tmp_path), run_id)
        (item,) = check_counts(tmp_path, run_id)["media"]
    assert (item["status"], item["synthesis"], item["segment_count"]) == ("completed", "succeeded", 3)


def test_estimate_counts_the_stretches_until_they_are_marked(tmp_path, film):
    with FakeGemini(marks=MARKS) as server:
        settings, target, storage = marked(server), expand_target([str(film)]).items, open_storage(tmp_path)

        def estimate(**options):
            return estimate_run(storage, NESTED, settings, provider_of(settings), target, **options).to_dict()

        for options in ({}, {"analyze": True}):
            before = estimate(**options)
            assert (before["segments"], before["model_calls"], before["exact"]) == ([0, 7], [1, 9], False)
        rows = check_counts(tmp_path, run_media(tmp_path, film, settings))
        video = sum(call["video_tokens"] for call in rows["llm_calls"])
        assert before["input_tokens"]["video"] == pytest.approx(video, rel=0.2)
        after = estimate()
    assert (after["segments"], after["model_calls"], after["exact"]) == ([3, 3], [0, 0], True)


def test_built_in_model_is_rejected_for_a_definition():
    settings = RunSettings(segmentation=SegmentationSettings(segments_by=DEFINITION))
    with pytest.raises(SettingsError, match="the built-in model signals cannot mark segments by a definition"):
        check_definition(settings)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"segments_by": "  "}, "segments_by is '  '; say in 1 to 2000 characters what one segment is"),
        ({"segments_by": "x" * 2001}, "say in 1 to 2000 characters"),
        (
            {"segments_by": "per shot", "video_strategy": "content_aware"},
            "segments_by is 'per shot', but video segmentation is 'content_aware'; use smart segmentation",
        ),
    ],
)
def test_invalid_definition_is_rejected_with_its_value(values, message):
    with pytest.raises(SettingsError) as error:
        SegmentationSettings(**values)
    assert message in str(error.value)
