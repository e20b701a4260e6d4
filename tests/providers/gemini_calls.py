"""Helpers of the Gemini tests: requests, calls through the call policy, and the content of sent media."""

import asyncio
import base64
import contextlib
import io

import av
import pytest

from promptreel.providers.base import ModelRequest
from promptreel.providers.gemini import GeminiProvider
from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL
from promptreel.schemas.errors import ModelError
from promptreel.schemas.settings import CallSettings, ModelSettings
from promptreel.testing.calls import call_provider
from tests.analysed_media import run_ffmpeg
from tests.models import SCHEMA

MODEL = DEFAULT_GEMINI_MODEL


def answer_with(server, value):
    """Set the answer of the service: a value, or a function of the request's text."""

    def answer(body, schema):
        server.bodies.append(body)
        return value(request_text(body)) if callable(value) else value

    server.service.answer = answer


def request_text(body):
    return body["contents"][0]["parts"][-1]["text"]


def media_parts(body):
    return body["contents"][0]["parts"][:-1]


def build_request(media=None, text="question", schema=SCHEMA, instruction="instruction"):
    return ModelRequest("metadata_extraction", instruction, text, schema, media)


@contextlib.asynccontextmanager
async def open_provider(base_url, fps=1.0, **settings):
    provider = GeminiProvider(ModelSettings(**{"model": MODEL, "base_url": base_url, **settings}), fps)
    await provider.open()
    try:
        yield provider
    finally:
        await provider.close()


def call_all(
    base_url,
    requests,
    *,
    fps=1.0,
    calls=CallSettings(max_attempts=3, deadline_s=20, max_outage_s=0),
    one_by_one=False,
    **settings,
):
    """Call the model for each request; return (answers or failures, call records)."""
    provider = GeminiProvider(ModelSettings(**{"model": MODEL, "base_url": base_url, **settings}), fps)
    return call_provider(provider, requests, calls=calls, one_by_one=one_by_one)


def call_model(service, request=None, **options):
    """Call the model for one request; return (answer or failure, call records)."""
    (outcome,), calls = call_all(service.base_url, [request or build_request()], **options)
    return outcome, calls


def error_of(service, fault):
    """Return the error of a single call with this fault."""
    service.set_faults(fault)

    async def scenario():
        async with open_provider(service.base_url) as provider:
            with pytest.raises(ModelError) as caught:
                await provider.call(build_request(), None)
            return caught.value

    return asyncio.run(scenario())


def sound_length(content, tmp_path):
    """Return the seconds of sound that ffmpeg decodes from a clip."""
    path = tmp_path / "received"
    path.write_bytes(content)
    return len(run_ffmpeg("-i", path, "-map", "0:a?", "-ar", 16_000, "-ac", 1, "-f", "s16le", "-")) / 32_000


def pictures_of(content):
    """Return (times of the pictures, length) of a clip, in seconds."""
    with av.open(io.BytesIO(content)) as container:
        return [frame.time for frame in container.decode(video=0)], container.duration / 1e6


def content_of(part):
    return base64.urlsafe_b64decode(part["inlineData"]["data"].replace("+", "-").replace("/", "_"))
