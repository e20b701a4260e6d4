"""Metadata of one media item: the result of the probe and of the decode pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from promptreel.schemas.media_warnings import MediaWarning

MediaType = Literal["video", "audio", "image"]


@dataclass(frozen=True, slots=True)
class VideoStream:
    """The video stream to decode.

    Attributes:
        index: ffmpeg's stream index in the container.
        width, height: coded size in pixels, before rotation; for HEIC and AVIF the displayed size of the complete picture.
        rotation_degrees: clockwise rotation applied by players: 0, 90, 180 or 270.
        frame_rate: mean frames per second; None if the header does not specify it.
        frame_count: number of frames according to the header; None if not specified.
        has_b_frames: frames are reordered, so some can be skipped without affecting others.
        pixel_aspect: width of a coded pixel relative to its height.
    """

    index: int
    codec: str
    width: int
    height: int
    rotation_degrees: int = 0
    frame_rate: float | None = None
    frame_count: int | None = None
    has_b_frames: bool = False
    pixel_aspect: float = 1.0

    @property
    def display_size(self) -> tuple[int, int]:
        """(width, height) in pixels as displayed."""
        is_rotated = self.rotation_degrees % 180 == 90
        return (self.height, self.width) if is_rotated else (self.width, self.height)


@dataclass(frozen=True, slots=True)
class AudioStream:
    """One audio track.

    Attributes:
        start_us, end_us: declared start and end in item time; the end is None if the header does not give it.
    """

    index: int
    codec: str
    sample_rate: int
    channels: int
    language: str | None = None
    is_default: bool = False
    start_us: int = 0
    end_us: int | None = None


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """The metadata that the bounded probe read from one file's header.

    Attributes:
        path: local path of the file.
        container: ffmpeg's format name, e.g. "mov,mp4,m4a,3gp,3g2,mj2"; or "heic" or "avif".
        size_bytes: file size.
        duration_us: duration according to the header; None for an image, or if not specified.
        video: the video stream; None for audio (attached cover art is ignored).
        audio: all audio tracks in container order.
        audio_index: container index of the track to decode (the default track, otherwise the first); None without audio.
        warnings: messages for the user, e.g. which of several audio tracks is used.
        start_us: the container's first timestamp; item time starts at 0 there.
        duration_is_estimate: `duration_us` is derived from the size and the bit rate.
        is_cut_off: the file is shorter than its structure declares.
    """

    path: str
    media_type: MediaType
    container: str
    size_bytes: int
    duration_us: int | None
    video: VideoStream | None
    audio: tuple[AudioStream, ...] = ()
    audio_index: int | None = None
    warnings: tuple[MediaWarning, ...] = ()
    start_us: int = 0
    duration_is_estimate: bool = False
    is_cut_off: bool = False

    @property
    def audio_track(self) -> AudioStream | None:
        """The track that is decoded."""
        return next((track for track in self.audio if track.index == self.audio_index), None)


@dataclass(frozen=True, slots=True)
class SampledFrame:
    """One JPEG written by the decode pass.

    Attributes:
        time_us: presentation time relative to the item's start.
        file: file name relative to the analysis folder.
    """

    time_us: int
    file: str


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """A half-open interval [start_us, end_us) of media time, in microseconds."""

    start_us: int
    end_us: int

    @property
    def duration_us(self) -> int:
        return self.end_us - self.start_us


@dataclass(frozen=True, slots=True)
class SoundActivity:
    """Where an item has speech or sound.

    Attributes:
        detector: "silero" (speech), "level" (sound above the item's noise floor), or "none" (no audio track).
        spans: ordered, disjoint spans of speech (for "level", of sound).
    """

    detector: Literal["silero", "level", "none"]
    spans: tuple[TimeSpan, ...] = ()


@dataclass(frozen=True, slots=True)
class ChannelSound:
    """One channel of an item whose channels have different speakers.

    Attributes:
        file: sound file of the channel (16 kHz mono FLAC), relative to the analysis folder.
        activity: where the channel has speech or sound.
    """

    file: str
    activity: SoundActivity


BoundaryReason = Literal["start", "end", "range", "cut", "fade", "pause", "window", "definition", "limit"]


@dataclass(frozen=True, slots=True)
class Boundary:
    """The start or end of a segment and the reason for it.

    Attributes:
        time_us: media time.
        reason: "start" or "end" of the item, an edge of the "range" to segment, a hard "cut", a gradual "fade" (including
            dissolves), a "pause" in the sound, the "window" of a fixed plan, the user's "definition" of a segment, or the
            length "limit".
        score: strength of the evidence, 0..1; 1.0 for start, end, range and window, 0.0 for limit; for definition, that of
            the cut, fade or pause to which it was moved, otherwise 0.0.
    """

    time_us: int
    reason: BoundaryReason
    score: float


@dataclass(frozen=True, slots=True)
class PlannedSegment:
    """A virtual segment [start.time_us, end.time_us) of an item.

    Attributes:
        label: what the segment shows, if a model marked it by the user's definition.
    """

    start: Boundary
    end: Boundary
    label: str | None = None

    @property
    def is_last(self) -> bool:
        """Whether it ends with its item."""
        return self.end.reason == "end"

    @property
    def span(self) -> TimeSpan:
        return TimeSpan(self.start.time_us, self.end.time_us)
