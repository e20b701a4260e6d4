"""Evidence on the command line."""

import json

import pytest

from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL
from promptreel.schemas.evidence import EvidenceSettings
from promptreel.schemas.settings import RunSettings, settings_from_dict
from tests.cli.in_process import invoke
from tests.pipeline_runs import make_image
from tests.prompts import NESTED


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    return make_image(tmp_path_factory.mktemp("media") / "still.png")


@pytest.fixture
def prompt_file(tmp_path, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    file = tmp_path / "prompt.json"
    file.write_text(json.dumps(NESTED.to_dict()))
    return file


def test_unknown_field_is_rejected(tmp_path, still, prompt_file):
    words = ["--model", DEFAULT_GEMINI_MODEL, "--evidence-field", "titel"]
    code, _, err = invoke("run", still, "--prompt", prompt_file, "--data-dir", tmp_path / "data", *words)
    assert code != 0
    assert "'titel' is not a top-level field of the prompt; use summary, scene, products" in " ".join(err.split())


def test_estimate_counts_the_request_for_evidence(tmp_path, still, prompt_file):
    tokens = []
    for words in ([], ["--evidence-field", "summary"], ["--evidence"]):
        words = ["--prompt", prompt_file, "--model", DEFAULT_GEMINI_MODEL, "--data-dir", tmp_path / "data", *words]
        code, out, err = invoke("estimate", still, *words, "--json")
        assert code == 0, err
        tokens.append(sum(json.loads(out)["input_tokens"].values()))
    assert tokens == sorted(set(tokens))


@pytest.mark.parametrize("evidence", [None, EvidenceSettings(), EvidenceSettings(("summary", "scene"))])
def test_settings_are_stored_and_read(evidence):
    settings = RunSettings(evidence=evidence)
    assert settings_from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
