"""Tokens of a request, counted from what was truly sent.

Rates of the Gemini API's documentation. Before Gemini 3: 258 a frame or image, 66 at low resolution. From Gemini 3 on: 70 a
frame of video, 280 at high resolution; 1120 an image, 560 at medium and 280 at low resolution. 32 a second of sound, frames
sampled once a second unless `videoMetadata.fps` says otherwise; about four characters of text to a token.
"""

import hashlib
import io
import math
from dataclasses import dataclass

import av

SOUND_SECOND, CHARS = 32, 4


class BadMedia(Exception):
    """The bytes are not the media that their type claims."""


@dataclass(frozen=True)
class MediaFacts:
    """What decoding the bytes shows."""

    kind: str
    seconds: float
    frames: int
    has_sound: bool


_facts = {}


def facts_of(content, mime_type):
    """What decoding the bytes shows; remembered by their hash.

    Raises:
        BadMedia: they cannot be decoded.
    """
    key = hashlib.sha256(content).digest(), mime_type
    if key not in _facts:
        _facts[key] = _examine(content, mime_type)
    return _facts[key]


def _examine(content, mime_type):
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
    """Tokens of one frame of video."""
    if _is_before_gemini_3(model):
        return 66 if resolution == "LOW" else 258
    return 280 if resolution == "HIGH" else 70


def image_tokens(model, resolution):
    """Tokens of one image."""
    if _is_before_gemini_3(model):
        return 66 if resolution == "LOW" else 258
    return {"LOW": 280, "MEDIUM": 560}.get(resolution, 1120)


def _is_before_gemini_3(model):
    return model.startswith("gemini-2")


def media_tokens(facts, metadata, model, resolution=None):
    """{modality: tokens} of one media part, honouring offsets and frame rate."""
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
        counted["AUDIO"] = math.ceil(length * SOUND_SECOND)
    return counted


def text_tokens(text):
    """Tokens of a text."""
    return math.ceil(len(text) / CHARS)


def _seconds(offset, default):
    return float(str(offset).removesuffix("s")) if offset else default
