"""What the commands say about the names of models: one error or warning, with the successor."""

from __future__ import annotations

import os
from collections.abc import Container

import click

from promptreel.providers.model_checks import missing_at_service
from promptreel.providers.model_names import settings_warnings
from promptreel.providers.registry import MODEL_VARIABLE
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.settings import RunSettings


def check_model_names(settings: RunSettings) -> None:
    """Check the models of a new run at the service, and warn on standard error of those with a shutdown date.

    Raises:
        SettingsError: the service does not have a model; the message names the successor.
    """
    if missing := missing_at_service(settings):
        raise SettingsError("; ".join(f"{_origin(name, settings)}{error}" for name, error in missing))
    warn_of_models(settings)


def warn_of_missing(settings: RunSettings) -> None:
    """Check the models of an existing run at the service, and warn: its finished work is worth a commit in any case."""
    missing = dict(missing_at_service(settings))
    for error in missing.values():
        click.echo(f"warning: {error}", err=True)
    warn_of_models(settings, known=missing)


def warn_of_models(settings: RunSettings, known: Container[str] = ()) -> None:
    """Warn on standard error of models with a shutdown date, without a request to the service.

    Args:
        known: models that the user was already told about.
    """
    for warning in settings_warnings(settings, known):
        click.echo(f"warning: {warning}", err=True)


def _origin(name: str, settings: RunSettings) -> str:
    """Return the environment variable that named the run's model, as a prefix; empty for an option."""
    is_from_variable = name == settings.model.model and not click.get_current_context().params.get("model")
    return f"{MODEL_VARIABLE}: " if is_from_variable and os.environ.get(MODEL_VARIABLE) == name else ""
