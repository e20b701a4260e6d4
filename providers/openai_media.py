"""The media of a segment as parts of a chat message: frames as JPEGs, the sound as WAV or as the words spoken in it."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from promptreel.providers.base import SegmentInput
from promptreel.providers.media_labels import SOUND_LABEL, frame_label
from promptreel.providers.sound_samples import SAMPLE_RATE, samples_of_spans
from promptreel.schemas.errors import ModelError
from promptreel.schemas.media import TimeSpan
from promptreel.schemas.mediatime import US_PER_SECOND, format_timecode
from promptreel.schemas.settings import MediaResolution
from promptreel.schemas.speech_rows import Word

# Servers limit a request to 20 MB or more; base64 turns three bytes into four, and the text needs room too.
MAX_MEDIA_BYTES: Final = 14_000_000
_PAUSE_US: Final = 700_000  # a longer pause between words starts a new line of the transcript
_LINE_US: Final = 10 * US_PER_SECOND
_DETAIL: Final = {None: "auto", "low": "low", "medium": "auto", "high": "high"}

Part = dict[str, Any]  # one part of a message's content


def media_parts(media: SegmentInput, resolution: MediaResolution | None, *, takes_sound: bool) -> list[Part]:
    """Return a segment's frames and sound, each after a line of text that describes it.

    Args:
        takes_sound: send the sound; otherwise the words of the transcript, if there is one.

    Raises:
        ModelError: the media exceeds the size of a request, or the sound cannot be read.
    """
    parts: list[Part] = []
    size = 0
    for frame in media.frames:
        if media.media_type != "image":
            parts.append(_text(frame_label(media, frame)))
        content = (media.folder / frame.file).read_bytes()
        size += len(content)
        url = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
        parts.append({"type": "image_url", "image_url": {"url": url, "detail": _DETAIL[resolution]}})
    if takes_sound and media.audio_file is not None:
        content = _wav(media, media.audio_file)
        size += len(content)
        sound = {"data": base64.b64encode(content).decode(), "format": "wav"}
        parts += [_text(SOUND_LABEL), {"type": "input_audio", "input_audio": sound}]
    elif media.words:
        parts.append(_text(f"Words spoken in the segment:\n{spoken_lines(media.words, media.span)}"))
    if size > MAX_MEDIA_BYTES:
        message = (
            f"the media ({len(media.frames)} frames) has {size} bytes, more than the {MAX_MEDIA_BYTES} bytes allowed in "
            "one request; cut shorter segments, or sample fewer frames"
        )
        raise ModelError("model_bad_request", message)
    return parts


def spoken_lines(words: Sequence[Word], span: TimeSpan) -> str:
    """Return words as lines that start with their time in the segment. A pause, or ten seconds, starts a new line."""
    lines: list[list[Word]] = []
    for word in words:
        line = lines[-1] if lines else None
        if line is None or word.start_us - line[-1].end_us > _PAUSE_US or word.start_us - line[0].start_us >= _LINE_US:
            lines.append([])
        lines[-1].append(word)
    return "\n".join(
        f"{format_timecode(max(0, line[0].start_us - span.start_us))} {' '.join(word.text.strip() for word in line)}"
        for line in lines
    )


def _text(text: str) -> Part:
    return {"type": "text", "text": text}


def _wav(media: SegmentInput, audio_file: str) -> bytes:
    """Return the segment's sound as 16-bit mono WAV."""
    try:
        (samples,) = samples_of_spans(media.folder / audio_file, [media.span])
    except ModelError as error:
        raise ModelError("media_corrupt", f"sound of the segment: {error.message}") from error
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((samples * 32767).astype(np.int16).tobytes())
    return buffer.getvalue()
