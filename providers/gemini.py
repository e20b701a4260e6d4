"""The Gemini provider: builds requests and uploads media through the async google-genai client.

The rules of the service are from the public reference of the Gemini API (generateContent, files).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from promptreel.media.clips import Clip, make_clip
from promptreel.providers.base import ModelAnswer, ModelRequest, Provider, SegmentInput
from promptreel.providers.gemini_answer import read_answer
from promptreel.providers.gemini_batch import GeminiBatchJobs, wire_body
from promptreel.providers.gemini_client import (
    is_lost_file,
    model_error_of,
    open_client,
    require_access,
)
from promptreel.providers.gemini_family_fields import (
    api_version,
    request_resolution,
    thinking_config,
    with_resolution,
)
from promptreel.providers.gemini_schema import wire_schema
from promptreel.providers.gemini_version import ask_version
from promptreel.providers.known_models import is_version_of, may_move
from promptreel.providers.media_labels import SOUND_LABEL, chosen_frames_label, frame_label
from promptreel.schemas.errors import MediaError, ModelError, SettingsError
from promptreel.schemas.media import SampledFrame, TimeSpan
from promptreel.schemas.mediatime import US_PER_SECOND, seconds_from_us
from promptreel.schemas.settings import ModelSettings, RunSettings
from promptreel.schemas.tiers import Tier

# A request is limited to 20 MB; base64 turns three bytes into four, and the text needs room too.
MAX_INLINE_BYTES: Final = 14_000_000
# The service rejects a larger budget for one answer.
MAX_OUTPUT_TOKENS: Final = 65_536
# How long an upload may stay PROCESSING, and how often its state is polled.
UPLOAD_TIMEOUT_S: Final = 300.0
UPLOAD_POLL_INTERVAL_S: Final = 1.0
# How long a closing provider spends on deleting its uploads, and the number of concurrent deletions.
DELETE_TIMEOUT_S: Final = 30.0
MAX_CONCURRENT_DELETES: Final = 16
# Concurrent ffmpeg processes that build clips; more than the cores are no faster.
CLIP_WORKERS: Final = max(1, os.cpu_count() or 1)

# Clients that calls use in turn. A connection pool scans all its idle connections for every request: one pool of 64
# spends a third of the event loop's time on that.
CLIENTS: Final = 4

CLIP_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class _UploadedPart:
    """A file at the service, and the span of it to use (None: all of it)."""

    uri: str
    mime_type: str
    span: TimeSpan | None


def build_provider(settings: RunSettings) -> GeminiProvider:
    """Return the provider of a run's Gemini model; an entry point (`promptreel.providers.plugins`)."""
    return GeminiProvider(settings.model, settings.sampling.frames_per_second)


class GeminiProvider(Provider):
    """A Gemini model at Google's service, on Vertex AI, or at any base URL."""

    def __init__(self, settings: ModelSettings, sampled_frames_per_second: float) -> None:
        self.name = settings.model
        self._settings = settings
        self._fps = sampled_frames_per_second
        self._client: Any = None
        self._configured: tuple[Any, Any] | None = None

    def fingerprint(self) -> Mapping[str, Any]:
        settings = self._settings
        return {
            "provider": "gemini",
            "clip_version": CLIP_VERSION,
            "model": settings.model,
            "media_input": settings.media_input,
            "media_resolution": settings.media_resolution,
            "temperature": settings.temperature,
            "thinking_budget": settings.thinking_budget,
            # Only if set, so that the keys of earlier runs, which did not have it, stay valid.
            **({} if settings.thinking_level is None else {"thinking_level": settings.thinking_level}),
        }

    def earlier_fingerprint(self) -> Mapping[str, Any]:
        return {**self.fingerprint(), "max_output_tokens": self._settings.max_output_tokens}

    def output_budget(self, request: ModelRequest) -> int:
        return min(MAX_OUTPUT_TOKENS, self._settings.max_output_tokens * request.output_token_factor)

    def may_move(self, version: str) -> bool:
        return may_move(self.name, version)

    def is_served_by(self, version: str) -> bool:
        return is_version_of(version, self.name)

    async def served_version(self) -> str | None:
        return await ask_version(self._client, self.name)

    def check_access(self) -> None:
        require_access(self.name, self._settings, "use the built-in model signals")
        if self._settings.vertex_project and self._settings.media_input == "files":
            raise SettingsError("media_input is 'files', but Vertex AI has no Files API; use clips or frames")

    async def open(self) -> None:
        self._clients = [open_client(self._settings) for _ in range(CLIENTS)]
        self._client = self._clients[0]
        self._turn = 0
        self._clip_slots = asyncio.Semaphore(CLIP_WORKERS)
        self._uploads: dict[str, asyncio.Task[_UploadedPart]] = {}
        self._uploaded: list[str] = []  # file names at the service

    async def close(self) -> None:
        if self._client is not None:
            await self._delete_uploads()
            for client in self._clients:
                await client.aio.aclose()
            self._client = None

    @property
    def tiers(self) -> tuple[Tier, ...]:  # type: ignore[override]
        """Batch jobs of Vertex AI read and write Cloud Storage, not requests."""
        return ("standard", "flex") if self._settings.vertex_project else ("standard", "flex", "batch")

    @property
    def uploads_media(self) -> bool:  # type: ignore[override]
        return self._settings.media_input == "files"

    async def prepare(self, request: ModelRequest) -> list[Any]:
        """Return the media parts of a request as google-genai `Part`s.

        If the item was uploaded, returns the segment instead; `call` finds the file, and uploads it again if it is gone.
        """
        media = request.media
        if media is None:
            return []
        if media.media_type == "image" or (self._settings.media_input == "frames" and media.frames):
            return await self._frame_parts(media)
        if media.has_chosen_frames and media.frames:
            return await self._chosen_parts(media)
        if self._settings.media_input == "files":
            await self._uploaded_item(media)
            return [media]
        clip, content = await self._clip(media.folder, media.frames, media.audio_file, media.span)
        fps = self._fps if media.frames else None
        if len(content) <= MAX_INLINE_BYTES:
            return [_inline_part(content, clip.mime_type, fps)]
        if self._settings.vertex_project:
            raise _too_large(f"the proxy clip has {len(content)} bytes", "cut shorter segments")
        return [_file_part(await self._upload(content, clip.mime_type, None), fps)]

    async def call(self, request: ModelRequest, prepared: Any) -> ModelAnswer:
        contents = await self._contents(request, prepared)
        try:
            self._turn += 1
            client = self._clients[self._turn % CLIENTS]
            response = await client.aio.models.generate_content(
                model=self.name, contents=[contents], config=self._config(request)
            )
        except Exception as error:
            if is_lost_file(error):
                self._drop_upload(request.media, contents.parts)
            if (failure := model_error_of(error, self.name)) is None:
                raise
            raise failure from error
        return read_answer(response)

    def batch_jobs(self) -> GeminiBatchJobs:
        return GeminiBatchJobs(self._client, self.name)

    async def batch_request(self, request: ModelRequest, prepared: Any) -> dict[str, Any]:
        return wire_body(await self._contents(request, prepared), self._config(request))

    async def _contents(self, request: ModelRequest, prepared: Any) -> Any:
        from google.genai import types

        parts = [await self._part(part) for part in prepared or ()]
        parts = [with_resolution(part, self._settings) for part in parts]
        return types.Content(role="user", parts=[*parts, types.Part(text=request.text)])

    def _config(self, request: ModelRequest) -> Any:
        """Return the configuration of a request, cached because most requests of a run share one."""
        cache_key = (request.instruction, request.json_schema, request.output_token_factor, request.tier)
        if self._configured is None or self._configured[0] != cache_key:
            self._configured = (cache_key, self._build_config(request))
        return self._configured[1]

    def _build_config(self, request: ModelRequest) -> Any:
        from google.genai import types

        settings = self._settings
        return types.GenerateContentConfig(
            system_instruction=request.instruction,
            response_mime_type="application/json",
            http_options=types.HttpOptions(
                api_version=api_version(settings), extra_body=_response_schema(request.json_schema)
            ),
            temperature=settings.temperature,
            max_output_tokens=self.output_budget(request),
            media_resolution=request_resolution(settings),
            thinking_config=thinking_config(settings),
            service_tier=types.ServiceTier.FLEX if request.tier == "flex" else None,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        )

    async def _part(self, prepared: Any) -> Any:
        if not isinstance(prepared, SegmentInput):
            return prepared
        return _file_part(await self._uploaded_item(prepared), self._fps if prepared.item_frames else None)

    def _drop_upload(self, media: SegmentInput | None, parts: list[Any]) -> None:
        """Drop the item's lost upload, unless another segment has already replaced it."""
        task = None if media is None else self._uploads.get(media.item_key)
        if media is None or task is None or not task.done() or task.exception() is not None:
            return
        if any(part.file_data is not None and part.file_data.file_uri == task.result().uri for part in parts):
            del self._uploads[media.item_key]

    async def _frame_parts(self, media: SegmentInput) -> list[Any]:
        from google.genai import types

        parts: list[Any] = []
        size = 0
        for frame in media.frames:
            if media.media_type != "image":
                parts.append(types.Part(text=frame_label(media, frame)))
            content = await asyncio.to_thread((media.folder / frame.file).read_bytes)
            parts.append(_inline_part(content, "image/jpeg", None))
            size += len(content)
        return await self._with_sound(media, parts, size)

    async def _chosen_parts(self, media: SegmentInput) -> list[Any]:
        """Return the chosen frames as a clip: from Gemini 3 on, a frame of a video costs a quarter of an image or less."""
        from google.genai import types

        frames = tuple(replace(frame, time_us=n * US_PER_SECOND) for n, frame in enumerate(media.frames))
        clip, content = await self._clip(media.folder, frames, None, TimeSpan(0, len(frames) * US_PER_SECOND))
        parts = [types.Part(text=chosen_frames_label(media)), _inline_part(content, clip.mime_type, None)]
        return await self._with_sound(media, parts, len(content))

    async def _with_sound(self, media: SegmentInput, parts: list[Any], size: int) -> list[Any]:
        """Return the parts of the pictures, of `size` bytes, and after them the sound of the segment."""
        from google.genai import types

        if media.audio_file is not None:
            clip, content = await self._clip(media.folder, (), media.audio_file, media.span)
            parts += [types.Part(text=SOUND_LABEL), _inline_part(content, clip.mime_type, None)]
            size += len(content)
        if size > MAX_INLINE_BYTES:
            raise _too_large(
                f"the media ({len(media.frames)} frames) has {size} bytes", "send clips, or cut shorter segments"
            )
        return parts

    async def _clip(
        self, folder: Path, frames: tuple[SampledFrame, ...], audio_file: str | None, span: TimeSpan
    ) -> tuple[Clip, bytes]:
        async with self._clip_slots:
            try:
                return await asyncio.to_thread(_build_clip, folder, frames, audio_file, span)
            except MediaError as error:
                raise ModelError(error.code, f"proxy clip: {error.message}", retryable=error.retryable) from error

    async def _uploaded_item(self, media: SegmentInput) -> _UploadedPart:
        """Return the item's proxy at the service, uploaded once; concurrent segments of it wait for the same upload."""
        task = self._uploads.get(media.item_key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.create_task(self._upload_item(media))
            self._uploads[media.item_key] = task
        item = await asyncio.shield(task)
        return _UploadedPart(item.uri, item.mime_type, media.span)

    async def _upload_item(self, media: SegmentInput) -> _UploadedPart:
        span = TimeSpan(0, media.item_duration_us)
        clip, content = await self._clip(media.folder, media.item_frames, media.audio_file, span)
        return await self._upload(content, clip.mime_type, None)

    async def _upload(self, content: bytes, mime_type: str, span: TimeSpan | None) -> _UploadedPart:
        import io

        try:
            async with asyncio.timeout(UPLOAD_TIMEOUT_S):
                file = await self._client.aio.files.upload(file=io.BytesIO(content), config={"mime_type": mime_type})
                self._uploaded.append(str(file.name))
                while file.state is not None and file.state.name == "PROCESSING":
                    await asyncio.sleep(UPLOAD_POLL_INTERVAL_S)
                    file = await self._client.aio.files.get(name=file.name)
        except TimeoutError as error:
            message = f"an upload was not ready within {UPLOAD_TIMEOUT_S:g} s"
            raise ModelError("model_timeout", message, retryable=True) from error
        except Exception as error:
            failure = model_error_of(error)
            # The client raises a bare KeyError or ValueError if the service violates the upload protocol.
            if failure is None and isinstance(error, KeyError | ValueError):
                failure = ModelError("model_unavailable", f"upload: {type(error).__name__}: {error}", retryable=True)
            if failure is None:
                raise
            raise failure from error
        if file.state is not None and file.state.name == "FAILED":
            raise ModelError("model_bad_request", f"the service could not read an uploaded proxy: {file.error}")
        return _UploadedPart(str(file.uri), mime_type, span)

    async def _delete_uploads(self) -> None:
        """Delete the uploads as far as possible; the service deletes the rest after 48 hours."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DELETE_TIMEOUT_S):
                while self._uploaded:
                    names = [self._uploaded.pop() for _ in range(min(MAX_CONCURRENT_DELETES, len(self._uploaded)))]
                    deletions = [self._client.aio.files.delete(name=name) for name in names]
                    await asyncio.gather(*deletions, return_exceptions=True)


def _response_schema(json_schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the response schema as an extra part of the request body.

    It bypasses the client, which would otherwise parse the answer too, and lose one whose numbers or nesting Python's JSON
    parser rejects.
    """
    return {"generationConfig": {"responseJsonSchema": wire_schema(json_schema)}}


def _build_clip(
    folder: Path, frames: tuple[SampledFrame, ...], audio_file: str | None, span: TimeSpan
) -> tuple[Clip, bytes]:
    import tempfile

    pictures = [(frame.time_us, folder / frame.file) for frame in frames]
    sound = None if audio_file is None else folder / audio_file
    with tempfile.TemporaryDirectory(prefix="promptreel-clip-") as folder_name:
        out = Path(folder_name) / ("clip.mp4" if pictures else "clip.m4a")
        clip = make_clip(pictures, sound, span, out)
        return clip, out.read_bytes()


def _inline_part(content: bytes, mime_type: str, fps: float | None) -> Any:
    from google.genai import types

    part = types.Part.from_bytes(data=content, mime_type=mime_type)
    if _is_custom_rate(fps):
        part.video_metadata = types.VideoMetadata(fps=fps)
    return part


def _file_part(upload: _UploadedPart, fps: float | None) -> Any:
    from google.genai import types

    part = types.Part.from_uri(file_uri=upload.uri, mime_type=upload.mime_type)
    span = upload.span
    if span is not None or _is_custom_rate(fps):
        part.video_metadata = types.VideoMetadata(
            start_offset=None if span is None else f"{seconds_from_us(span.start_us):.6f}s",
            end_offset=None if span is None else f"{seconds_from_us(span.end_us):.6f}s",
            fps=fps,
        )
    return part


def _is_custom_rate(fps: float | None) -> bool:
    """Return whether a frame rate differs from the default of the service, one frame per second."""
    return fps is not None and fps != 1.0


def _too_large(excess: str, fix: str) -> ModelError:
    return ModelError(
        "model_bad_request", f"{excess}, more than the {MAX_INLINE_BYTES} bytes allowed in one request; {fix}"
    )
