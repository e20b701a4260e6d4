"""The closed vocabulary of warnings about a media item that was processed nevertheless."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

MEDIA_WARNINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "truncated": "the file, or one of its streams, ends before its declared end",
        "decode_errors": "the decoder reported errors, or concealed damaged frames",
        "decoder_ended_early": "the decoder stopped with an error; what it had decoded by then is used",
        "audio_gaps": "part of the sound is missing and was replaced by silence",
        "duration_mismatch": "the decoded length differs from the declared one, and is used",
        "timestamps_unreliable": "timestamps reach far beyond the frames and samples; the declared length is used",
        "duration_unknown": "the header does not declare a duration",
        "video_not_decoded": "no frame of the video could be decoded; only the sound is used",
        "audio_not_decoded": "no sound could be decoded; only the frames are used",
        "several_audio_tracks": "one of several audio tracks is used",
        "several_video_tracks": "one of several video tracks is used",
        "several_pages": "one of several pages is used",
    }
)


@dataclass(frozen=True, slots=True)
class MediaWarning:
    """A warning about one item.

    Attributes:
        code: a key of `MEDIA_WARNINGS`.
        message: what was found, with the value.
    """

    code: str
    message: str

    def __post_init__(self) -> None:
        if self.code not in MEDIA_WARNINGS:
            raise ValueError(f"unknown warning code {self.code!r}; add it to MEDIA_WARNINGS")
