"""Ask the Gemini API which version of a model answers now."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from promptreel.providers.gemini_client import model_error_of
from promptreel.schemas.errors import ModelError

TIMEOUT_S: Final = 15.0
# An answer of one token is enough: only the name of its model is read. The look-up of a model does not contain it.
_QUESTION: Final = "Answer with: ok"
_MAX_OUTPUT_TOKENS: Final = 1


async def ask_version(client: Any, model: str) -> str | None:
    """Return the version that a minimal answer of the model reports; None if it reports none.

    Raises:
        ModelError: the service did not answer within `TIMEOUT_S`.
    """
    from google.genai import types

    config = types.GenerateContentConfig(max_output_tokens=_MAX_OUTPUT_TOKENS)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            response = await client.aio.models.generate_content(model=model, contents=_QUESTION, config=config)
    except TimeoutError as error:
        message = f"the service did not answer within {TIMEOUT_S:g} s"
        raise ModelError("model_timeout", message, retryable=True) from error
    except Exception as error:
        if (failure := model_error_of(error, model)) is None:
            raise
        raise failure from error
    version = response.model_version
    return None if version is None else str(version)
