"""The estimated tokens and money of a run match what the run uses, for every media input and model family."""

from dataclasses import replace

import pytest

from promptreel.cli.target import expand_target
from promptreel.pipelines.estimate import estimate_run
from promptreel.providers.registry import provider_of
from promptreel.schemas.evidence import EvidenceSettings
from promptreel.schemas.money import money_of
from promptreel.schemas.prices import ModelPrice
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.schemas.segmentation import SegmentationSettings
from promptreel.schemas.settings import ModelSettings, RunSettings, TextEmbeddingSettings
from promptreel.tables.storage import open_storage
from tests.fake_gemini import TALKATIVE, FakeGemini
from tests.pipeline_runs import (
    MODEL,
    create_run,
    make_audio,
    make_media,
    make_video,
    manifest_of,
    run_media,
    settings_for,
    with_models,
)

FAMILIES = ["gemini-2.5-flash-lite", "gemini-3.5-flash-lite", "gemini-3.8-flash"]
DESCRIBE = prompt_from_dict(
    {
        "name": "describe",
        "prompt_text": "Describe the segment: what happens, where, and who is seen.",
        "json_schema": {
            "type": "object",
            "properties": {
                "summary": {"type": "string"},
                "place": {"type": "string"},
                "people": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3},
                "indoors": {"type": "boolean"},
            },
            "required": ["summary", "place", "people"],
        },
        "video_level": {
            "instructions_text": "Sum the item up.",
            "included_segment_fields": ["summary"],
            "json_schema": {"type": "object", "properties": {"topic": {"type": "string"}}, "required": ["topic"]},
        },
    }
)


def make_still(path, number):
    """Generate an image; each number has its own colour."""
    return make_media(path, f"color=c=0x{15 * number:02x}8060:size=160x90:rate=1:duration=1", "-frames:v", "1")


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    make_video(folder / "film.mp4", 60)
    make_video(folder / "silent.mp4", 24, sound=False)
    make_audio(folder / "talk.flac", 24)
    for number in range(2):
        make_still(folder / f"{number}.png", number)
    return folder


@pytest.fixture(scope="module")
def stills(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stills")
    for number in range(16):
        make_still(folder / f"{number}.png", number)
    return folder


def estimate(data, target, settings, prompt=DESCRIBE, **options):
    items = expand_target([str(target)]).items
    return estimate_run(open_storage(data), prompt, settings, provider_of(settings), items, **options).to_dict()


def quick(settings):
    return with_models(settings)


def check_estimate(estimated, counts, tolerance=0.2):
    """Check that the expected values are near what a run used, and that the spread contains it."""
    actual = {
        "input": counts["tokens.input"],
        "output": counts["tokens.output"] + counts["tokens.thought"],
    }
    for kind, used in actual.items():
        spread = estimated["expected_tokens"][kind]
        assert spread["expected"] == pytest.approx(used, rel=tolerance), (kind, spread, used)
        assert spread["low"] <= used <= spread["high"], (kind, spread, used)
    cost, paid = estimated["cost"], money_of(counts)
    assert cost["currency"] == paid.currency
    assert cost["expected"] == pytest.approx(paid.amount, rel=tolerance), (cost, paid)
    assert cost["low"] <= paid.amount <= cost["high"], (cost, paid)


@pytest.mark.parametrize("media_input", ["clips", "frames", "files"])
@pytest.mark.parametrize("model", FAMILIES)
def test_first_estimate_is_within_a_fifth(tmp_path, media, model, media_input):
    with FakeGemini(usage=TALKATIVE) as server:
        settings = quick(settings_for(server, window_s=4, model=model, media_input=media_input))
        estimated = estimate(tmp_path, media, settings)
        assert estimated["calibration"] is None
        check_estimate(estimated, manifest_of(tmp_path, run_media(tmp_path, media, settings, DESCRIBE)).counts)


@pytest.mark.parametrize("model", FAMILIES)
def test_first_estimate_of_images_is_within_a_fifth(tmp_path, stills, model):
    with FakeGemini(usage=TALKATIVE) as server:
        settings = quick(settings_for(server, model=model))
        estimated = estimate(tmp_path, stills, settings)
        check_estimate(estimated, manifest_of(tmp_path, run_media(tmp_path, stills, settings, DESCRIBE)).counts)


# A service that counts and writes otherwise than expected.
UNUSUAL = replace(
    TALKATIVE, words=(35, 60), factors={"VIDEO": 1.8, "IMAGE": 1.7, "AUDIO": 1.5}, thought_factor=2.5
)  # fmt: skip


@pytest.mark.parametrize(("model", "media_input"), zip(FAMILIES, ["clips", "frames", "files"], strict=True))
def test_records_of_an_earlier_run_calibrate_the_estimate(tmp_path, media, model, media_input):
    with FakeGemini(usage=UNUSUAL) as server:
        settings = quick(settings_for(server, window_s=4, model=model, media_input=media_input))
        other = make_video(tmp_path / "other.mp4", 44, pattern="testsrc")
        first = estimate(tmp_path, other, settings)
        counts = manifest_of(tmp_path, run_media(tmp_path, media, settings, DESCRIBE)).counts
        calibrated = estimate(tmp_path, other, settings)
        assert calibrated["calibration"] == {
            "calls": counts["calls.total"],
            "runs": 1,
            "kinds": ["audio", "image", "synthesis", "video"],
        }
        counts = manifest_of(tmp_path, run_media(tmp_path, other, settings, DESCRIBE)).counts
        check_estimate(calibrated, counts)
        paid = money_of(counts).amount
        assert abs(first["cost"]["expected"] - paid) > 0.2 * paid
        narrow, wide = (part["cost"]["high"] - part["cost"]["low"] for part in (calibrated, first))
        assert narrow < wide


def test_only_comparable_runs_of_the_same_owner_calibrate(tmp_path, stills):
    with FakeGemini(usage=UNUSUAL) as server:
        settings = quick(settings_for(server))
        run_media(tmp_path, stills, settings, DESCRIBE)

        def calibrated(settings, **options):
            return estimate(tmp_path, stills, settings, **options)["calibration"] is not None

        assert calibrated(settings)
        assert not calibrated(settings, owner="acc_other")
        for changed in ({"model": FAMILIES[0]}, {"media_input": "frames"}, {"media_resolution": "low"}):
            assert not calibrated(replace(settings, model=replace(settings.model, **changed)))


def test_damaged_earlier_runs_do_not_fail_an_estimate(tmp_path, stills):
    with FakeGemini() as server:
        settings = quick(settings_for(server))
        broken = create_run(tmp_path, stills, settings, DESCRIBE)
        (tmp_path / "runs" / broken / "request.json").write_text("{")
        create_run(tmp_path, stills, settings, DESCRIBE)
        assert estimate(tmp_path, stills, settings)["calibration"] is None


def test_unknown_price_is_null_and_finished_work_costs_nothing(tmp_path, stills):
    with FakeGemini() as server:
        unknown = quick(settings_for(server, model="gemini-99-unseen"))
        estimated = estimate(tmp_path, stills, unknown)
        assert estimated["cost"] is None
        assert estimated["expected_tokens"]["input"]["expected"] > 0
        priced = replace(unknown, prices=(ModelPrice("gemini-99-unseen", 1.0, 1.0, currency="EUR"),))
        assert estimate(tmp_path, stills, priced)["cost"]["currency"] == "EUR"
        settings = quick(settings_for(server))
        run_media(tmp_path, stills, settings, DESCRIBE)
        cost = estimate(tmp_path, stills, settings)["cost"]
        assert (cost["low"], cost["expected"], cost["high"]) == (0, 0, 0)


def test_unplanned_segments_widen_the_spread(tmp_path, media):
    with FakeGemini() as server:
        model = ModelSettings(MODEL, base_url=server.base_url)
        settings = quick(RunSettings(segmentation=SegmentationSettings("smart"), model=model))
        planned = estimate(tmp_path / "planned", media, settings, analyze=True)
        unplanned = estimate(tmp_path, media, settings)
        for estimated in (planned, unplanned):
            spread = estimated["expected_tokens"]["input"]
            assert spread["low"] < spread["expected"] < spread["high"]
        low, high = (unplanned["expected_tokens"]["input"][name] for name in ("low", "high"))
        assert low <= planned["expected_tokens"]["input"]["expected"] <= high
        details = [item["cost"]["expected"] for item in unplanned["details"]]
        assert sum(details) == pytest.approx(unplanned["cost"]["expected"])


def test_texts_to_embed_have_the_price_of_their_model(tmp_path, stills):
    with FakeGemini() as server:
        settings = replace(settings_for(server), text_embedding=TextEmbeddingSettings(model="gemini-embedding-001"))
        without = estimate(tmp_path, stills, quick(settings_for(server)))["cost"]
        with_embedding = estimate(tmp_path, stills, settings)["cost"]
        assert with_embedding["expected"] > without["expected"]


def test_tier_of_the_calls_halves_estimate_and_bill(tmp_path, stills):
    with FakeGemini(usage=TALKATIVE) as server:
        settings = quick(settings_for(server))
        standard = estimate(tmp_path, stills, settings)
        flex = replace(settings, model=replace(settings.model, tier="flex"))
        estimated = estimate(tmp_path, stills, flex)
        assert (standard["cost"]["tier"], estimated["cost"]["tier"]) == ("standard", "flex")
        assert estimated["cost"]["expected"] == pytest.approx(standard["cost"]["expected"] / 2)
        check_estimate(estimated, manifest_of(tmp_path, run_media(tmp_path, stills, flex, DESCRIBE)).counts)


def test_calls_that_mark_segments_are_estimated_and_calibrate(tmp_path, media):
    with FakeGemini(usage=TALKATIVE, marks=[(0, 20, "first"), (20, 60, "second")]) as server:
        segmentation = SegmentationSettings("smart", segments_by="one segment per scene")
        model = ModelSettings(MODEL, base_url=server.base_url)
        settings = quick(RunSettings(segmentation=segmentation, model=model))
        film = media / "film.mp4"
        estimated = estimate(tmp_path, film, settings)
        counts = manifest_of(tmp_path, run_media(tmp_path, film, settings, DESCRIBE)).counts
        spread = estimated["expected_tokens"]["input"]
        assert spread["low"] <= counts["tokens.input"] <= spread["high"]
        assert estimated["cost"]["low"] <= money_of(counts).amount <= estimated["cost"]["high"]
        other = make_video(tmp_path / "other.mp4", 60, pattern="testsrc")
        assert "segmentation" in estimate(tmp_path, other, settings)["calibration"]["kinds"]


def test_sample_costs_at_most_its_share_of_segments(tmp_path, media):
    with FakeGemini(usage=TALKATIVE) as server:
        settings = quick(settings_for(server, window_s=4))
        film = media / "film.mp4"
        complete = estimate(tmp_path, film, settings)["expected_tokens"]["input"]
        (item,) = expand_target([str(film)]).items
        sampled = replace(item, sample_segments=3)
        found = estimate_run(open_storage(tmp_path), DESCRIBE, settings, provider_of(settings), [sampled]).to_dict()
        spread = found["expected_tokens"]["input"]
        assert found["segments"] == [3, 3]
        assert 0 < spread["low"] <= spread["expected"] <= spread["high"]
        assert spread["expected"] == pytest.approx(complete["expected"] * 3 / 15, rel=0.1)  # without a synthesis


def test_evidence_is_part_of_the_estimate(tmp_path, stills):
    with FakeGemini(usage=TALKATIVE) as server:
        settings = replace(quick(settings_for(server)), evidence=EvidenceSettings())
        estimated = estimate(tmp_path, stills, settings)
        plain = estimate(tmp_path, stills, replace(settings, evidence=None))
        counts = manifest_of(tmp_path, run_media(tmp_path, stills, settings, DESCRIBE)).counts
        assert plain["expected_tokens"]["output"]["expected"] < estimated["expected_tokens"]["output"]["expected"]
        check_estimate(estimated, counts, tolerance=0.3)
