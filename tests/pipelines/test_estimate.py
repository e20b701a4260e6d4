"""Estimates match the run: segments, calls, reused results and, approximately, tokens."""

import json
from dataclasses import replace

import pytest

from promptreel.cli.target import expand_target
from promptreel.pipelines.estimate import estimate_run
from promptreel.providers.registry import provider_of
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.schemas.segmentation import SegmentationSettings
from promptreel.schemas.settings import ModelSettings, RunSettings
from promptreel.tables.storage import open_storage
from tests.fake_gemini import FakeGemini
from tests.pipeline_runs import (
    MODEL,
    check_counts,
    make_audio,
    make_image,
    make_speech,
    make_video,
    manifest_of,
    run_media,
    settings_for,
    with_models,
)
from tests.prompts import NESTED
from tests.tiny_models import make_whisper
from tests.transforms.test_embed_texts import MEASURED

WITHOUT_SYNTHESIS = prompt_from_dict({**NESTED.to_dict(), "video_level": None})


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    make_video(folder / "a.mp4", 9)
    make_audio(folder / "b.flac", 7)
    make_image(folder / "c.png")
    (folder / "d.mp4").write_text("not a video")
    return folder


def estimate(data, media, settings, prompt=NESTED, **options):
    provider = provider_of(settings)
    return estimate_run(
        open_storage(data), prompt, settings, provider, expand_target([str(media)]).items, **options
    ).to_dict()


@pytest.mark.parametrize("prompt", [NESTED, WITHOUT_SYNTHESIS], ids=["with synthesis", "without"])
def test_fixed_windows_are_exact_without_decoding(tmp_path, media, prompt):
    with FakeGemini() as server:
        settings = settings_for(server, window_s=2)
        before = estimate(tmp_path, media, settings, prompt)
        assert not (tmp_path / "cache").exists()
        assert before["exact"]
        run_id = run_media(tmp_path, media, settings, prompt)
        rows = check_counts(tmp_path, run_id)
        assert before["segments"] == [len(rows["segments"])] * 2 == [10, 10]
        assert before["model_calls"] == [len(server.ledger.calls())] * 2
        assert (before["reused_results"], before["items"], before["eligible_items"]) == (0, 4, 3)
        errors = {item["name"]: item["error"] for item in before["details"] if item["error"]}
        assert list(errors) == ["d.mp4"]
        assert errors["d.mp4"] == rows["failures"][0]["message"]

        after = estimate(tmp_path, media, settings, prompt)
        assert after["model_calls"] == [0, 0]
        assert after["reused_results"] == len(rows["results"]) + len(rows["video_results"])
        assert after["input_tokens"] == {"total": 0}
        again = manifest_of(tmp_path, run_media(tmp_path, media, settings, prompt)).counts
        assert after["reused_results"] == again["results.reused"] + again.get("video_results.reused", 0)


@pytest.mark.parametrize(
    ("model", "resolution"),
    [
        (MODEL, None),
        (MODEL, "high"),
        (MODEL, "low"),
        (MODEL, "ultra_high"),
        ("gemini-2.5-flash-lite", None),
        ("gemini-2.5-flash-lite", "low"),
    ],
)
def test_input_tokens_are_within_ten_percent(tmp_path, media, model, resolution):
    with FakeGemini() as server:
        settings = settings_for(server, window_s=3, model=model)
        settings = replace(settings, model=replace(settings.model, media_resolution=resolution))
        for where in ("before", "after"):
            data = tmp_path / where
            if where == "after":
                estimate(data, media, settings, WITHOUT_SYNTHESIS, analyze=True)
            tokens = estimate(data, media, settings, WITHOUT_SYNTHESIS)["input_tokens"]
            server.ledger.clear()
            rows = check_counts(data, run_media(data, media, settings, WITHOUT_SYNTHESIS))
            counted = sum(entry.input_tokens for entry in server.ledger.answered())
            assert tokens["total"] - tokens["schema"] == pytest.approx(counted, rel=0.1)
            for kind in ("text", "image", "video", "audio"):
                assert tokens[kind] == pytest.approx(sum(c[f"{kind}_tokens"] for c in rows["llm_calls"]), rel=0.1), kind


def test_frames_count_as_images(tmp_path, media):
    with FakeGemini() as server:
        settings = settings_for(server, window_s=3, media_input="frames")
        tokens = estimate(tmp_path, media, settings, WITHOUT_SYNTHESIS)["input_tokens"]
        rows = check_counts(tmp_path, run_media(tmp_path, media, settings, WITHOUT_SYNTHESIS))
        assert tokens["image"] == pytest.approx(sum(c["image_tokens"] for c in rows["llm_calls"]), rel=0.1)
        assert tokens["text"] == pytest.approx(sum(c["text_tokens"] for c in rows["llm_calls"]), rel=0.1)
        assert "video" not in tokens


@pytest.mark.parametrize(
    ("media_input", "chosen"),
    [
        ("clips", {"frames_per_segment": 3}),
        ("clips", {"frames_per_segment": 4, "sound": False, "media_resolution": "low"}),
        ("clips", {"sound": False}),
        ("frames", {"frames_per_segment": 3, "sound": False, "media_resolution": "low"}),
    ],
)
@pytest.mark.parametrize("model", [MODEL, "gemini-2.5-flash-lite"])
def test_chosen_frames_and_sound_count_as_sent(tmp_path, media, model, media_input, chosen):
    with FakeGemini() as server:
        settings = settings_for(server, window_s=6, model=model, media_input=media_input)
        settings = replace(settings, model=replace(settings.model, **chosen))
        tokens = estimate(tmp_path, media, settings, WITHOUT_SYNTHESIS)["input_tokens"]
        rows = check_counts(tmp_path, run_media(tmp_path, media, settings, WITHOUT_SYNTHESIS))
        for kind in ("text", "image", "video", "audio"):
            counted = sum(call[f"{kind}_tokens"] for call in rows["llm_calls"])
            assert tokens.get(kind, 0) == pytest.approx(counted, rel=0.1), kind


@pytest.mark.parametrize("strategy", ["smart", "content_aware"])
def test_content_aware_segments_are_bounds_until_analysed(tmp_path, media, strategy):
    with FakeGemini() as server:
        model = ModelSettings(MODEL, base_url=server.base_url)
        settings = RunSettings(segmentation=SegmentationSettings(video_strategy=strategy), model=model)
        bounds = estimate(tmp_path, media, settings)
        exact = estimate(tmp_path, media, settings, analyze=True)
        assert exact["exact"]
        run_id = run_media(tmp_path, media, settings)
        segments, calls = manifest_of(tmp_path, run_id).counts["segments.total"], len(server.ledger.calls())
    assert exact["segments"] == [segments, segments]
    assert exact["model_calls"] == [calls, calls]
    assert bounds["segments"][0] <= segments <= bounds["segments"][1]
    assert bounds["model_calls"][0] <= calls <= bounds["model_calls"][1]
    assert not bounds["exact"]
    assert json.dumps(exact)


def test_run_without_reuse_repeats_all_calls(tmp_path, media):
    with FakeGemini() as server:
        run_media(tmp_path, media, settings_for(server, window_s=2))
        calls = len(server.ledger.calls())
        fresh = estimate(tmp_path, media, settings_for(server, window_s=2, reuse=False))
        assert (fresh["model_calls"], fresh["reused_results"]) == ([calls, calls], 0)


EMBEDDER = "gemini-embedding-001"
SPOKEN = prompt_from_dict(
    {
        **NESTED.to_dict(),
        "video_level": {
            **NESTED.to_dict()["video_level"],
            "included_segment_fields": ["summary", "transcription"],
        },
    }
)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    return make_whisper(tmp_path_factory.mktemp("whisper") / "tiny")


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("talk")
    make_speech(folder / "talk.mp4", 9, 1, "testsrc2=size=160x90:rate=10")
    make_image(folder / "still.png")
    return folder


def call_count(server):
    return len(server.ledger.calls()) + len(server.ledger.calls("batchEmbedContents"))


@pytest.mark.parametrize(
    ("prompt", "speech", "text"),
    [
        (WITHOUT_SYNTHESIS, False, None),
        (NESTED, False, None),
        (NESTED, True, "wordllama"),
        (NESTED, False, EMBEDDER),
        (WITHOUT_SYNTHESIS, True, EMBEDDER),
        (SPOKEN, True, EMBEDDER),
    ],
    ids=["fields", "synthesis", "speech", "embedding", "fields, speech, embedding", "all, and speech read"],
)
def test_calls_of_every_option_are_exact(tmp_path, talk, whisper, prompt, speech, text):
    with FakeGemini() as server:
        settings = with_models(settings_for(server, window_s=2), whisper=whisper if speech else None, text=text)
        before = estimate(tmp_path, talk, settings, prompt)
        rows = check_counts(tmp_path, run_media(tmp_path, talk, settings, prompt))
        calls = call_count(server)
        assert before["model_calls"] == [calls, calls] == [len(rows["llm_calls"])] * 2
        embedded = sum(c["input_tokens"] for c in rows["llm_calls"] if c["purpose"] == "text_embedding")
        assert ("embedding" in before["input_tokens"]) == bool(embedded)
        assert embedded <= before["input_tokens"].get("embedding", 0) <= 3 * embedded
        after = estimate(tmp_path, talk, settings, prompt)
        run_media(tmp_path, talk, settings, prompt)
        assert call_count(server) == calls
        assert (after["model_calls"], after["input_tokens"]) == ([0, 0], {"total": 0})
        assert after["reused_results"] == len(rows["results"]) + len(rows["video_results"])


def test_texts_of_cached_results_are_counted_exactly(tmp_path, talk):
    with FakeGemini() as server:
        run_media(tmp_path, talk, with_models(settings_for(server, window_s=2), text="wordllama"))
        server.ledger.clear()
        settings = with_models(settings_for(server, window_s=2), text=EMBEDDER)
        estimated = estimate(tmp_path, talk, settings)
        rows = check_counts(tmp_path, run_media(tmp_path, talk, settings))
        assert estimated["model_calls"] == [call_count(server)] * 2 == [2, 2]
        assert estimated["input_tokens"] == {
            kind: sum(call["input_tokens"] for call in rows["llm_calls"]) for kind in ("embedding", "total")
        }


def test_many_texts_take_several_calls(tmp_path):
    with FakeGemini() as server:
        settings = with_models(settings_for(server, window_s=1), text=EMBEDDER)
        long = make_video(tmp_path / "media" / "long.mp4", 40, sound=False)
        minimum, maximum = estimate(tmp_path / "data", long, settings)["model_calls"]
        run_media(tmp_path / "data", long, settings)
        batches = len(server.ledger.calls("batchEmbedContents"))
        assert batches > 1
        assert minimum <= call_count(server) <= maximum


def test_built_in_model_may_leave_nothing_to_embed(tmp_path, media):
    with FakeGemini() as server:
        service = ModelSettings(base_url=server.base_url)
        settings = with_models(settings_for(window_s=2), text=EMBEDDER, model=service)
        minimum, maximum = estimate(tmp_path, media, settings, MEASURED)["model_calls"]
        run_media(tmp_path, media, settings, MEASURED)
        assert minimum == 0 < call_count(server) <= maximum == 3


def test_built_in_model_is_never_called(tmp_path, media):
    estimated = estimate(tmp_path, media, settings_for(window_s=2), WITHOUT_SYNTHESIS)
    assert (estimated["model_calls"], estimated["input_tokens"]) == ([0, 0], {"total": 0})
