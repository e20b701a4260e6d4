"""Count the tokens of a request from the bytes received.

The rates are from the documentation of the Gemini API. Before Gemini 3: 258 per frame or image, 66 at low resolution. From
Gemini 3 on: 70 per video frame, 280 at high resolution; 1120 per image, 560 at medium, 280 at low and 2240 at ultra-high
resolution. All models: 32 per second of sound, one frame per second unless `videoMetadata.fps` is set, and about four
characters of text per token.
"""

import hashlib
import io
import math
from dataclasses import dataclass

import av

TOKENS_PER_SOUND_SECOND, CHARS_PER_TOKEN = 32, 4


class BadMedia(Exception):
    """The bytes cannot be decoded as their media type."""


@dataclass(frozen=True)
class MediaFacts:
    """The properties of a media file found by decoding it."""

    kind: str
    seconds: float
    frames: int
    has_sound: bool


_facts_by_hash = {}


def facts_of(content, mime_type):
    """Decode the bytes and return their properties, cached by hash.

    Raises:
        BadMedia: the bytes cannot be decoded.
    """
    key = hashlib.sha256(content).digest(), mime_type
    if key not in _facts_by_hash:
        _facts_by_hash[key] = _decode(content, mime_type)
    return _facts_by_hash[key]


def _decode(content, mime_type):
    if mime_type.startswith("image/"):
        _decode_first(content)
        return MediaFacts("image", 0.0, 1, False)
    try:
        with av.open(io.BytesIO(content)) as container:
            video = next((s for s in container.streams.video), None)
            sound = next((s for s in container.streams.audio), None)
            seconds = (container.duration or 0) / 1_000_000
            frames = sum(1 for _ in container.decode(video)) if video is not None else 0
    except (av.error.FFmpegError, ValueError) as error:
        raise BadMedia(str(error)) from error
    return MediaFacts("video" if video is not None else "audio", seconds, frames, sound is not None)


def _decode_first(content):
    try:
        with av.open(io.BytesIO(content)) as container:
            next(container.decode(video=0))
    except (av.error.FFmpegError, StopIteration, ValueError, IndexError) as error:
        raise BadMedia(str(error)) from error


def frame_tokens(model, resolution):
    """Return the tokens of one video frame."""
    if _is_before_gemini_3(model):
        return 66 if resolution == "LOW" else 258
    return 280 if resolution == "HIGH" else 70


def image_tokens(model, resolution):
    """Return the tokens of one image."""
    if _is_before_gemini_3(model):
        return 66 if resolution == "LOW" else 258
    return {"LOW": 280, "MEDIUM": 560, "ULTRA_HIGH": 2240}.get(resolution, 1120)


def _is_before_gemini_3(model):
    return model.startswith("gemini-2")


def media_tokens(facts, metadata, model, resolution=None):
    """Return {modality: tokens} of one media part, with its offsets and frame rate."""
    if facts.kind == "image":
        return {"IMAGE": image_tokens(model, resolution)}
    start = _seconds(metadata.get("startOffset"), 0.0)
    end = min(_seconds(metadata.get("endOffset"), facts.seconds), facts.seconds)
    length = max(0.0, end - start)
    counted = {}
    if facts.kind == "video" and facts.frames:
        sampled = max(1, math.floor(length * float(metadata.get("fps") or 1.0)))
        counted["VIDEO"] = sampled * frame_tokens(model, resolution)
    if facts.has_sound or facts.kind == "audio":
        counted["AUDIO"] = math.ceil(length * TOKENS_PER_SOUND_SECOND)
    return counted


def text_tokens(text):
    """Return the tokens of a text."""
    return math.ceil(len(text) / CHARS_PER_TOKEN)


def _seconds(offset, default):
    return float(str(offset).removesuffix("s")) if offset else default
