"""The request fields that depend on a model's family: thinking, and the resolution of media.

Models from Gemini 3 on take `thinking_level` and a resolution for each media part; earlier ones take `thinking_budget` and
one resolution for the request.
"""

from __future__ import annotations

from typing import Any, Final

from promptreel.providers.known_models import family_of
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.settings import ModelSettings

_RESOLUTIONS: Final = {
    "low": "MEDIA_RESOLUTION_LOW",
    "medium": "MEDIA_RESOLUTION_MEDIUM",
    "high": "MEDIA_RESOLUTION_HIGH",
    "ultra_high": "MEDIA_RESOLUTION_ULTRA_HIGH",
}
# The version of the Gemini API in which a part has a resolution. The client's default version may be another.
_PART_RESOLUTION_API_VERSION: Final = "v1beta"


def check_family(settings: ModelSettings) -> None:
    """Reject a thinking field or a resolution of another family. An unknown family may have either thinking field.

    Raises:
        SettingsError: names what the model takes.
    """
    family = family_of(settings.model)
    if settings.media_resolution == "ultra_high" and (family is None or "ultra_high" not in family.image_tokens):
        raise SettingsError(
            f"model {settings.model!r} has no media_resolution 'ultra_high'; use high, or a model from Gemini 3 on"
        )
    if family is None:
        return
    if family.thinking == "thinking_level" and settings.thinking_budget is not None:
        raise SettingsError(
            f"model {settings.model!r} takes thinking_level, but thinking_budget is {settings.thinking_budget}; "
            "use --thinking-level (minimal, low, medium or high) instead"
        )
    if family.thinking == "thinking_budget" and settings.thinking_level is not None:
        raise SettingsError(
            f"model {settings.model!r} takes thinking_budget, but thinking_level is {settings.thinking_level!r}; "
            "use --thinking-budget (tokens) instead"
        )


def thinking_config(settings: ModelSettings) -> Any:
    """Return the thinking field of a request; settings never have both."""
    from google.genai import types

    if settings.thinking_level is not None:
        return types.ThinkingConfig(thinking_level=types.ThinkingLevel(settings.thinking_level.upper()))
    if settings.thinking_budget is not None:
        return types.ThinkingConfig(thinking_budget=settings.thinking_budget)
    return None


def request_resolution(settings: ModelSettings) -> Any:
    """Return the resolution of all media of a request; None if it is the service's default, or each part has its own."""
    from google.genai import types

    if settings.media_resolution is None or _has_part_resolution(settings):
        return None
    return types.MediaResolution(_RESOLUTIONS[settings.media_resolution])


def with_resolution(part: Any, settings: ModelSettings) -> Any:
    """Return a part of a request with its own resolution; text and sound are unchanged. A video has at most "high"."""
    from google.genai import types

    media = part.inline_data or part.file_data
    if media is None or str(media.mime_type).startswith("audio/") or not _has_part_resolution(settings):
        return part
    is_image = str(media.mime_type).startswith("image/")
    resolution = "high" if settings.media_resolution == "ultra_high" and not is_image else settings.media_resolution
    level = types.PartMediaResolutionLevel(_RESOLUTIONS[str(resolution)])
    return part.model_copy(update={"media_resolution": types.PartMediaResolution(level=level)})


def api_version(settings: ModelSettings) -> str | None:
    """Return the version of the API that a request needs; None for the client's default."""
    needs_version = _has_part_resolution(settings) and not settings.vertex_project
    return _PART_RESOLUTION_API_VERSION if needs_version else None


def _has_part_resolution(settings: ModelSettings) -> bool:
    family = family_of(settings.model)
    return settings.media_resolution is not None and family is not None and family.has_part_resolution
