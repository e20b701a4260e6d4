"""The default model, names that the service has shut down, and what each family of models is sent."""

import json

import pytest

from promptreel.providers.gemini import GeminiProvider
from promptreel.providers.known_models import (
    DEFAULT_GEMINI_MODEL,
    FAMILIES,
    RETIRED,
    family_of,
    retirement_warning,
)
from promptreel.providers.registry import check_run
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.settings import ModelSettings, RunSettings, settings_from_dict
from tests.fake_gemini import FakeGemini
from tests.pipeline_runs import check_counts, make_video, promptreel, run_media, settings_for
from tests.prompts import NESTED

OLD = "gemini-2.5-flash-lite"
SHUT_DOWN = "gemini-2.5-flash"
SHORT = [
    "--video-segmentation",
    "fixed",
    "--video-segment-seconds",
    4,
    "--media-input",
    "frames",
    "--no-text-embedding",
]


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    monkeypatch.delenv("PROMPTREEL_MODEL", raising=False)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("media") / "clip.mp4", 4, sound=False)


@pytest.fixture(scope="module")
def prompt(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompt") / "prompt.json"
    definition = {
        "name": "mine",
        "prompt_text": "Describe the segment.",
        "json_schema": {"type": "object", "properties": {"summary": {"type": "string"}}},
    }
    path.write_text(json.dumps(definition))
    return path


@pytest.fixture
def bodies():
    return []


@pytest.fixture
def server(bodies):
    """A service that has shut down what the real one has, and notes what it is sent."""

    def answer(body, schema):
        bodies.append(body)
        return {"summary": "a film"}

    with FakeGemini(answer=answer) as running:
        yield running


# The default, and names that are shut down


def test_a_run_without_a_model_completes_at_a_service_that_has_shut_names_down(tmp_path, clip, prompt, server):
    words = ["--prompt", prompt, "--base-url", server.base_url, *SHORT, "--data-dir", tmp_path, "--json"]
    code, out, err = promptreel("run", clip, *words)
    assert (code, json.loads(out)["status"]) == (0, "completed"), err
    assert "warning" not in err
    assert {entry.model for entry in server.ledger.calls()} == {DEFAULT_GEMINI_MODEL}


def test_a_model_that_is_shut_down_fails_with_one_message_that_names_its_successor(tmp_path, clip, prompt, server):
    words = ["--prompt", prompt, "--model", SHUT_DOWN, "--base-url", server.base_url, *SHORT, "--data-dir", tmp_path]
    code, out, err = promptreel("run", clip, *words, "--json")
    assert code == 1
    successor = RETIRED[SHUT_DOWN].successor
    assert err.count("warning: ") == 1
    assert f"warning: {retirement_warning(ModelSettings(SHUT_DOWN))}\n" in err
    (failure,) = json.loads(out)["failures"]
    assert failure["code"] == "model_not_found"
    said = f"the service does not have model '{SHUT_DOWN}' (shutdown date {RETIRED[SHUT_DOWN].shutdown_date}); "
    assert failure["message"].startswith(f"{said}use {successor} instead (HTTP 404 NOT_FOUND: ")
    assert len(server.ledger.calls()) == 1


def test_every_segment_after_the_first_is_not_called_for(tmp_path, server):
    media = make_video(tmp_path / "media" / "long.mp4", 8, sound=False)
    settings = settings_for(server, model=SHUT_DOWN, media_input="frames", max_in_flight=1)
    rows = check_counts(tmp_path / "data", run_media(tmp_path / "data", media, settings))
    assert len(server.ledger.calls()) == 1
    messages = {row["message"].removeprefix("not called because an earlier call failed: ") for row in rows["failures"]}
    assert len(rows["failures"]) >= 8
    assert len(messages) == 1


def test_an_unknown_name_goes_to_the_service_and_its_404_names_it(tmp_path, clip, prompt):
    with FakeGemini(retired=["gemini-9-of-tomorrow"]) as server:
        words = ["--model", "gemini-9-of-tomorrow", "--base-url", server.base_url, *SHORT]
        code, out, err = promptreel("run", clip, "--prompt", prompt, *words, "--data-dir", tmp_path, "--json")
    (failure,) = json.loads(out)["failures"]
    assert code == 1
    assert "warning" not in err
    assert failure["message"].startswith("the service does not have model 'gemini-9-of-tomorrow'; check the name")


def test_the_estimate_warns_of_a_shutdown_too(tmp_path, clip, prompt):
    words = ["--prompt", prompt, "--model", SHUT_DOWN, "--data-dir", tmp_path]
    code, _, err = promptreel("estimate", clip, *words)
    assert (code, err) == (0, f"warning: {retirement_warning(ModelSettings(SHUT_DOWN))}\n")


@pytest.mark.parametrize("name", [SHUT_DOWN, f"models/{SHUT_DOWN}"])
def test_a_shutdown_is_announced_for_the_name_with_its_date_and_successor(name):
    warning = retirement_warning(ModelSettings(name))
    assert warning == f"model '{name}' has the shutdown date 2026-12-01; use {DEFAULT_GEMINI_MODEL} instead"


@pytest.mark.parametrize(
    "settings",
    [ModelSettings(), ModelSettings(DEFAULT_GEMINI_MODEL), ModelSettings(OLD), ModelSettings("gemini-9-of-tomorrow"),
     ModelSettings(SHUT_DOWN, vertex_project="p", vertex_location="l")],
    ids=lambda settings: f"{settings.model} {settings.vertex_project or ''}",
)  # fmt: skip
def test_nothing_is_announced_of_other_names_nor_on_vertex_ai_whose_dates_differ(settings):
    assert retirement_warning(settings) is None


def test_neither_the_default_nor_a_successor_is_shut_down():
    assert not {DEFAULT_GEMINI_MODEL, *(found.successor for found in RETIRED.values())} & set(RETIRED)


# What each family is sent


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("gemini-2.5-flash-lite", "gemini-2"),
        ("models/gemini-2.5-pro", "gemini-2"),
        ("projects/p/locations/l/publishers/google/models/gemini-2.5-pro", "gemini-2"),
        (DEFAULT_GEMINI_MODEL, "gemini-3"),
        ("gemini-3.8-flash", "gemini-3"),
    ],
)
def test_a_name_leads_to_its_family(name, family):
    assert family_of(name) is FAMILIES[family]


@pytest.mark.parametrize("name", ["gemini-9-of-tomorrow", "gemini-flash-latest", "tunedModels/mine", "signals"])
def test_an_unknown_name_has_no_family(name):
    assert family_of(name) is None


@pytest.mark.parametrize(
    ("model", "words", "sent"),
    [
        (OLD, [], None),
        (OLD, ["--thinking-budget", 0], {"thinkingBudget": 0}),
        (OLD, ["--thinking-budget", 512], {"thinkingBudget": 512}),
        (DEFAULT_GEMINI_MODEL, [], None),
        (DEFAULT_GEMINI_MODEL, ["--thinking-level", "minimal"], {"thinkingLevel": "MINIMAL"}),
        ("gemini-9-of-tomorrow", ["--thinking-level", "high"], {"thinkingLevel": "HIGH"}),
        ("gemini-9-of-tomorrow", ["--thinking-budget", 512], {"thinkingBudget": 512}),
    ],
    ids=str,
)
def test_a_request_has_the_thinking_field_of_its_family(tmp_path, clip, prompt, server, bodies, model, words, sent):
    given = ["--prompt", prompt, "--model", model, "--base-url", server.base_url, *SHORT, *words]
    code, _, err = promptreel("run", clip, *given, "--data-dir", tmp_path)
    assert code == 0, err
    assert [body["generationConfig"].get("thinkingConfig") for body in bodies] == [sent]


@pytest.mark.parametrize(
    ("model", "words", "said"),
    [
        (DEFAULT_GEMINI_MODEL, ["--thinking-budget", 0], "takes thinking_level"),
        (OLD, ["--thinking-level", "low"], "takes thinking_budget"),
        ("gemini-9-of-tomorrow", ["--thinking-level", "low", "--thinking-budget", 1], "give one of them"),
    ],
    ids=str,
)
def test_the_thinking_field_of_another_family_is_wrong_input(tmp_path, clip, prompt, model, words, said):
    code, out, err = promptreel("run", clip, "--prompt", prompt, "--model", model, *words, "--data-dir", tmp_path)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


def test_a_level_that_does_not_exist_is_named():
    with pytest.raises(SettingsError, match="thinking_level is 'most'; use minimal, low, medium or high"):
        ModelSettings(thinking_level="most")


def test_a_run_that_was_frozen_before_levels_existed_is_read_and_finds_its_results():
    frozen = RunSettings(model=ModelSettings(DEFAULT_GEMINI_MODEL)).to_dict()
    del frozen["model"]["thinking_level"]
    settings = settings_from_dict(frozen)
    assert settings.model.thinking_level is None
    assert "thinking_level" not in GeminiProvider(settings.model, 1.0).fingerprint()
    low = GeminiProvider(ModelSettings(DEFAULT_GEMINI_MODEL, thinking_level="low"), 1.0)
    assert low.fingerprint()["thinking_level"] == "low"


def test_an_unknown_family_may_be_given_either_field():
    for given in ({"thinking_level": "low"}, {"thinking_budget": 1}):
        check_run(NESTED, RunSettings(model=ModelSettings("gemini-9-of-tomorrow", **given)))


# Which version answered


def test_a_call_records_the_version_that_answered(tmp_path, clip):
    with FakeGemini(versions={"gemini-flash-latest": "gemini-3.8-flash-001"}) as server:
        settings = settings_for(server, model="gemini-flash-latest", media_input="frames", window_s=4)
        rows = check_counts(tmp_path, run_media(tmp_path, clip, settings))
    assert {(row["model"], row["model_version"]) for row in rows["llm_calls"]} == {
        ("gemini-flash-latest", "gemini-3.8-flash-001")
    }


def test_a_call_without_an_answer_has_no_version(tmp_path, clip, server):
    rows = check_counts(
        tmp_path, run_media(tmp_path, clip, settings_for(server, model=SHUT_DOWN, media_input="frames"))
    )
    assert {(row["model"], row["model_version"]) for row in rows["llm_calls"]} == {(SHUT_DOWN, None)}
