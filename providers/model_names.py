"""Warnings and errors about the names of models, from the table of known models."""

from __future__ import annotations

import difflib
from collections.abc import Container
from typing import Final

from promptreel.providers.known_models import (
    DEFAULT_EMBEDDING_MODEL,
    KNOWN_MODELS,
    KnownModel,
    ModelUse,
    known_model,
    short_name,
)
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.settings import RunSettings

_KINDS: Final = {"answers": "model", "embeddings": "text embedding model"}


def check_use(name: str, use: ModelUse) -> None:
    """Reject an embedding model for answers, and the other way round.

    Raises:
        SettingsError: names the option that takes the model.
    """
    known = known_model(name)
    if known is None or known.use == use:
        return
    if use == "answers":
        raise SettingsError(f"model {name!r} only embeds texts; name it with --text-embedding-model instead")
    raise SettingsError(
        f"text embedding model {name!r} does not embed texts; use {DEFAULT_EMBEDDING_MODEL} instead, or name it with --model"
    )


def settings_warnings(settings: RunSettings, known: Container[str] = ()) -> list[str]:
    """Return a warning for each model of a run that has a shutdown date. Vertex AI has its own dates, so it gets none.

    Args:
        known: models that the user was already told about.
    """
    if settings.model.vertex_project:
        return []
    named: list[tuple[str, ModelUse]] = [(settings.model.model, "answers")]
    if settings.text_embedding.enabled:
        named.append((settings.text_embedding.model, "embeddings"))
    warnings = [name_warning(name, use) for name, use in named if name not in known]
    return [warning for warning in warnings if warning is not None]


def name_warning(name: str, use: ModelUse = "answers") -> str | None:
    """Return a warning with the successor if a model has a shutdown date."""
    known = known_model(name)
    if known is None or known.shutdown_date is None:
        return None
    return f"{_KINDS[use]} {name!r} has the shutdown date {known.shutdown_date}; {_advice(known)}"


def not_found_message(name: str, answer: str) -> str:
    """Return the error message for a model that the service does not have.

    Args:
        answer: the message of the service.
    """
    known = known_model(name)
    if known is not None and known.shutdown_date is not None:
        date = f" (shutdown date {known.shutdown_date})"
        return f"the service does not have model {name!r}{date}; {_advice(known)} ({answer})"
    similar = difflib.get_close_matches(short_name(name), _current_names(), 1, 0.8)
    hint = f"did you mean {similar[0]!r}?" if similar and known is None else "check the name and the base URL"
    return f"the service does not have model {name!r}; {hint} ({answer})"


def _advice(known: KnownModel) -> str:
    return f"use {known.successor} instead" if known.successor is not None else "use another model"


def _current_names() -> list[str]:
    return [name for name, known in KNOWN_MODELS.items() if known.shutdown_date is None]
