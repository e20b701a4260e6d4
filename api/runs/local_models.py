"""The local models of the service: those of its runs' settings, checked at startup. A search uses those of its runs."""

from __future__ import annotations

from typing import Any

from promptreel.api.config import ApiConfig, variables
from promptreel.providers.registry import local_weights, text_embedder_of
from promptreel.schemas.errors import InvalidInput, SettingsError
from promptreel.schemas.settings import (
    ImageEmbeddingSettings,
    ModelSettings,
    RunSettings,
    TextEmbeddingSettings,
    TranscriptionSettings,
)


def local_model_settings(
    config: ApiConfig, *, transcription: bool = True, image_embedding: bool = True
) -> dict[str, Any]:
    """Return the settings of a run that concern local models, as keywords of `RunSettings`."""
    return {
        "transcription": TranscriptionSettings(
            enabled=transcription, model=config.transcription_model, language=config.transcription_language
        ),
        "image_embedding": ImageEmbeddingSettings(enabled=image_embedding, model=config.image_embedding_model),
        "text_embedding": TextEmbeddingSettings(model=config.text_embedding_model),
    }


def check_local_models(config: ApiConfig) -> list[str]:
    """Check the models without loading them. Return a warning for each model without weights: its runs skip it.

    Raises:
        SettingsError: the text embedding model has no provider, or its service needs a key.
    """
    names = variables()
    settings = RunSettings(model=ModelSettings(base_url=config.model_base_url), **local_model_settings(config))
    try:
        text_embedder_of(settings).check_access()
    except InvalidInput as error:
        raise SettingsError(f"{names['text_embedding_model']}: {error}") from error
    return [
        f"{names[f'{operation}_model']} is {weights.model!r}, but {weights.reason}; {weights.fix}. Runs skip "
        f"{operation.replace('_', ' ')} until then"
        for operation, weights in local_weights(settings)
        if not weights.available
    ]
