"""Look models up at the Gemini API before a run pays for anything: does the service have them?

A look-up is one small request with a timeout. It never stops work by failing: offline, behind a proxy without a list of
models, or with a rejected key, the answer is "unknown", and the run finds out at its first call. Vertex AI is not asked,
because its models depend on the project and the region.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from promptreel.providers.gemini_client import api_key
from promptreel.providers.known_models import short_name
from promptreel.providers.model_names import not_found_message
from promptreel.schemas.settings import ModelSettings

TIMEOUT_S: Final = 3.0
# How long an answer is reused within this process.
FOUND_TTL_S: Final = 600.0
OTHER_TTL_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class LookUp:
    """What the service says about a model.

    Attributes:
        error: the message for the user if the service does not have the model; None if it has it or does not say.
        is_known: whether the service answered.
        reason: why it did not answer.
    """

    error: str | None = None
    is_known: bool = True
    reason: str = ""


_cache: dict[tuple[str, str | None, str | None], tuple[LookUp, float]] = {}
_lock = threading.Lock()


def look_up_model(name: str, access: ModelSettings, clock: Callable[[], float] = time.monotonic) -> LookUp:
    """Ask the service for a model, at most `TIMEOUT_S` long. Answers are reused for some minutes."""
    found = known_look_up(name, access, clock)
    if found is not None:
        return found
    found = LookUp(is_known=False, reason="not asked") if not _can_ask(access) else _ask(name, access)
    lifetime_s = FOUND_TTL_S if found.is_known and found.error is None else OTHER_TTL_S
    with _lock:
        _cache[_key(name, access)] = found, clock() + lifetime_s
    return found


def known_look_up(name: str, access: ModelSettings, clock: Callable[[], float] = time.monotonic) -> LookUp | None:
    """Return an earlier answer without a request; None if it is missing or too old."""
    with _lock:
        found = _cache.get(_key(name, access))
    return found[0] if found is not None and clock() < found[1] else None


def forget_look_ups() -> None:
    """Remove all earlier answers."""
    with _lock:
        _cache.clear()


def list_models(access: ModelSettings) -> frozenset[str]:
    """Return the short names of all models that the service lists.

    Raises:
        Exception: of the client library, if the service does not answer within `TIMEOUT_S` per page.
    """
    client = _client(access)
    try:
        return frozenset(short_name(str(model.name)) for model in client.models.list(config={"page_size": 1000}))
    finally:
        client.close()


def _ask(name: str, access: ModelSettings) -> LookUp:
    from google.genai import errors

    try:
        client = _client(access)
        try:
            client.models.get(model=name)
        finally:
            client.close()
    except errors.APIError as error:
        if _is_missing(error, name):
            return LookUp(not_found_message(name, f"HTTP {error.code} {error.status}: {str(error.message)[:500]}"))
        return LookUp(is_known=False, reason=f"HTTP {error.code} {error.status or ''}".strip())
    except Exception as error:  # whatever goes wrong, the run's own calls will say
        return LookUp(is_known=False, reason=f"{type(error).__name__}: {error}"[:200])
    return LookUp()


def _is_missing(error: Any, name: str) -> bool:
    """Return whether a 404 is the service's own answer about this model, not that of a proxy without the method."""
    return error.code == 404 and error.status == "NOT_FOUND" and short_name(name) in str(error.message)


def _can_ask(access: ModelSettings) -> bool:
    return not access.vertex_project and api_key() is not None


def _key(name: str, access: ModelSettings) -> tuple[str, str | None, str | None]:
    return name, access.base_url, api_key()


def _client(access: ModelSettings) -> Any:
    from google import genai
    from google.genai import types

    options = types.HttpOptions(
        base_url=access.base_url,
        timeout=round(TIMEOUT_S * 1000),
        retry_options=types.HttpRetryOptions(attempts=1),
    )
    return genai.Client(vertexai=False, api_key=api_key(), http_options=options)
