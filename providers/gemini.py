"""Gemini through the google-genai async client: what is sent, and what its answers and errors mean.

Retries, rate and deadlines are the call policy's; the client's own retries are switched off. Rules of the service are
those of the Gemini API's public reference (generateContent, files, errors).
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from media.clips import Clip, make_clip
from providers.base import ModelAnswer, ModelRequest, Provider, SegmentMedia, Usage
from providers.extraction import MEDIA_TIME_FORMAT
from schemas.errors import MediaError, ModelError, SettingsError
from schemas.media import SampledFrame, TimeSpan
from schemas.mediatime import format_timecode, seconds_from_us
from schemas.settings import ModelSettings

KEY_VARIABLES: Final = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
# A request may have 20 MB in all; base64 makes three bytes into four, and the text needs room too.
INLINE_LIMIT_BYTES: Final = 14_000_000
# How long an upload may stay PROCESSING, and how often it is looked at.
UPLOAD_DEADLINE_S: Final = 300.0
UPLOAD_POLL_S: Final = 1.0
# ffmpeg children that build clips at once: more than the cores only wait for each other.
CLIP_WORKERS: Final = max(1, os.cpu_count() or 1)

CLIP_VERSION: Final = 1

_BLOCKED: Final = frozenset(
    [
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "ESCALATION",
    ]
)
_RESOLUTIONS: Final = {
    "low": "MEDIA_RESOLUTION_LOW",
    "medium": "MEDIA_RESOLUTION_MEDIUM",
    "high": "MEDIA_RESOLUTION_HIGH",
}


@dataclass(frozen=True, slots=True)
class _Upload:
    """A file at the service, and the part of it that is meant (None is all of it)."""

    uri: str
    mime_type: str
    span: TimeSpan | None


class GeminiProvider(Provider):
    """A model of the Gemini family, at Google's service, on Vertex AI, or at any base URL."""

    def __init__(self, settings: ModelSettings, sampled_frames_per_second: float) -> None:
        self.name = settings.model
        self._settings = settings
        self._fps = sampled_frames_per_second
        self._client: Any = None

    def fingerprint(self) -> Mapping[str, Any]:
        settings = self._settings
        return {
            "provider": "gemini",
            "clip_version": CLIP_VERSION,
            "model": settings.model,
            "media_input": settings.media_input,
            "media_resolution": settings.media_resolution,
            "temperature": settings.temperature,
            "max_output_tokens": settings.max_output_tokens,
            "thinking_budget": settings.thinking_budget,
        }

    def check_access(self) -> None:
        if self._settings.vertex_project:
            if self._settings.media_input == "files":
                raise SettingsError(
                    "media_input 'files' needs the Files API, which Vertex AI lacks; use clips or frames"
                )
        elif not api_key():
            raise SettingsError(
                f"model {self.name!r} needs a key: set {KEY_VARIABLES[0]}, or --vertex-project and --vertex-location, "
                "or use the built-in model with --model signals"
            )

    async def open(self) -> None:
        from google import genai
        from google.genai import types

        options = types.HttpOptions(
            base_url=self._settings.base_url,
            retry_options=types.HttpRetryOptions(attempts=1),
            async_client_args=_connection_arguments(),
        )
        if self._settings.vertex_project:
            project, location = self._settings.vertex_project, self._settings.vertex_location
            self._client = genai.Client(vertexai=True, project=project, location=location, http_options=options)
        else:
            self._client = genai.Client(api_key=api_key(), http_options=options)
        self._clip_slots = asyncio.Semaphore(CLIP_WORKERS)
        self._uploads: dict[str, asyncio.Task[_Upload]] = {}

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aio.aclose()
            self._client = None

    async def prepare(self, request: ModelRequest) -> list[Any]:
        """The media parts of a request, as google-genai `Part`s."""
        media = request.media
        if media is None:
            return []
        if media.media_type == "image" or (self._settings.media_input == "frames" and media.frames):
            return await self._frame_parts(media)
        if self._settings.media_input == "files":
            return [_file_part(await self._uploaded_item(media), self._fps)]
        clip, content = await self._clip(media.folder, media.frames, media.audio_file, media.span)
        if len(content) <= INLINE_LIMIT_BYTES:
            return [_inline_part(content, clip.mime_type, self._fps if media.frames else None)]
        return [_file_part(await self._upload(content, clip.mime_type, None), self._fps if media.frames else None)]

    async def ask(self, request: ModelRequest, prepared: Any) -> ModelAnswer:
        from google.genai import errors, types

        contents = types.Content(role="user", parts=[*(prepared or ()), types.Part(text=request.text)])
        try:
            response = await self._client.aio.models.generate_content(
                model=self.name, contents=[contents], config=self._config(request)
            )
        except errors.APIError as error:
            raise _model_error(error) from error
        except Exception as error:
            if _is_transport_error(error) or isinstance(error, errors.UnknownApiResponseError | ValueError):
                message = (
                    f"the service could not be reached or gave no readable answer ({type(error).__name__}: {error})"
                )
                raise ModelError("model_unavailable", message, retryable=True) from error
            raise
        return _answer(response)

    def _config(self, request: ModelRequest) -> Any:
        from google.genai import types

        settings = self._settings
        thinking = settings.thinking_budget
        return types.GenerateContentConfig(
            system_instruction=request.instruction,
            response_mime_type="application/json",
            response_json_schema=wire_schema(request.json_schema),
            temperature=settings.temperature,
            max_output_tokens=settings.max_output_tokens * request.output_token_factor,
            media_resolution=types.MediaResolution(_RESOLUTIONS[settings.media_resolution])
            if settings.media_resolution
            else None,
            thinking_config=None if thinking is None else types.ThinkingConfig(thinking_budget=thinking),
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        )

    async def _frame_parts(self, media: SegmentMedia) -> list[Any]:
        from google.genai import types

        parts: list[Any] = []
        for frame in media.frames:
            if media.media_type != "image":
                at = format_timecode(max(0, frame.time_us - media.span.start_us))
                parts.append(types.Part(text=f"Frame at {at} of the segment:"))
            content = await asyncio.to_thread((media.folder / frame.file).read_bytes)
            parts.append(_inline_part(content, "image/jpeg", None))
        if media.audio_file is not None:
            clip, content = await self._clip(media.folder, (), media.audio_file, media.span)
            parts += [types.Part(text="Sound of the segment:"), _inline_part(content, clip.mime_type, None)]
        return parts

    async def _clip(
        self, folder: Path, frames: tuple[SampledFrame, ...], audio_file: str | None, span: TimeSpan
    ) -> tuple[Clip, bytes]:
        async with self._clip_slots:
            try:
                return await asyncio.to_thread(_build_clip, folder, frames, audio_file, span)
            except MediaError as error:
                raise ModelError(error.code, f"proxy clip: {error.message}", retryable=error.retryable) from error

    async def _uploaded_item(self, media: SegmentMedia) -> _Upload:
        """The item's proxy at the service, uploaded once; segments of it that come meanwhile wait for the same upload."""
        task = self._uploads.get(media.item_key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.create_task(self._upload_item(media))
            self._uploads[media.item_key] = task
        whole = await asyncio.shield(task)
        return _Upload(whole.uri, whole.mime_type, media.span)

    async def _upload_item(self, media: SegmentMedia) -> _Upload:
        span = TimeSpan(0, media.item_duration_us)
        clip, content = await self._clip(media.folder, media.item_frames, media.audio_file, span)
        return await self._upload(content, clip.mime_type, None)

    async def _upload(self, content: bytes, mime_type: str, span: TimeSpan | None) -> _Upload:
        import io

        from google.genai import errors

        try:
            async with asyncio.timeout(UPLOAD_DEADLINE_S):
                file = await self._client.aio.files.upload(file=io.BytesIO(content), config={"mime_type": mime_type})
                while file.state is not None and file.state.name == "PROCESSING":
                    await asyncio.sleep(UPLOAD_POLL_S)
                    file = await self._client.aio.files.get(name=file.name)
        except errors.APIError as error:
            raise _model_error(error) from error
        except TimeoutError as error:
            message = f"an upload was not ready within {UPLOAD_DEADLINE_S:g} s"
            raise ModelError("model_timeout", message, retryable=True) from error
        except Exception as error:
            if _is_transport_error(error):
                raise ModelError(
                    "model_unavailable", f"upload: {type(error).__name__}: {error}", retryable=True
                ) from error
            raise
        if file.state is not None and file.state.name == "FAILED":
            raise ModelError("model_bad_request", f"the service could not read an uploaded proxy: {file.error}")
        return _Upload(str(file.uri), mime_type, span)


def api_key() -> str | None:
    """The key that the environment gives; None where it gives none."""
    return next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), None)


def wire_schema(json_schema: Any) -> Any:
    """A prompt's schema without what only this product reads (`"format": "media-time"`)."""
    if isinstance(json_schema, Mapping):
        return {
            key: wire_schema(value)
            for key, value in json_schema.items()
            if not (key == "format" and value == MEDIA_TIME_FORMAT) and key not in ("$schema", "$id")
        }
    if isinstance(json_schema, list):
        return [wire_schema(part) for part in json_schema]
    return json_schema


def _build_clip(
    folder: Path, frames: tuple[SampledFrame, ...], audio_file: str | None, span: TimeSpan
) -> tuple[Clip, bytes]:
    import tempfile

    pictures = [(frame.time_us, folder / frame.file) for frame in frames]
    sound = None if audio_file is None else folder / audio_file
    with tempfile.TemporaryDirectory(prefix="promptreel-clip-") as scratch:
        out = Path(scratch) / ("clip.mp4" if pictures else "clip.m4a")
        clip = make_clip(pictures, sound, span, out)
        return clip, out.read_bytes()


def _inline_part(content: bytes, mime_type: str, fps: float | None) -> Any:
    from google.genai import types

    part = types.Part.from_bytes(data=content, mime_type=mime_type)
    if fps is not None and fps != 1.0:  # the service samples one frame a second unless told otherwise
        part.video_metadata = types.VideoMetadata(fps=fps)
    return part


def _file_part(upload: _Upload, fps: float | None) -> Any:
    from google.genai import types

    part = types.Part.from_uri(file_uri=upload.uri, mime_type=upload.mime_type)
    span = upload.span
    if span is not None:
        part.video_metadata = types.VideoMetadata(
            start_offset=f"{seconds_from_us(span.start_us):.6f}s",
            end_offset=f"{seconds_from_us(span.end_us):.6f}s",
            fps=fps,
        )
    return part


def _answer(response: Any) -> ModelAnswer:
    """Reads a response without its convenience properties, which raise or warn on unusual ones."""
    usage = _usage(response.usage_metadata)
    feedback = response.prompt_feedback
    if not response.candidates:
        if feedback is not None and feedback.block_reason is not None:
            reason = _word(feedback.block_reason)
            return ModelAnswer("", reason, usage, ("model_blocked", f"the service blocked the request: {reason}"))
        return ModelAnswer("", None, usage, None)
    candidate = response.candidates[0]
    parts = (candidate.content.parts if candidate.content is not None else None) or []
    text = "".join(part.text for part in parts if part.text and not part.thought)
    reason = _word(candidate.finish_reason) if candidate.finish_reason is not None else None
    return ModelAnswer(text, reason, usage, _finish_failure(reason, candidate.finish_message))


def _finish_failure(reason: str | None, detail: str | None) -> tuple[str, str] | None:
    if reason in (None, "STOP", "FINISH_REASON_UNSPECIFIED"):
        return None
    suffix = f" ({detail})" if detail else ""
    if reason == "MAX_TOKENS":
        return "model_truncated", "the answer was cut at the token limit; raise max_output_tokens or ask for less"
    if reason in _BLOCKED:
        return "model_blocked", f"the model refused the content: {reason}{suffix}"
    return "model_stopped", f"the model ended with the reason {reason}{suffix}"


def _usage(metadata: Any) -> Usage:
    if metadata is None:
        return Usage()
    by_modality: dict[str, int] = {}
    details = [*(metadata.prompt_tokens_details or ())]
    for detail in details:
        name = _word(detail.modality) if detail.modality is not None else ""
        by_modality[name] = by_modality.get(name, 0) + (detail.token_count or 0)
    return Usage(
        input_tokens=metadata.prompt_token_count or 0,
        output_tokens=metadata.candidates_token_count or 0,
        thought_tokens=metadata.thoughts_token_count or 0,
        cached_tokens=metadata.cached_content_token_count or 0,
        total_tokens=metadata.total_token_count or 0,
        text_tokens=by_modality.get("TEXT", 0),
        image_tokens=by_modality.get("IMAGE", 0),
        video_tokens=by_modality.get("VIDEO", 0),
        audio_tokens=by_modality.get("AUDIO", 0),
        media_reported=bool(details),
    )


def _model_error(error: Any) -> ModelError:
    """The meaning of an error of the service, by HTTP status and google.rpc details."""
    message = f"HTTP {error.code} {error.status or ''}: {str(error.message or error)[:500]}".replace("  ", " ")
    details = _error_details(error.details)
    text = f"{error.message} {details}".lower()
    wait = _retry_delay(details, error)
    if error.code == 429:
        if "perday" in text or "per day" in text or "spend" in text or "billing" in text:
            return ModelError("quota_exhausted", message, retryable=True, retry_after_s=wait)
        return ModelError("rate_limited", message, retryable=True, retry_after_s=wait)
    if error.code in (401, 403) or "api_key_invalid" in text or "api key not valid" in text:
        return ModelError("model_auth", message)
    if error.code == 404:
        return ModelError("model_not_found", message)
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
    """Seconds from google.rpc.RetryInfo, else from the Retry-After header."""
    for detail in details:
        if isinstance(detail, Mapping) and "retryDelay" in detail:
            match = re.fullmatch(r"(\d+(?:\.\d+)?)s", str(detail["retryDelay"]))
            if match:
                return float(match.group(1))
    headers = getattr(error.response, "headers", None) or {}
    value = headers.get("retry-after") or headers.get("Retry-After")
    return float(value) if value and re.fullmatch(r"\d+(\.\d+)?", value) else None


def _word(value: Any) -> str:
    return str(getattr(value, "value", value))


def _connection_arguments() -> dict[str, Any]:
    """Connections kept open: by default httpx keeps 20, and more calls than that would open one each time."""
    try:
        import httpx2 as httpx
    except ImportError:
        import httpx  # type: ignore[no-redef]
    return {"limits": httpx.Limits(max_connections=None, max_keepalive_connections=None)}


def _is_transport_error(error: Exception) -> bool:
    modules = {part.__module__.split(".", 1)[0] for part in type(error).__mro__}
    return isinstance(error, OSError) or bool(modules & {"httpx", "httpx2", "httpcore", "httpcore2", "aiohttp", "h11"})
