"""What `promptreel doctor` checks about Gemini: the key, the default model, and the table of known models."""

from __future__ import annotations

from typing import Final

from promptreel.cli.checks import Check
from promptreel.providers.gemini_client import KEY_VARIABLES, api_key
from promptreel.providers.known_models import KNOWN_MODELS
from promptreel.providers.model_lookup import list_models, look_up_model
from promptreel.providers.model_names import name_warning
from promptreel.providers.registry import default_model, is_gemini
from promptreel.schemas.settings import ModelSettings

_NAME: Final = "model gemini-*"


def check_gemini_models() -> list[Check]:
    """Check the key and the models with the list of the service; each request has a timeout."""
    if not api_key():
        fix = f"export {KEY_VARIABLES[0]}=..., or use --vertex-project and --vertex-location"
        return [Check(_NAME, "missing", "no key", fix), _check_default_model()]
    try:
        listed = list_models(ModelSettings())
    except Exception as error:  # the doctor reports whatever the client raises
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return [Check(_NAME, "ok", f"a key is set (not verified: {reason[:200]})"), _check_default_model()]
    return [
        Check(_NAME, "ok", f"the service accepts the key and lists {len(listed)} models"),
        _check_table(listed),
        _check_default_model(),
    ]


def _check_table(listed: frozenset[str]) -> Check:
    """Compare the table of known models with the list of the service."""
    current = [name for name, model in KNOWN_MODELS.items() if model.shutdown_date is None]
    if absent := [name for name in current if name not in listed]:
        fix = "use another model; a newer promptreel may know more"
        return Check("known models", "warning", f"not listed by the service: {', '.join(absent)}", fix)
    return Check("known models", "ok", f"the service lists all {len(current)} that have no shutdown date")


def _check_default_model() -> Check:
    name = default_model()
    text = f"{name} (used without --model)"
    if not is_gemini(name):
        return Check("default model", "ok", text)
    fix = "name another with --model or PROMPTREEL_MODEL"
    if (error := look_up_model(name, ModelSettings(name)).error) is not None:
        return Check("default model", "broken", error, fix)
    if (warning := name_warning(name)) is not None:
        return Check("default model", "warning", warning, fix)
    return Check("default model", "ok", text)
