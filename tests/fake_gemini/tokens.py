"""Tokens of a request, counted from what was truly sent.

Rates of the Gemini API's documentation before Gemini 3: 258 a frame or image, 66 at low resolution, 32 a second of sound,
frames sampled once a second unless `videoMetadata.fps` says otherwise; about four characters of text to a token.
"""

import hashlib
import io
import math
from dataclasses import dataclass

import av

FRAME, FRAME_LOW, IMAGE, SOUND_SECOND, CHARS = 258, 66, 258, 32, 4


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


def media_tokens(facts, metadata, low_resolution):
    """{modality: tokens} of one media part, honouring offsets and frame rate."""
    if facts.kind == "image":
        return {"IMAGE": FRAME_LOW if low_resolution else IMAGE}
    start = _seconds(metadata.get("startOffset"), 0.0)
    end = min(_seconds(metadata.get("endOffset"), facts.seconds), facts.seconds)
    length = max(0.0, end - start)
    counted = {}
    if facts.kind == "video" and facts.frames:
        sampled = max(1, math.floor(length * float(metadata.get("fps") or 1.0)))
        counted["VIDEO"] = sampled * (FRAME_LOW if low_resolution else FRAME)
    if facts.has_sound or facts.kind == "audio":
        counted["AUDIO"] = math.ceil(length * SOUND_SECOND)
    return counted


def text_tokens(text):
    """Tokens of a text."""
    return math.ceil(len(text) / CHARS)


def _seconds(offset, default):
    return float(str(offset).removesuffix("s")) if offset else default
