"""From a model's name to its provider."""

from __future__ import annotations

import os
from typing import Final

from providers.base import Provider
from providers.gemini import GeminiProvider
from providers.gemini_client import api_key
from providers.signals import SignalsProvider
from schemas.errors import SettingsError
from schemas.settings import RunSettings

DEFAULT_GEMINI_MODEL: Final = "gemini-2.5-flash"
MODEL_VARIABLE: Final = "PROMPTREEL_MODEL"


def provider_of(settings: RunSettings) -> Provider:
    """The provider that answers for the settings' model. Gemini names are not listed, for new ones appear.

    Raises:
        SettingsError: no provider answers for that name.
    """
    name = settings.model.model
    if name == SignalsProvider.name:
        return SignalsProvider()
    if name.startswith(("gemini", "models/gemini", "tunedModels/", "projects/")):
        return GeminiProvider(settings.model, settings.sampling.frames_per_second)
    raise SettingsError(
        f"no provider for model {name!r}; use 'signals' or a Gemini name such as {DEFAULT_GEMINI_MODEL!r}"
    )


def default_model() -> str:
    """The model of a run that names none: PROMPTREEL_MODEL, else Gemini where a key is set, else the built-in one."""
    named = os.environ.get(MODEL_VARIABLE)
    return named or (DEFAULT_GEMINI_MODEL if api_key() else SignalsProvider.name)
