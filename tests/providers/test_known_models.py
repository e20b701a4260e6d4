"""The default model, models with a shutdown date, and the request fields of each family."""

import json
import re
from datetime import date
from pathlib import Path

import pytest

from promptreel.providers.gemini import GeminiProvider
from promptreel.providers.known_models import (
    DEFAULT_GEMINI_MODEL,
    FAMILIES,
    KNOWN_MODELS,
    family_of,
    is_version_of,
    known_model,
    may_move,
)
from promptreel.providers.model_names import check_use, name_warning, settings_warnings
from promptreel.providers.registry import check_run
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.settings import ModelSettings, RunSettings, TextEmbeddingSettings, settings_from_dict
from tests.fake_gemini import FakeGemini
from tests.pipeline_runs import check_counts, make_video, promptreel, run_media, settings_for
from tests.prompts import NESTED

GEMINI_2_MODEL = "gemini-2.5-flash-lite"
RETIRED_MODEL = "gemini-2.5-flash"
SHORT_RUN = [
    "--video-segmentation",
    "fixed",
    "--video-segment-seconds",
    4,
    "--media-input",
    "frames",
    "--no-text-embedding",
]


@pytest.fixture(autouse=True)
def _set_key(monkeypatch):
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
    """A proxy that cannot look up models, with the retired models of the real service; `bodies` holds the requests."""

    def answer(body, schema):
        bodies.append(body)
        return {"summary": "a film"}

    with FakeGemini(answer=answer, has_models=False) as running:
        yield running


# The default and retired models


def test_run_without_a_model_completes_with_the_default(tmp_path, clip, prompt, server):
    words = ["--prompt", prompt, "--base-url", server.base_url, *SHORT_RUN, "--data-dir", tmp_path, "--json"]
    code, out, err = promptreel("run", clip, *words)
    assert (code, json.loads(out)["status"]) == (0, "completed"), err
    assert "warning" not in err
    assert {entry.model for entry in server.ledger.calls()} == {DEFAULT_GEMINI_MODEL}


def test_retired_model_fails_with_one_message_naming_its_successor(tmp_path, clip, prompt, server):
    words = [
        "--prompt",
        prompt,
        "--model",
        RETIRED_MODEL,
        "--base-url",
        server.base_url,
        *SHORT_RUN,
        "--data-dir",
        tmp_path,
    ]
    code, out, err = promptreel("run", clip, *words, "--json")
    assert code == 1
    retired = KNOWN_MODELS[RETIRED_MODEL]
    assert err.count("warning: ") == 1
    assert f"warning: {name_warning(RETIRED_MODEL)}\n" in err
    (failure,) = json.loads(out)["failures"]
    assert failure["code"] == "model_not_found"
    message = f"the service does not have model '{RETIRED_MODEL}' (shutdown date {retired.shutdown_date}); "
    assert failure["message"].startswith(f"{message}use {retired.successor} instead (HTTP 404 NOT_FOUND: ")
    assert len(server.ledger.calls()) == 1


def test_only_the_first_segment_is_called(tmp_path, server):
    media = make_video(tmp_path / "media" / "long.mp4", 8, sound=False)
    settings = settings_for(server, model=RETIRED_MODEL, media_input="frames", max_in_flight=1)
    rows = check_counts(tmp_path / "data", run_media(tmp_path / "data", media, settings))
    assert len(server.ledger.calls()) == 1
    messages = {row["message"].removeprefix("not called because an earlier call failed: ") for row in rows["failures"]}
    assert len(rows["failures"]) >= 8
    assert len(messages) == 1


def test_unknown_name_is_sent_and_named_in_the_404(tmp_path, clip, prompt):
    with FakeGemini(retired=["gemini-9-of-tomorrow"], has_models=False) as server:
        words = ["--model", "gemini-9-of-tomorrow", "--base-url", server.base_url, *SHORT_RUN]
        code, out, err = promptreel("run", clip, "--prompt", prompt, *words, "--data-dir", tmp_path, "--json")
    (failure,) = json.loads(out)["failures"]
    assert code == 1
    assert "warning" not in err
    assert failure["message"].startswith("the service does not have model 'gemini-9-of-tomorrow'; check the name")


def test_estimate_warns_about_a_shutdown(tmp_path, clip, prompt):
    words = ["--prompt", prompt, "--model", RETIRED_MODEL, "--data-dir", tmp_path]
    code, _, err = promptreel("estimate", clip, *words)
    assert code == 0
    assert [line for line in err.splitlines() if "warning" in line] == [f"warning: {name_warning(RETIRED_MODEL)}"]


@pytest.mark.parametrize("name", [RETIRED_MODEL, f"models/{RETIRED_MODEL}"])
def test_warning_has_the_shutdown_date_and_successor(name):
    (warning,) = settings_warnings(RunSettings(model=ModelSettings(name)))
    assert warning == f"model '{name}' has the shutdown date 2026-12-01; use {DEFAULT_GEMINI_MODEL} instead"


@pytest.mark.parametrize(
    "settings",
    [ModelSettings(), ModelSettings(DEFAULT_GEMINI_MODEL), ModelSettings(GEMINI_2_MODEL),
     ModelSettings("gemini-9-of-tomorrow"), ModelSettings(RETIRED_MODEL, vertex_project="p", vertex_location="l")],
    ids=lambda settings: f"{settings.model} {settings.vertex_project or ''}",
)  # fmt: skip
def test_no_warning_for_other_models_or_on_vertex_ai(settings):
    assert settings_warnings(RunSettings(model=settings)) == []


def test_default_and_successors_are_known_and_have_no_date():
    successors = {model.successor for model in KNOWN_MODELS.values() if model.shutdown_date is not None}
    named = [KNOWN_MODELS[name] for name in {DEFAULT_GEMINI_MODEL, *successors}]
    assert [model.name for model in named if model.shutdown_date is not None] == []
    assert {model.family for model in KNOWN_MODELS.values() if model.use == "answers"} <= set(FAMILIES)


def test_status_follows_the_shutdown_date():
    model = known_model(f"models/{RETIRED_MODEL}")
    assert model.status(date(2026, 11, 30)) == "deprecated"
    assert model.status(date(2026, 12, 1)) == "shut_down"
    assert KNOWN_MODELS[DEFAULT_GEMINI_MODEL].status(date(2030, 1, 1)) == "current"


def test_warning_of_a_text_embedding_model_names_its_use():
    settings = RunSettings(text_embedding=TextEmbeddingSettings(model="text-embedding-004"))
    warning = (
        "text embedding model 'text-embedding-004' has the shutdown date 2026-01-14; use gemini-embedding-001 instead"
    )
    assert settings_warnings(settings) == [warning]
    assert settings_warnings(settings, known=["text-embedding-004"]) == []


def test_unknown_model_has_no_restricted_use():
    for use in ("answers", "embeddings"):
        check_use("gemini-9-of-tomorrow", use)


def test_only_the_tables_name_versions_of_gemini():
    root = Path(__file__).parents[2]
    folders = ("api", "media", "pipelines", "promptreel", "providers", "schemas", "tables", "transforms", "benchmarks")
    found = {
        path.relative_to(root).as_posix()
        for folder in folders
        for path in (root / folder).rglob("*.py")
        if re.search(r"gemini-\d|text-embedding-\d|gemini-embedding-\d", path.read_text())
    }
    assert found == {"providers/known_models.py", "providers/prices.py"}


# The thinking field of each family


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
def test_family_of_a_known_name(name, family):
    assert family_of(name) is FAMILIES[family]


@pytest.mark.parametrize("name", ["gemini-9-of-tomorrow", "gemini-flash-latest", "tunedModels/mine", "signals"])
def test_unknown_name_has_no_family(name):
    assert family_of(name) is None


@pytest.mark.parametrize(
    ("model", "words", "sent"),
    [
        (GEMINI_2_MODEL, [], None),
        (GEMINI_2_MODEL, ["--thinking-budget", 0], {"thinkingBudget": 0}),
        (GEMINI_2_MODEL, ["--thinking-budget", 512], {"thinkingBudget": 512}),
        (DEFAULT_GEMINI_MODEL, [], None),
        (DEFAULT_GEMINI_MODEL, ["--thinking-level", "minimal"], {"thinkingLevel": "MINIMAL"}),
        ("gemini-9-of-tomorrow", ["--thinking-level", "high"], {"thinkingLevel": "HIGH"}),
        ("gemini-9-of-tomorrow", ["--thinking-budget", 512], {"thinkingBudget": 512}),
    ],
    ids=str,
)
def test_request_has_the_thinking_field_of_its_family(tmp_path, clip, prompt, server, bodies, model, words, sent):
    options = ["--prompt", prompt, "--model", model, "--base-url", server.base_url, *SHORT_RUN, *words]
    code, _, err = promptreel("run", clip, *options, "--data-dir", tmp_path)
    assert code == 0, err
    assert [body["generationConfig"].get("thinkingConfig") for body in bodies] == [sent]


@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        (DEFAULT_GEMINI_MODEL, ["--thinking-budget", 0], "takes thinking_level"),
        (GEMINI_2_MODEL, ["--thinking-level", "low"], "takes thinking_budget"),
        ("gemini-9-of-tomorrow", ["--thinking-level", "low", "--thinking-budget", 1], "give one of them"),
    ],
    ids=str,
)
def test_thinking_field_of_another_family_is_invalid(tmp_path, clip, prompt, model, words, message):
    code, out, err = promptreel("run", clip, "--prompt", prompt, "--model", model, *words, "--data-dir", tmp_path)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_invalid_thinking_level_is_named():
    with pytest.raises(SettingsError, match="thinking_level is 'most'; use minimal, low, medium or high"):
        ModelSettings(thinking_level="most")


def test_settings_without_thinking_level_load_with_the_same_fingerprint():
    frozen = RunSettings(model=ModelSettings(DEFAULT_GEMINI_MODEL)).to_dict()
    del frozen["model"]["thinking_level"]
    settings = settings_from_dict(frozen)
    assert settings.model.thinking_level is None
    assert "thinking_level" not in GeminiProvider(settings.model, 1.0).fingerprint()
    low = GeminiProvider(ModelSettings(DEFAULT_GEMINI_MODEL, thinking_level="low"), 1.0)
    assert low.fingerprint()["thinking_level"] == "low"


def test_unknown_family_accepts_either_field():
    for thinking in ({"thinking_level": "low"}, {"thinking_budget": 1}):
        check_run(NESTED, RunSettings(model=ModelSettings("gemini-9-of-tomorrow", **thinking)))


# The version of the model


@pytest.mark.parametrize(
    ("name", "version", "is_same"),
    [
        ("gemini-3.5-flash-lite", "gemini-3.5-flash-lite", True),
        ("models/gemini-3.5-flash-lite", "gemini-3.5-flash-lite-001", True),
        ("gemini-3-flash", "gemini-3-flash-preview-12-2025", True),
        ("gemini-3.5-flash", "gemini-3.5-flash-lite", False),
        ("gemini-2.5-flash", "gemini-3.5-flash-lite", False),
        ("gemini-flash-latest", "gemini-3.8-flash-001", True),
        ("tunedModels/mine", "gemini-3.8-flash", True),
    ],
)
def test_version_of_another_model_is_recognized(name, version, is_same):
    assert is_version_of(version, name) is is_same


@pytest.mark.parametrize(
    ("name", "version", "moves"),
    [
        (DEFAULT_GEMINI_MODEL, DEFAULT_GEMINI_MODEL, False),
        (DEFAULT_GEMINI_MODEL, f"{DEFAULT_GEMINI_MODEL}-001", True),
        (RETIRED_MODEL, RETIRED_MODEL, True),
        ("gemini-flash-latest", "gemini-3.8-flash", True),
    ],
)
def test_name_that_is_its_version_is_fixed_without_a_date(name, version, moves):
    assert may_move(name, version) is moves


def test_call_records_the_version_of_the_model(tmp_path, clip):
    with FakeGemini(versions={"gemini-flash-latest": "gemini-3.8-flash-001"}) as server:
        settings = settings_for(server, model="gemini-flash-latest", media_input="frames", window_s=4)
        rows = check_counts(tmp_path, run_media(tmp_path, clip, settings))
    assert {(row["model"], row["model_version"]) for row in rows["llm_calls"]} == {
        ("gemini-flash-latest", "gemini-3.8-flash-001")
    }


def test_call_without_an_answer_has_no_version(tmp_path, clip, server):
    rows = check_counts(
        tmp_path, run_media(tmp_path, clip, settings_for(server, model=RETIRED_MODEL, media_input="frames"))
    )
    assert {(row["model"], row["model_version"]) for row in rows["llm_calls"]} == {(RETIRED_MODEL, None)}
