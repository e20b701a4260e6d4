"""Check the models of a run at the service before the run starts."""

from __future__ import annotations

from promptreel.providers.model_lookup import known_look_up, look_up_model
from promptreel.providers.registry import is_gemini
from promptreel.schemas.settings import RunSettings


def missing_at_service(settings: RunSettings, *, may_ask: bool = True) -> list[tuple[str, str]]:
    """Return (model, message with the successor) for each Gemini model of a run that the service says it does not have.

    Args:
        may_ask: send a request for a model that was not looked up in the last minutes; otherwise such a model passes.
    """
    found = []
    for name in service_models(settings):
        look_up = look_up_model(name, settings.model) if may_ask else known_look_up(name, settings.model)
        if look_up is not None and look_up.error is not None:
            found.append((name, look_up.error))
        if look_up is not None and not look_up.is_known:
            break  # the service does not answer: do not wait for it again
    return found


def service_models(settings: RunSettings) -> list[str]:
    """Return the names of the Gemini models that a run calls."""
    names = [settings.model.model]
    if settings.text_embedding.enabled:
        names.append(settings.text_embedding.model)
    return [name for name in names if is_gemini(name)]
