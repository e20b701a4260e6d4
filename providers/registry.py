"""From a model's name to its provider."""

from __future__ import annotations

import os
from typing import Final

from promptreel.providers import clip, whisper
from promptreel.providers.base import Provider
from promptreel.providers.gemini import GeminiProvider, check_thinking
from promptreel.providers.gemini_client import api_key
from promptreel.providers.gemini_embedding import GeminiTextEmbedder
from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL
from promptreel.providers.prices import check_cost_limit
from promptreel.providers.signals import SignalsProvider
from promptreel.providers.text_embedding import (
    ClipTextEmbedder,
    SentenceTransformersEmbedder,
    WordLlamaEmbedder,
    find_text_weights,
)
from promptreel.providers.weights import Weights
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.settings import RunSettings

MODEL_VARIABLE: Final = "PROMPTREEL_MODEL"


def provider_of(settings: RunSettings) -> Provider:
    """The provider that answers for the settings' model.

    Raises:
        SettingsError: no provider answers for that name.
    """
    name = settings.model.model
    if name == SignalsProvider.name:
        return SignalsProvider()
    if is_gemini(name):
        return GeminiProvider(settings.model, settings.sampling.frames_per_second)
    raise SettingsError(
        f"no provider for model {name!r}; use 'signals' or a Gemini name such as {DEFAULT_GEMINI_MODEL!r}"
    )


def check_run(prompt: Prompt, settings: RunSettings) -> None:
    """Refuses what could not be run: models that nobody answers for, or without access, a prompt that cannot be filled, and
    (with `strict_models`) local models whose weights cannot be loaded.

    Raises:
        InvalidInput: the message says what is wrong, and the fix.
    """
    provider_of(settings).check_prompt(prompt)
    check_thinking(settings.model)
    check_access(settings)
    if settings.strict_models and (missing := missing_models(settings)):
        raise SettingsError(f"strict_models: {'; '.join(missing)}")


def check_access(settings: RunSettings) -> None:
    """Refuses settings of which a model could not be asked: nobody answers for its name, its service needs a key, or its
    price is unknown although the cost is limited.

    Raises:
        SettingsError: naming the model, and the fix.
    """
    providers = [provider_of(settings), *([text_embedder_of(settings)] if settings.text_embedding.enabled else [])]
    for provider in providers:
        provider.check_access()
    called = [provider.name for provider in providers if provider.is_called]
    check_cost_limit(settings.calls.max_cost, settings.prices, called)


def default_model() -> str:
    """The model of a run that names none: PROMPTREEL_MODEL, else Gemini where a key is set, else the built-in one."""
    named = os.environ.get(MODEL_VARIABLE)
    return named or (DEFAULT_GEMINI_MODEL if api_key() else SignalsProvider.name)


def local_weights(settings: RunSettings) -> list[tuple[str, Weights]]:
    """(operation, its weights) for each operation of a run that a local model performs. Looks, and loads nothing."""
    found = []
    if settings.transcription.enabled:
        found.append(("transcription", whisper.find_weights(settings.transcription.model)))
    if settings.image_embedding.enabled:
        found.append(("image_embedding", clip.find_weights(settings.image_embedding.model)))
    if settings.text_embedding.enabled and not is_gemini(settings.text_embedding.model):
        found.append(("text_embedding", text_weights(settings)))
    return found


def text_weights(settings: RunSettings) -> Weights:
    """The weights of a run's local text embedding model."""
    if settings.text_embedding.model == "clip":
        return clip.find_weights(settings.image_embedding.model)
    return find_text_weights(settings.text_embedding.model)


def text_embedder_of(settings: RunSettings) -> Provider:
    """The model that embeds texts.

    Raises:
        SettingsError: no provider answers for that name.
    """
    name = settings.text_embedding.model
    if name == "wordllama":
        return WordLlamaEmbedder()
    if name == "clip":
        return ClipTextEmbedder(settings.image_embedding.model)
    if name.startswith("sentence-transformers:"):
        return SentenceTransformersEmbedder(name.removeprefix("sentence-transformers:"))
    if is_gemini(name):
        return GeminiTextEmbedder(name, settings.model)
    raise SettingsError(
        f"no provider for text embedding model {name!r}; use wordllama, sentence-transformers:NAME, clip, or a Gemini "
        "embedding model such as 'gemini-embedding-001'"
    )


def is_gemini(name: str) -> bool:
    """Whether a model's name is one of the Gemini family. Names are not listed, for new ones appear."""
    return name.startswith(("gemini", "models/gemini", "text-embedding", "tunedModels/", "projects/"))


def missing_models(settings: RunSettings) -> tuple[str, ...]:
    """One warning for each operation that a run goes without, with its fix."""
    return tuple(warning for warning in map(_warning_of, local_weights(settings)) if warning)


def _warning_of(found: tuple[str, Weights]) -> str:
    operation, weights = found
    return "" if weights.available else f"no {operation}: {weights.reason}; {weights.fix}"
