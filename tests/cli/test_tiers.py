"""Service tiers on the command line and in the settings of the service."""

import json

import pytest

from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL
from promptreel.providers.registry import with_tier
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.settings import ModelSettings, RunSettings, settings_from_dict
from tests.cli.in_process import invoke
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import make_image, plain_rows, promptreel


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    return make_image(tmp_path_factory.mktemp("media") / "still.png")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--flex-fallback"], "--flex-fallback needs --tier flex, but the tier is standard"),
        (["--batch-deadline", "9", "--tier", "flex"], "--batch-deadline needs --tier batch, but the tier is flex"),
        (
            ["--tier", "batch", "--vertex-project", "p", "--vertex-location", "l"],
            f"model '{DEFAULT_GEMINI_MODEL}' on Vertex AI has no tier 'batch'; use standard or flex",
        ),
        (["--tier", "cheap"], "'cheap' is not one of 'standard', 'flex', 'batch'"),
        (["--tier", "batch", "--batch-deadline", "0"], "0.0 is not in the range x>0"),
    ],
)
@pytest.mark.parametrize("command", ["run", "estimate"])
def test_tiers_and_options_that_do_not_fit_are_rejected(tmp_path, still, monkeypatch, command, words, problem):
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    code, _, err = invoke(command, still, "--data-dir", tmp_path, "--model", DEFAULT_GEMINI_MODEL, *words)
    assert code != 0
    assert problem in " ".join(err.split())


def test_estimate_names_the_tier(tmp_path, still):
    _, out, _ = invoke(
        "estimate", still, "--data-dir", tmp_path, "--model", DEFAULT_GEMINI_MODEL, "--tier", "batch", "--json"
    )
    assert json.loads(out)["tier"] == "batch"


def test_resume_changes_the_tier_and_reuses_finished_calls(tmp_path, still):
    with FakeGemini(faults=[Fault(tier="flex", status=503)]) as server:
        words = ["--model", DEFAULT_GEMINI_MODEL, "--base-url", server.base_url, "--tier", "flex", "--max-outage", 0]
        code, out, err = promptreel("run", still, *words, "--max-attempts", 1, "--data-dir", tmp_path, "--json")
        run_id = json.loads(out)["run_id"]
        assert code == 1, err
        code, out, err = promptreel("run", "--resume", run_id, "--tier", "standard", "--data-dir", tmp_path, "--json")
        assert code == 0, err
        assert "changed settings: tier: flex -> standard" in err
        made = len(server.ledger.calls())
        server.set_faults()
        code, _, err = promptreel("run", still, *words, "--data-dir", tmp_path)  # the tier is not part of the key
        assert code == 0, err
        assert len(server.ledger.calls()) == made
    calls = plain_rows(tmp_path, run_id, "llm_calls")
    assert [(call["tier"], call["status"]) for call in calls] == [("flex", "error"), ("standard", "success")]


def test_settings_reject_an_unknown_tier():
    with pytest.raises(SettingsError, match="tier"):
        settings_from_dict({"model": {"tier": "cheap"}})


def test_tier_of_the_service_applies_to_models_that_have_it():
    gemini = RunSettings(model=ModelSettings(model=DEFAULT_GEMINI_MODEL))
    assert with_tier(gemini, "batch").model.tier == "batch"
    assert with_tier(RunSettings(), "batch").model.tier == "standard"
