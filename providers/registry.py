"""From a model's name to its provider."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Final

from promptreel.providers import clip, whisper
from promptreel.providers.base import Provider
from promptreel.providers.gemini_client import api_key
from promptreel.providers.gemini_embedding import GeminiTextEmbedder
from promptreel.providers.gemini_family_fields import check_family
from promptreel.providers.known_models import DEFAULT_EMBEDDING_MODEL, DEFAULT_GEMINI_MODEL, known_model
from promptreel.providers.model_names import check_use
from promptreel.providers.plugins import build_from_plugin, installed_plugins, package_of
from promptreel.providers.prices import check_cost_limit
from promptreel.providers.signals import SignalsProvider
from promptreel.providers.text_embedding import (
    ClipTextEmbedder,
    SentenceTransformersEmbedder,
    WordLlamaEmbedder,
    find_text_weights,
)
from promptreel.providers.tiers import check_tier
from promptreel.providers.weights import Weights
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.evidence import check_evidence_fields
from promptreel.schemas.media_times import has_media_time
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.settings import RunSettings
from promptreel.schemas.tiers import Tier

MODEL_VARIABLE: Final = "PROMPTREEL_MODEL"
BUILT_IN: Final = frozenset({"gemini", "openai", "signals"})


def provider_of(settings: RunSettings) -> Provider:
    """Return the provider of the run's model.

    Raises:
        SettingsError: no provider has a model of that name.
    """
    name = settings.model.model
    if is_gemini(name):
        check_use(name, "answers")
    provider = build_from_plugin(plugin_name(name), settings)
    if provider is None:
        raise unknown_model(name)
    return provider


def plugin_name(model: str) -> str:
    """Return the name of the plug-in that has a model: the part of the model's name before a colon.

    Gemini's models have the names that the service gives them, without a prefix.
    """
    return "gemini" if is_gemini(model) else model.partition(":")[0]


def unknown_model(name: str) -> SettingsError:
    """Return the error for a model that no installed provider has; it names the valid forms."""
    plugins = installed_plugins()
    if SignalsProvider.name not in plugins:
        return SettingsError(
            f"no provider for model {name!r}: promptreel's own providers are not registered; install promptreel again, "
            "in a checkout with pip install -e ."
        )
    forms = [
        f"{SignalsProvider.name!r}",
        f"a Gemini name such as {DEFAULT_GEMINI_MODEL!r}",
        "'openai:NAME' for a model of an OpenAI-compatible server",
        *(f"'{prefix}:NAME' ({package_of(plugins[prefix][0])})" for prefix in sorted(plugins.keys() - BUILT_IN)),
    ]
    return SettingsError(f"no provider for model {name!r}; use {', '.join(forms[:-1])} or {forms[-1]}")


def check_run(prompt: Prompt, settings: RunSettings) -> None:
    """Reject a run that could not work: an unknown model or one without access, a prompt that the model cannot answer, and
    (with `strict_models`) local models whose weights cannot be loaded.

    Raises:
        InvalidInput: names the problem and its fix.
    """
    provider_of(settings).check_prompt(prompt)
    if is_gemini(settings.model.model):  # another service may have a model of that family, e.g. openai:google/NAME
        check_family(settings.model)
    check_definition(settings)
    check_evidence(prompt, settings)
    check_dedupe(prompt, settings)
    check_access(settings)
    if settings.strict_models and (missing := missing_models(settings)):
        raise SettingsError(f"strict_models: {'; '.join(missing)}")


def check_definition(settings: RunSettings) -> None:
    """Reject segments by the user's definition if the model cannot mark them.

    Raises:
        SettingsError: the model is built in.
    """
    provider = provider_of(settings)
    if settings.segmentation.segments_by is not None and not provider.is_called:
        raise SettingsError(
            f"the built-in model {provider.name} cannot mark segments by a definition; choose another model, or remove "
            "--segments-by"
        )


def check_evidence(prompt: Prompt, settings: RunSettings) -> None:
    """Reject evidence that the model cannot give, and for fields that the prompt does not have.

    Raises:
        SettingsError: names the model or the fields.
    """
    if settings.evidence is None:
        return
    provider = provider_of(settings)
    if not provider.gives_evidence:
        raise SettingsError(
            f"evidence: the model {provider.name} gives none; choose another model, or remove the request for evidence"
        )
    check_evidence_fields(prompt.json_schema, settings.evidence)


def check_dedupe(prompt: Prompt, settings: RunSettings) -> None:
    """Reject one answer for near-duplicate segments if the answer has times, which differ from segment to segment.

    Raises:
        SettingsError: the prompt's schema has media times, or evidence is requested.
    """
    if settings.dedupe_segments and settings.evidence is not None:
        raise SettingsError(
            "near-duplicate segments cannot share evidence, which has times; remove --dedupe-segments (dedupe, over the "
            "API), or the request for evidence"
        )
    if settings.dedupe_segments and has_media_time(prompt.json_schema):
        raise SettingsError(
            "near-duplicate segments cannot share an answer with media times, which the schema of this prompt has; remove "
            "--dedupe-segments (dedupe, over the API), or the media-time fields"
        )


def check_access(settings: RunSettings) -> None:
    """Reject settings with a model that cannot be called: its name is unknown, its service needs a key, or its price is
    unknown although the cost is limited.

    Raises:
        SettingsError: names the model and the fix.
    """
    model = provider_of(settings)
    check_tier(model, settings)
    providers = [model, *([text_embedder_of(settings)] if settings.text_embedding.enabled else [])]
    for provider in providers:
        provider.check_access()
    called = [provider.name for provider in providers if provider.is_called]
    check_cost_limit(settings.calls.max_cost, settings.prices, called)


def default_model() -> str:
    """Return the default model: PROMPTREEL_MODEL, otherwise Gemini if a key is set, otherwise the built-in model."""
    named = os.environ.get(MODEL_VARIABLE)
    return named or (DEFAULT_GEMINI_MODEL if api_key() else SignalsProvider.name)


def with_tier(settings: RunSettings, tier: Tier) -> RunSettings:
    """Return the settings with a service tier if their model has it, otherwise unchanged.

    Raises:
        SettingsError: no provider has the model.
    """
    if tier not in provider_of(settings).tiers:
        return settings
    return replace(settings, model=replace(settings.model, tier=tier))


def local_weights(settings: RunSettings) -> list[tuple[str, Weights]]:
    """Return (operation, weights) of each operation of a run that uses a local model. Loads nothing."""
    found = []
    if settings.transcription.enabled:
        found.append(("transcription", whisper.find_weights(settings.transcription.model)))
    if settings.image_embedding.enabled:
        found.append(("image_embedding", clip.find_weights(settings.image_embedding.model)))
    if settings.text_embedding.enabled and not is_gemini(settings.text_embedding.model):
        found.append(("text_embedding", text_weights(settings)))
    return found


def text_weights(settings: RunSettings) -> Weights:
    """Return the weights of a run's local text embedding model."""
    if settings.text_embedding.model == "clip":
        return clip.find_weights(settings.image_embedding.model)
    return find_text_weights(settings.text_embedding.model)


def text_embedder_of(settings: RunSettings) -> Provider:
    """Return the provider of the run's text embedding model.

    Raises:
        SettingsError: no provider has a model of that name.
    """
    name = settings.text_embedding.model
    if name == "wordllama":
        return WordLlamaEmbedder()
    if name == "clip":
        return ClipTextEmbedder(settings.image_embedding.model)
    if name.startswith("sentence-transformers:"):
        return SentenceTransformersEmbedder(name.removeprefix("sentence-transformers:"))
    if is_gemini(name):
        check_use(name, "embeddings")
        return GeminiTextEmbedder(name, settings.model)
    raise SettingsError(
        f"no provider for text embedding model {name!r}; use wordllama, sentence-transformers:NAME, clip, or a Gemini "
        f"embedding model such as {DEFAULT_EMBEDDING_MODEL!r}"
    )


def is_gemini(name: str) -> bool:
    """Return whether a name belongs to a Gemini model. Not all names are known because new ones appear."""
    prefixes = ("gemini", "models/gemini", "text-embedding", "tunedModels/", "projects/")
    return name.startswith(prefixes) or known_model(name) is not None


def missing_models(settings: RunSettings) -> tuple[str, ...]:
    """Return one warning, with its fix, for each operation whose model is missing."""
    return tuple(warning for warning in map(_warning_of, local_weights(settings)) if warning)


def _warning_of(found: tuple[str, Weights]) -> str:
    operation, weights = found
    return "" if weights.available else f"no {operation}: {weights.reason}; {weights.fix}"
