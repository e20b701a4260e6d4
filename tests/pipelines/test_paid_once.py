"""Settings that cannot change a finished answer do not pay for it again in a later run."""

import copy
from dataclasses import replace

import pytest

from promptreel.providers import extraction, synthesis
from promptreel.providers.gemini import GeminiProvider
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.transforms import extract_fields, synthesize_media
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import make_audio, make_image, make_media, make_video, plain_rows, run_media, settings_for
from tests.prompts import NESTED

SECONDS = 3
EARLIER_KEY = "78aa0d22439f3fa89d47aca67e9c8a32cffd5e8a63c309ceaff8bb86677b680a"
TRUNCATED = Fault(text="0:01.00 to 0:02.00", answer="truncated")


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A slow video, whose frames are the same at any rate from 1 per second; a fast one; an audio file; an image."""
    folder = tmp_path_factory.mktemp("media")
    slow = f"testsrc2=size=160x90:rate=1:duration={SECONDS}"
    return {
        "slow": make_media(folder / "slow.mp4", slow, "-c:v", "libx264", "-preset", "ultrafast"),
        "fast": make_video(folder / "fast.mp4", SECONDS, sound=False),
        "audio": make_audio(folder / "tone.flac", SECONDS),
        "image": make_image(folder / "still.png"),
    }


def with_budget(settings, tokens):
    return replace(settings, model=replace(settings.model, max_output_tokens=tokens))


def with_rate(settings, frames_per_second):
    return replace(settings, sampling=replace(settings.sampling, frames_per_second=frames_per_second))


def calls_of_second_run(data, media, first, second, prompts=(NESTED, NESTED), faults=()):
    """Return the calls that a run with changed settings makes after a run over the same media."""
    with FakeGemini(faults=list(faults)) as server:
        run_media(data, media, first(settings_for(server, media_input="clips")), prompts[0])
        made = len(server.ledger.calls())
        assert made
        server.set_faults()
        run_id = run_media(data, media, second(settings_for(server, media_input="clips")), prompts[1])
        return server.ledger.calls()[made:], run_id


def unchanged(settings):
    return settings


def test_larger_output_budget_pays_no_finished_answer_again(tmp_path, films):
    larger = lambda settings: with_budget(settings, 20_000)  # noqa: E731
    calls, _ = calls_of_second_run(tmp_path, films["fast"], unchanged, larger)
    assert calls == []


def test_larger_output_budget_in_a_new_run_pays_only_the_truncated_answer(tmp_path, films):
    larger = lambda settings: with_budget(settings, 60_000)  # noqa: E731
    calls, run_id = calls_of_second_run(tmp_path, films["fast"], unchanged, larger, faults=[TRUNCATED])
    assert ["0:01.00 to 0:02.00" in call.text for call in calls if "segment is" in call.text] == [True]
    assert plain_rows(tmp_path, run_id, "failures") == []


@pytest.mark.parametrize("name", ["audio", "image", "slow"])
def test_another_rate_with_equal_frames_pays_nothing_again(tmp_path, films, name):
    calls, _ = calls_of_second_run(tmp_path, films[name], unchanged, lambda settings: with_rate(settings, 2))
    assert calls == []


def test_another_rate_with_other_frames_makes_the_calls(tmp_path, films):
    calls, _ = calls_of_second_run(tmp_path, films["fast"], unchanged, lambda settings: with_rate(settings, 2))
    assert len(calls) >= SECONDS


def described(definition):
    """Describe every schema in a prompt definition, and end its lines with spaces."""
    definition = copy.deepcopy(definition)

    def visit(schema):
        schema |= {"description": "now described", "title": "titled", "examples": ["x"], "$comment": "noted"}
        for part in schema.get("properties", {}).values():
            visit(part)
        if isinstance(schema.get("items"), dict):
            visit(schema["items"])

    for part in (definition, definition["video_level"]):
        visit(part["json_schema"])
    definition["prompt_text"] = "  \n".join(definition["prompt_text"].split("\n")) + " \n\n"
    definition["video_level"]["instructions_text"] += "\t \n"
    return definition


def test_descriptions_and_trailing_spaces_pay_nothing_again(tmp_path, films):
    prompts = (NESTED, prompt_from_dict(described(NESTED.to_dict())))
    calls, _ = calls_of_second_run(tmp_path, films["fast"], unchanged, unchanged, prompts)
    assert calls == []


def test_results_of_an_earlier_version_are_not_paid_again(tmp_path, films, monkeypatch):
    with FakeGemini() as server:
        with monkeypatch.context() as earlier:
            earlier.setattr(extract_fields, "extraction_key", extraction.earlier_extraction_key)
            earlier.setattr(synthesize_media, "synthesis_key", synthesis.earlier_synthesis_key)
            earlier.setattr(extract_fields, "_item_key", lambda task, provider: task.analysis_key)
            run_media(tmp_path, films["fast"], settings_for(server))
        made = len(server.ledger.calls())
        run_id = run_media(tmp_path, films["fast"], settings_for(server))
        segment_calls = [call for call in server.ledger.calls()[made:] if "segment is" in call.text]
    assert made > SECONDS
    assert segment_calls == []
    assert all(row["reused"] for row in plain_rows(tmp_path, run_id, "results"))


def test_earlier_key_contains_the_output_budget():
    """The expected key was computed by the version before the change of keys."""
    settings = settings_for().model
    provider = GeminiProvider(replace(settings, model="gemini-2.5-flash"), 1.0)
    assert provider.earlier_fingerprint()["max_output_tokens"] == settings.max_output_tokens
    assert extraction.earlier_extraction_key(provider, NESTED, "item", (0, 1)) == EARLIER_KEY
