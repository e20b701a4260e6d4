"""Runs over a sample: which segments they process, what a complete run reuses, and the estimate."""

from dataclasses import replace

import pytest

from promptreel.cli.sampling import sample_target
from promptreel.cli.target import expand_target
from promptreel.pipelines.estimate import estimate_run
from promptreel.pipelines.runner import execute_run
from promptreel.providers.registry import provider_of
from promptreel.schemas.sampling import SampleSettings
from promptreel.tables.request import RunRequest, write_request
from promptreel.tables.storage import open_storage
from tests.fake_gemini import FakeGemini
from tests.pipeline_runs import (
    check_counts,
    make_audio,
    make_image,
    make_speech,
    make_video,
    manifest_of,
    rows_of,
    run_media,
    settings_for,
    with_models,
)
from tests.prompts import NESTED
from tests.tiny_models import make_whisper


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A video of 9 segments of 1 s, audio of 6, an image, and a broken file."""
    folder = tmp_path_factory.mktemp("media")
    make_video(folder / "a.mp4", 9)
    make_audio(folder / "b.flac", 6)
    make_image(folder / "c.png")
    (folder / "d.mp4").write_text("not a video")
    return folder


def sampled_run(data, media, settings, run_id):
    items = sample_target(expand_target([str(media)]).items, settings)
    write_request(open_storage(data), RunRequest(run_id, NESTED, settings, ("media",), "2026-01-01T00:00:00Z"), items)
    execute_run(str(data), run_id)
    return {row["segment_id"]: row for row in rows_of(data, run_id, "segments")}


def estimated(data, media, settings):
    items = sample_target(expand_target([str(media)]).items, settings)
    return estimate_run(open_storage(data), NESTED, settings, provider_of(settings), items).to_dict()


def test_sampled_segments_are_reused_by_the_complete_run(tmp_path, media):
    with FakeGemini() as server:
        complete = settings_for(server)
        settings = replace(complete, sample=SampleSettings(7, seed=1))
        before = estimated(tmp_path, media, settings)
        assert (before["segments"], before["model_calls"], before["items"]) == ([7, 7], [7, 7], 3)
        sample = sampled_run(tmp_path, media, settings, "run_sample")
        assert len(server.ledger.calls()) == 7  # and no synthesis
        after = estimated(tmp_path, media, settings)
        assert (after["model_calls"], after["reused_results"]) == ([0, 0], 7)
        run_id = run_media(tmp_path, media, complete)
        rows = check_counts(tmp_path, run_id)
        assert len(server.ledger.calls()) == 16 + 2  # every segment once, and two syntheses
        assert manifest_of(tmp_path, run_id).counts["results.reused"] == 7
        assert {row["segment_id"] for row in rows["results"] if row["reused"]} == set(sample)
    by_item = {row["name"]: row for row in rows_of(tmp_path, "run_sample", "media")}
    assert {name: row["segment_count"] for name, row in by_item.items()} == {"a.mp4": 3, "b.flac": 3, "c.png": 1}
    warning = "no synthesis: the run samples the segments of items"
    assert {name: warning in row["warnings"] for name, row in by_item.items()} == {
        "a.mp4": True, "b.flac": True, "c.png": False,
    }  # fmt: skip
    assert manifest_of(tmp_path, "run_sample").warnings.count(warning) == 1
    assert {row["status"] for row in by_item.values()} == {"completed"}
    numbers = {row["segment_id"]: row["segment_number"] for row in rows["segments"]}
    assert all(numbers[segment_id] == row["segment_number"] for segment_id, row in sample.items())


def test_seed_repeats_a_sample_and_a_larger_one_contains_it(tmp_path, media):
    settings = settings_for()
    settings = with_models(settings)

    def sample(name, count, seed):
        return set(sampled_run(tmp_path, media, replace(settings, sample=SampleSettings(count, seed=seed)), name))

    first, again, larger, other = (
        sample(*part) for part in (("run_a", 5, 1), ("run_b", 5, 1), ("run_c", 9, 1), ("run_d", 5, 2))
    )
    assert first == again < larger
    assert other != first
    assert (len(first), len(larger), len(other)) == (5, 9, 5)


def test_sample_of_items_has_complete_items_with_synthesis(tmp_path, media):
    with FakeGemini() as server:
        settings = replace(settings_for(server), sample=SampleSettings(2, "items", 5))
        before = estimated(tmp_path, media, settings)
        rows = sampled_run(tmp_path, media, settings, "run_items")
        items = rows_of(tmp_path, "run_items", "media")
        assert len(items) == before["items"] == 2
        assert before["model_calls"] == [len(server.ledger.calls())] * 2
        assert len(rows) == sum(row["segment_count"] for row in items)


def test_fewer_segments_than_items_take_one_of_each(tmp_path, media):
    settings = replace(settings_for(), sample=SampleSettings(2))
    items = sample_target(expand_target([str(media)]).items, settings)
    assert [item.sample_segments for item in items] == [1, 1]
    assert "d.mp4" not in {item.name for item in items}
    broken = sample_target(expand_target([str(media / "d.mp4")]).items, settings)
    assert [(item.name, item.sample_segments) for item in broken] == [("d.mp4", None)]


def test_words_of_sampled_segments_equal_those_of_the_complete_run(tmp_path):
    speech = make_speech(tmp_path / "speech.wav", 6)
    settings = with_models(settings_for(window_s=1), whisper=make_whisper(tmp_path / "whisper"))
    run_id = run_media(tmp_path, speech, settings)
    complete = {row["segment_id"]: row["text"] for row in rows_of(tmp_path, run_id, "transcripts")}
    sample = replace(settings, sample=SampleSettings(4, seed=3))
    sampled_run(tmp_path, speech, sample, "run_words")
    found = {row["segment_id"]: row["text"] for row in rows_of(tmp_path, "run_words", "transcripts")}
    assert len(found) == 4
    assert found.items() <= complete.items()
