"""Runs with overlapping windows, sampled windows and a range of each item, against a fake service."""

import dataclasses

import pytest

from promptreel.cli.target import expand_target
from promptreel.pipelines.estimate import estimate_run
from promptreel.providers.registry import provider_of
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.tables.storage import open_storage
from tests.fake_gemini import FakeGemini
from tests.pipeline_runs import (
    check_counts,
    make_image,
    make_speech,
    make_video,
    run_media,
    settings_for,
    with_models,
)
from tests.prompts import NESTED
from tests.tiny_models import make_clip_folder, make_whisper

MEASURED = prompt_from_dict(
    {
        "name": "measured",
        "prompt_text": "Measure the segment.",
        "json_schema": {"type": "object", "properties": {"duration_seconds": {"type": "number"}}},
        "video_level": {
            "instructions_text": "Measure the item.",
            "json_schema": {"type": "object", "properties": {"duration_seconds": {"type": "number"}}},
        },
    }
)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("media") / "film.mp4", 8)


def cut(settings, **values):
    return dataclasses.replace(settings, segmentation=dataclasses.replace(settings.segmentation, **values))


def spans(rows):
    return [(row["start_time"], row["end_time"], row["overlap_us"] / 1e6) for row in rows["segments"]]


def test_overlapping_windows_are_separate_segments_in_every_table(tmp_path, film):
    with FakeGemini() as server:
        settings = cut(settings_for(server, window_s=4), hop_s=2)
        rows = check_counts(tmp_path, run_media(tmp_path, film, settings))
    assert spans(rows) == [(0, 4, 0), (2, 6, 2), (4, 8, 2)]
    assert [row["time"] for row in rows["frames"]] == sorted(row["time"] for row in rows["frames"])
    assert len(rows["frames"]) == 12  # a frame has one row for each segment that shows it
    (result,) = rows["video_results"]
    assert result["warning"] == "segments overlap: 4 s of the item are in more than one; the model was told which"
    (call,) = [call for call in rows["llm_calls"] if call["purpose"] == "video_level_synthesis"]
    assert "until 0:04.00 also in a segment above" in call["request"]


def test_windows_of_an_earlier_run_are_reused_under_a_hop(tmp_path, film):
    with FakeGemini() as server:
        settings = settings_for(server, window_s=4)
        before = check_counts(tmp_path, run_media(tmp_path, film, settings))
        server.ledger.clear()
        after = check_counts(tmp_path, run_media(tmp_path, film, cut(settings, hop_s=2)))
        assert len([call for call in server.ledger.calls() if "This segment is" in call.text]) == 1
    assert {row["segment_id"] for row in before["segments"]} < {row["segment_id"] for row in after["segments"]}


def test_range_of_an_item_reuses_the_windows_inside_it(tmp_path, film):
    with FakeGemini() as server:
        settings = settings_for(server, window_s=2)
        run_media(tmp_path, film, settings)
        server.ledger.clear()
        rows = check_counts(tmp_path, run_media(tmp_path, film, cut(settings, start_s=2, end_s=6)))
        assert not [call for call in server.ledger.calls() if "This segment is" in call.text]
    assert spans(rows) == [(2, 4, 0), (4, 6, 0)]
    assert [(row["start_reason"], row["end_reason"]) for row in rows["segments"]] == [
        ("range", "window"), ("window", "range"),
    ]  # fmt: skip


def test_item_that_ends_before_the_range_fails_alone(tmp_path, film):
    short, image = make_video(tmp_path / "short.mp4", 3), make_image(tmp_path / "still.png")
    with FakeGemini() as server:
        settings = cut(settings_for(server, window_s=2), start_s=5)
        target = [film, short, image]
        estimated = estimate_run(
            open_storage(tmp_path / "data"),
            NESTED,
            settings,
            provider_of(settings),
            expand_target(map(str, target)).items,
        ).to_dict()
        rows = check_counts(tmp_path / "data", run_media(tmp_path / "data", target, settings))
    (failure,) = rows["failures"]
    assert (failure["code"], failure["retryable"], failure["segment_id"]) == ("outside_range", False, None)
    assert failure["message"] == (
        "short.mp4: lasts 3 s, but the range to segment starts at 5 s; start earlier, or leave out the item"
    )
    assert {row["name"]: row["segment_count"] for row in rows["media"]} == {
        "film.mp4": 2,
        "short.mp4": 0,
        "still.png": 1,
    }
    errors = [item["error"] for item in estimated["details"] if item["error"]]
    assert errors == [failure["message"]]


@pytest.mark.parametrize(
    "values", [{"hop_s": 1}, {"hop_s": 3}, {"start_s": 1.5, "end_s": 6}, {"hop_s": 1, "start_s": 4}]
)
def test_estimate_knows_hop_and_range_before_decoding(tmp_path, film, values):
    with FakeGemini() as server:
        settings = cut(settings_for(server, window_s=2), **values)
        target = expand_target([str(film)]).items
        estimated = estimate_run(open_storage(tmp_path), NESTED, settings, provider_of(settings), target).to_dict()
        rows = check_counts(tmp_path, run_media(tmp_path, film, settings))
        calls = [call for call in rows["llm_calls"] if call["purpose"] == "metadata_extraction"]
    assert estimated["exact"]
    assert estimated["segments"] == [len(rows["segments"])] * 2
    assert estimated["model_calls"] == [len(rows["llm_calls"])] * 2
    assert estimated["input_tokens"]["video"] == pytest.approx(sum(call["video_tokens"] for call in calls), rel=0.1)
    assert estimated["input_tokens"]["audio"] == pytest.approx(sum(call["audio_tokens"] for call in calls), rel=0.1)


def test_range_limits_what_the_built_in_model_measures(tmp_path, film):
    settings = cut(settings_for(window_s=2), start_s=2, end_s=7)
    rows = check_counts(tmp_path, run_media(tmp_path, film, settings, MEASURED))
    assert [row["fields"]["duration_seconds"] for row in rows["results"]] == [2, 2, 1]
    assert [row["fields"]["duration_seconds"] for row in rows["video_results"]] == [5]
    assert rows["video_results"][0]["warning"] is None


def test_words_belong_to_each_segment_that_contains_them(tmp_path):
    speech = make_speech(tmp_path / "speech.mp4", 12, picture="testsrc2=size=160x90:rate=10")
    data = tmp_path / "data"
    settings = with_models(settings_for(window_s=4), whisper=make_whisper(tmp_path / "whisper"))
    words = [
        word
        for row in check_counts(data, run_media(data, speech, settings, MEASURED))["transcripts"]
        for word in row["words"]
    ]
    assert words
    for values in ({"hop_s": 2}, {"start_s": 3, "end_s": 9}, {"hop_s": 6}):
        rows = check_counts(data, run_media(data, speech, cut(settings, **values), MEASURED))
        for row in rows["transcripts"]:
            is_last = row["end_us"] == rows["media"][0]["duration_us"]
            middles = [((word["start_us"] + word["end_us"]) // 2, word) for word in words]
            expected = [word for at, word in middles if row["start_us"] <= at and (is_last or at < row["end_us"])]
            assert row["words"] == expected, (values, row["start_us"])


def test_frames_of_overlapping_segments_are_embedded_for_each(tmp_path, film):
    settings = with_models(
        cut(settings_for(window_s=4), hop_s=2), clip=f"local-dir:{make_clip_folder(tmp_path / 'clip')}"
    )
    rows = check_counts(tmp_path / "data", run_media(tmp_path / "data", film, settings, MEASURED))
    embedded = {row["segment_id"] for row in rows["image_embeddings"]}
    assert embedded == {row["segment_id"] for row in rows["segments"]}
