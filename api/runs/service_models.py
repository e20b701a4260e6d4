"""The models that a service's settings and requests name: look them up, reject missing ones, warn of shutdown dates."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from promptreel.api.config import ApiConfig, variables
from promptreel.api.web.errors import ApiError, invalid
from promptreel.providers.model_checks import missing_at_service, service_models
from promptreel.providers.model_lookup import known_look_up
from promptreel.providers.model_names import name_warning
from promptreel.schemas.settings import RunSettings


async def look_up_models(settings_of: Callable[[], RunSettings]) -> None:
    """Look up the models of a request at their service, unless that was done in the last minutes.

    Done before the request's transaction, which reads the answers and sends nothing.

    Args:
        settings_of: returns the settings of the run; its ApiError is ignored, because the request raises it again.
    """
    with contextlib.suppress(ApiError):
        settings = settings_of()
        if any(known_look_up(name, settings.model) is None for name in service_models(settings)):
            await asyncio.to_thread(missing_at_service, settings)


def check_known_models(requested: str | None, settings: RunSettings) -> None:
    """Reject a run with a model that its service does not have, by the latest answers. Sends no request.

    Args:
        requested: the model or alias that the request names.

    Raises:
        ApiError: 422; the message names the successor.
    """
    for name, error in missing_at_service(settings, may_ask=False):
        if name != settings.model.model:
            raise invalid(f"{variables()['text_embedding_model']}: {error}")
        source = "processing_model" if requested else variables()["default_model"]
        alias = f"{requested!r} is an alias; " if requested and requested != name else ""
        raise invalid(f"{source}: {alias}{error}", "processing_model")


def setting_warnings(config: ApiConfig) -> list[str]:
    """Return a warning for each model with a shutdown date that the service's settings name."""
    named = [
        *(("default_model", name) for name in (config.default_model,) if name),
        *(("models", name) for name in config.models),
        *(("model_aliases", name) for name in config.model_aliases.values()),
    ]
    found = [(setting, name_warning(name)) for setting, name in named]
    found.append(("text_embedding_model", name_warning(config.text_embedding_model, "embeddings")))
    return [f"{variables()[setting]}: {warning}" for setting, warning in found if warning is not None]
