"""The google-genai client of the Gemini API: access, connections, and what its errors mean.

Retries, rate and deadlines are the call policy's; the client's own retries are switched off. Rules of the service are
those of the Gemini API's public reference (errors, rate limits).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from promptreel.providers.known_models import not_found_message
from promptreel.schemas.errors import ModelError, SettingsError
from promptreel.schemas.settings import ModelSettings

KEY_VARIABLES: Final = ("GEMINI_API_KEY", "GOOGLE_API_KEY")


def api_key() -> str | None:
    """The key that the environment gives; None where it gives none."""
    return next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), None)


def require_access(model: str, settings: ModelSettings, instead: str) -> None:
    """Refuses a run that could not make a single call.

    Args:
        instead: what works without access, for the message.

    Raises:
        SettingsError: naming the key or setting that is missing.
    """
    if not settings.vertex_project and not api_key():
        raise SettingsError(
            f"model {model!r} needs a key: set {KEY_VARIABLES[0]}, or --vertex-project and --vertex-location, "
            f"or {instead}"
        )


def open_client(settings: ModelSettings) -> Any:
    """A client in the running event loop; its `aio.aclose()` releases it."""
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
    """What an exception of the client says about a call; None where it is a defect of ours, and to be raised as it is.

    Args:
        model: the model that was called; None for a call to none (an upload).
    """
    from google.genai import errors

    if isinstance(error, errors.APIError):
        return _service_error(error, model)
    if _is_transport_error(error) or _is_unreadable_answer(error):
        message = f"the service could not be reached or gave no readable answer ({type(error).__name__}: {error})"
        return ModelError("model_unavailable", message, retryable=True)
    return None


def is_lost_file(error: Any) -> bool:
    """Whether an uploaded file is gone, as all are 48 hours after their upload. That says nothing of the key."""
    is_refusal = getattr(error, "code", None) in (403, 404)
    return is_refusal and "access the file" in str(getattr(error, "message", "")).lower()


def _service_error(error: Any, model: str | None) -> ModelError:
    """The meaning of an error of the service, by HTTP status and google.rpc details."""
    message = f"HTTP {error.code} {error.status or ''}: {str(error.message or error)[:500]}".replace("  ", " ")
    details = _error_details(error.details)
    text = f"{error.message} {details}".lower()
    wait = _retry_delay(details, error)
    if is_lost_file(error):
        return ModelError("model_unavailable", message, retryable=True)
    if error.code == 429:
        # Every 429 mentions the billing details, also one for speed.
        if any(word in text for word in ("perday", "per day", "spend", "depleted")):
            return ModelError("quota_exhausted", message, retryable=True, retry_after_s=wait)
        return ModelError("rate_limited", message, retryable=True, retry_after_s=wait)
    if error.code in (401, 403) or "api_key_invalid" in text or "api key not valid" in text:
        return ModelError("model_auth", message)
    if error.code == 404:
        return ModelError("model_not_found", message if model is None else not_found_message(model, message))
    if error.code in (408, 499, 504):
        return ModelError("model_timeout", message, retryable=True, retry_after_s=wait)
    if error.code is None or error.code >= 500:
        return ModelError("model_unavailable", message, retryable=True, retry_after_s=wait)
    return ModelError("model_bad_request", message)


def _error_details(body: Any) -> list[Any]:
    inner = body.get("error", body) if isinstance(body, Mapping) else {}
    details = inner.get("details", []) if isinstance(inner, Mapping) else []
    return details if isinstance(details, list) else []


def _retry_delay(details: list[Any], error: Any) -> float | None:
    """Seconds from google.rpc.RetryInfo, else from the Retry-After header: a number, or a date, which is measured from the
    answer's own, so that this machine's clock need not be right."""
    for detail in details:
        if isinstance(detail, Mapping) and "retryDelay" in detail:
            match = re.fullmatch(r"(\d+(?:\.\d+)?)s", str(detail["retryDelay"]))
            if match:
                return float(match.group(1))
    # The client's headers are of httpx, which knows no case, or of another library, which gives a dict.
    headers = {name.lower(): value for name, value in (getattr(error.response, "headers", None) or {}).items()}
    value = headers.get("retry-after", "")
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    until, now = _moment(value), _moment(headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds()) if until is not None else None


def _moment(value: str) -> datetime | None:
    """The moment that an HTTP date names; None for any other text."""
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _connection_arguments() -> dict[str, Any]:
    """Connections kept open: by default httpx keeps 20, and more calls than that would open one each time."""
    try:
        import httpx2 as httpx
    except ImportError:
        import httpx  # type: ignore[no-redef]
    return {"limits": httpx.Limits(max_connections=None, max_keepalive_connections=None)}


def _is_unreadable_answer(error: Exception) -> bool:
    """Whether an answer came that is no JSON, or not of the protocol. Any other ValueError is a defect of the request."""
    import pydantic
    from google.genai import errors

    return isinstance(
        error, errors.UnknownApiResponseError | pydantic.ValidationError | json.JSONDecodeError | UnicodeDecodeError
    )


def _is_transport_error(error: Exception) -> bool:
    modules = {part.__module__.split(".", 1)[0] for part in type(error).__mro__}
    return isinstance(error, OSError) or bool(modules & {"httpx", "httpx2", "httpcore", "httpcore2", "aiohttp", "h11"})
