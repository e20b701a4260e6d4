"""The google-genai client of the Gemini API: access, connections, and the meaning of its errors.

The call policy handles retries, rate and deadlines; the client's own retries are disabled. The rules of the service are
from the public reference of the Gemini API (errors, rate limits).
"""

from __future__ import annotations

import json
import os
import re
import traceback
from collections.abc import Mapping
from typing import Any, Final

from promptreel.providers.http_errors import failure_of_status, retry_after_of
from promptreel.providers.model_names import not_found_message
from promptreel.schemas.errors import ModelError, SettingsError
from promptreel.schemas.settings import ModelSettings

# Ends of the names of the client's functions that parse responses.
_PARSERS: Final = ("_from_mldev", "_from_vertex", "_from_response")
KEY_VARIABLES: Final = ("GEMINI_API_KEY", "GOOGLE_API_KEY")


def api_key() -> str | None:
    """Return the key from the environment; None if none is set."""
    return next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), None)


def require_access(model: str, settings: ModelSettings, alternative: str) -> None:
    """Reject a run that cannot make any call.

    Args:
        alternative: an alternative that works without access, for the message.

    Raises:
        SettingsError: names the missing key or setting.
    """
    if not settings.vertex_project and not api_key():
        raise SettingsError(
            f"model {model!r} needs a key: set {KEY_VARIABLES[0]}, or --vertex-project and --vertex-location, "
            f"or {alternative}"
        )


def open_client(settings: ModelSettings) -> Any:
    """Open a client in the running event loop; its `aio.aclose()` releases it."""
    from google import genai
    from google.genai import types

    options = types.HttpOptions(
        base_url=settings.base_url,
        retry_options=types.HttpRetryOptions(attempts=1),
        async_client_args=_connection_arguments(),
    )
    if settings.vertex_project:
        project, location = settings.vertex_project, settings.vertex_location
        return genai.Client(vertexai=True, project=project, location=location, http_options=options)
    return genai.Client(vertexai=False, api_key=api_key(), http_options=options)


def model_error_of(error: Exception, model: str | None = None) -> ModelError | None:
    """Convert an exception of the client; None if it is a defect of this program, to be raised unchanged.

    Args:
        model: the called model; None for a call without one (an upload).
    """
    from google.genai import errors

    if isinstance(error, errors.APIError):
        return _service_error(error, model)
    if _is_transport_error(error) or _is_unreadable_answer(error):
        message = (
            f"the service could not be reached or its response could not be read ({type(error).__name__}: {error})"
        )
        return ModelError("model_unavailable", message, retryable=True)
    return None


def is_lost_file(error: Any) -> bool:
    """Return whether the error means that an uploaded file no longer exists; files expire after 48 hours.

    Such a 403 does not mean that the key is invalid.
    """
    is_rejection = getattr(error, "code", None) in (403, 404)
    return is_rejection and "access the file" in str(getattr(error, "message", "")).lower()


def _service_error(error: Any, model: str | None) -> ModelError:
    """Convert an error of the service, by HTTP status and google.rpc details."""
    message = f"HTTP {error.code} {error.status or ''}: {str(error.message or error)[:500]}".replace("  ", " ")
    details = _error_details(error.details)
    text = f"{error.message} {details}".lower()
    wait = _retry_delay(details, error)
    if is_lost_file(error):
        return ModelError("model_unavailable", message, retryable=True)
    if error.code == 429:
        # Every 429 mentions billing details, even one for the request rate.
        if any(word in text for word in ("perday", "per day", "spend", "depleted")):
            return ModelError("quota_exhausted", message, retryable=True, retry_after_s=wait)
        no_quota = _has_no_quota(text, details)
        return ModelError("rate_limited", message, retryable=True, retry_after_s=wait, has_no_quota=no_quota)
    if _is_about_access(text):
        return ModelError("model_auth", message, retryable=True)
    code, retryable = failure_of_status(error.code)
    if code == "model_not_found" and model is not None:
        message = not_found_message(model, message)
    return ModelError(code, message, retryable=retryable, retry_after_s=wait if retryable else None)


def _is_about_access(text: str) -> bool:
    """Return whether a 400 is about the key, the billing or the location of the caller, so every call gets it.

    The status FAILED_PRECONDITION is not enough: an uploaded file that is not ready has it too.
    """
    reasons = ("api_key_invalid", "api key not valid", "api key expired", "location is not supported", "enable billing")
    return any(reason in text for reason in reasons)


def _has_no_quota(text: str, details: list[Any]) -> bool:
    """Return whether a 429 names a quota of 0, in its message or in a google.rpc.QuotaFailure."""
    violations = [
        violation
        for detail in details
        if isinstance(detail, Mapping) and isinstance(detail.get("violations"), list)
        for violation in detail["violations"]
    ]
    values = [violation.get("quotaValue") for violation in violations if isinstance(violation, Mapping)]
    return any(str(value) == "0" for value in values) or re.search(r"\blimit: 0\b(?!\.\d)", text) is not None


def _error_details(body: Any) -> list[Any]:
    inner = body.get("error", body) if isinstance(body, Mapping) else {}
    details = inner.get("details", []) if isinstance(inner, Mapping) else []
    return details if isinstance(details, list) else []


def _retry_delay(details: list[Any], error: Any) -> float | None:
    """Return the seconds from google.rpc.RetryInfo, otherwise from the Retry-After header."""
    for detail in details:
        if isinstance(detail, Mapping) and "retryDelay" in detail:
            match = re.fullmatch(r"(\d+(?:\.\d+)?)s", str(detail["retryDelay"]))
            if match:
                return float(match.group(1))
    return retry_after_of(getattr(error.response, "headers", None))


def _connection_arguments() -> dict[str, Any]:
    """Return the httpx limits: by default httpx keeps 20 connections open, and each call beyond them opens a new one."""
    try:
        import httpx2 as httpx
    except ImportError:
        import httpx  # type: ignore[no-redef]
    return {"limits": httpx.Limits(max_connections=None, max_keepalive_connections=None)}


def _is_unreadable_answer(error: Exception) -> bool:
    """Return whether the response is not JSON or violates the protocol. Any other ValueError is a defect of the request."""
    import pydantic
    from google.genai import errors

    if isinstance(error, TypeError | AttributeError):  # the client's parser does not check the types of a response
        frames = traceback.extract_tb(error.__traceback__)
        return any(frame.name.endswith(_PARSERS) for frame in frames)
    return isinstance(
        error, errors.UnknownApiResponseError | pydantic.ValidationError | json.JSONDecodeError | UnicodeDecodeError
    )


def _is_transport_error(error: Exception) -> bool:
    modules = {part.__module__.split(".", 1)[0] for part in type(error).__mro__}
    return isinstance(error, OSError) or bool(modules & {"httpx", "httpx2", "httpcore", "httpcore2", "aiohttp", "h11"})
