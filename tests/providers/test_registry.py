"""The provider of a model's name, and the default model."""

import pickle

import pytest

from promptreel.providers.gemini import GeminiProvider
from promptreel.providers.gemini_client import KEY_VARIABLES
from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL
from promptreel.providers.registry import (
    MODEL_VARIABLE,
    default_model,
    provider_of,
)
from promptreel.providers.signals import SignalsProvider
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.settings import ModelSettings, RunSettings


@pytest.fixture
def no_key(monkeypatch):
    for name in (*KEY_VARIABLES, MODEL_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def provider_named(name):
    return provider_of(RunSettings(model=ModelSettings(name)))


@pytest.mark.parametrize(
    "name",
    [
        DEFAULT_GEMINI_MODEL,
        "gemini-2.5-flash",
        "gemini-9-of-tomorrow",
        "models/gemini-2.5-pro",
        "tunedModels/mine",
        "projects/p/locations/l/endpoints/1",
    ],
)
def test_any_gemini_name_has_the_gemini_provider(name):
    provider = provider_named(name)
    assert isinstance(provider, GeminiProvider)
    assert provider.name == name
    assert provider.is_called


def test_built_in_model_is_not_called():
    provider = provider_named("signals")
    assert isinstance(provider, SignalsProvider)
    assert not provider.is_called


@pytest.mark.parametrize("name", ["gpt-5", "", "Signals", "my-gemini"])
def test_unknown_name_is_rejected_with_valid_names(name):
    with pytest.raises(SettingsError, match=f"{name!r}; use 'signals', .*{DEFAULT_GEMINI_MODEL}"):
        provider_named(name)


def test_default_depends_on_the_key_and_the_variable(no_key):
    assert default_model() == "signals"
    no_key.setenv("GOOGLE_API_KEY", "made-up")
    assert default_model() == DEFAULT_GEMINI_MODEL
    no_key.setenv(MODEL_VARIABLE, "gemini-x")
    assert default_model() == "gemini-x"


@pytest.mark.parametrize("name", ["signals", DEFAULT_GEMINI_MODEL])
def test_provider_can_be_pickled_before_it_is_opened(name):
    provider = provider_named(name)
    assert pickle.loads(pickle.dumps(provider)).fingerprint() == provider.fingerprint()
