"""Token estimates of models whose rates are unknown."""

import pytest

from promptreel.providers.registry import provider_of
from promptreel.providers.token_estimate import input_tokens
from promptreel.schemas.settings import ModelSettings, RunSettings, SamplingSettings, TranscriptionSettings
from tests.cli.in_process import invoke
from tests.pipeline_runs import make_image
from tests.pipelines.test_estimate import WITHOUT_SYNTHESIS

SIZE = SamplingSettings(max_width=280, max_height=140)  # 50 patches of 28 x 28 pixels


def tokens_of(model, **settings):
    """Return the tokens of two segments of 5 s with pictures and sound."""
    run = RunSettings(model=ModelSettings(model, base_url="http://x"), sampling=SIZE, **settings)
    return input_tokens(WITHOUT_SYNTHESIS, run, "video", {5.0: 2}, 0, has_pictures=True, has_sound=True)


def test_other_models_do_not_use_the_rates_of_gemini():
    gemini, other = tokens_of("gemini-3.5-flash-lite"), tokens_of("openai:tiny")
    assert gemini["video"] == 10 * 70
    assert other["image"] == 10 * 50
    assert "video" not in other
    assert "audio" not in other  # it reads the transcript


def test_transcript_counts_as_text_only_if_it_is_made():
    silent = tokens_of("openai:tiny", transcription=TranscriptionSettings(enabled=False))
    assert tokens_of("openai:tiny")["text"] == silent["text"] + 10 * 4


def test_sound_counts_if_the_model_hears_it():
    assert tokens_of("openai:gpt-4o-audio-preview")["audio"] == 10 * 25


@pytest.mark.parametrize(("model", "is_generic"), [("openai:tiny", True), ("gemini-9-pro", False), ("signals", False)])
def test_estimate_names_generic_rates(tmp_path, model, is_generic):
    make_image(tmp_path / "a.png")
    arguments = ["estimate", tmp_path / "a.png", "--model", model, "--data-dir", tmp_path / "data"]
    code, _, err = invoke(*arguments, "--base-url", "http://x")
    assert code == 0
    assert (f"generic rates, because those of model '{model}' are unknown" in err) == is_generic
    assert provider_of(RunSettings(model=ModelSettings(model))).name == model
