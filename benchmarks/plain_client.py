"""The peer of the call benchmarks: a straightforward asyncio client with google-genai and a semaphore.

    python -m benchmarks.plain_client QUESTIONS URL IN_FLIGHT ATTEMPTS

QUESTIONS is a JSON file with model, instruction, json_schema and questions; each question is a list of parts: texts and
paths of JPEG files. Answers are parsed and discarded. With more than one attempt, the client's own retries are enabled.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from google import genai
from google.genai import types


async def call_all(questions: dict[str, Any], url: str, in_flight: int, attempts: int) -> int:
    """Make all calls with a limit on concurrent calls; return the number of answers."""
    options = types.HttpOptions(base_url=url, retry_options=types.HttpRetryOptions(attempts=attempts))
    client = genai.Client(api_key="any", http_options=options)
    config = types.GenerateContentConfig(
        system_instruction=questions["instruction"],
        response_mime_type="application/json",
        response_json_schema=questions["json_schema"],
        temperature=0.0,
        max_output_tokens=8192,
    )
    slots = asyncio.Semaphore(in_flight)

    async def call(parts: list[dict[str, str]]) -> bool:
        async with slots:
            contents = [types.Content(role="user", parts=[_part(part) for part in parts])]
            try:
                response = await client.aio.models.generate_content(
                    model=questions["model"], contents=contents, config=config
                )
            except genai.errors.APIError:
                return False
            return bool(json.loads(response.text or "null"))

    answered = await asyncio.gather(*(call(parts) for parts in questions["questions"]))
    await client.aio.aclose()
    return sum(answered)


def _part(part: dict[str, str]) -> types.Part:
    if "jpeg" in part:
        return types.Part(inline_data=types.Blob(data=Path(part["jpeg"]).read_bytes(), mime_type="image/jpeg"))
    return types.Part(text=part["text"])


if __name__ == "__main__":
    file, url, in_flight, attempts = sys.argv[1:5]
    questions = json.loads(Path(file).read_text())
    print(asyncio.run(call_all(questions, url, int(in_flight), int(attempts))))
