"""What is known of one media item: what the probe read, and what the decode pass found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from promptreel.schemas.media_warnings import MediaWarning

MediaType = Literal["video", "audio", "image"]


@dataclass(frozen=True, slots=True)
class VideoStream:
    """The picture stream that is decoded.

    Attributes:
        index: its number inside the container, as ffmpeg counts.
        width, height: coded size in pixels, before rotation; of HEIC and AVIF the complete picture as it is shown.
        rotation_degrees: clockwise turn that a player applies: 0, 90, 180 or 270.
        frame_rate: mean frames per second, None where the header does not say.
        frame_count: frames that the header promises, None where it does not say.
        has_b_frames: frames are reordered, so some may be skipped without harm to the others.
        pixel_aspect: width of a coded pixel for a height of 1.
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
        """(width, height) in pixels as a player shows it."""
        turned = self.rotation_degrees % 180 == 90
        return (self.height, self.width) if turned else (self.width, self.height)


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
    """What the bounded probe read from one file's header.

    Attributes:
        path: local path that was probed.
        container: ffmpeg's name of the format, e.g. "mov,mp4,m4a,3gp,3g2,mj2"; or "heic" or "avif".
        size_bytes: size of the file.
        duration_us: what the header promises; None for an image, or where the header is silent.
        video: the picture stream; None for audio (attached cover art does not count).
        audio: every sound track in container order.
        audio_index: container index of the track that is decoded (the default one, else the first); None without sound.
        warnings: what a user should know, e.g. that there are several audio tracks and which one is used.
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
    """One JPEG that the decode pass put on disk.

    Attributes:
        time_us: presentation time from the item's start.
        file: file name relative to the analysis folder.
    """

    time_us: int
    file: str


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """A half-open span [start_us, end_us) of media time, in microseconds."""

    start_us: int
    end_us: int

    @property
    def duration_us(self) -> int:
        return self.end_us - self.start_us


@dataclass(frozen=True, slots=True)
class SoundActivity:
    """Where an item is heard.

    Attributes:
        detector: "silero" (speech), "level" (sound louder than the item's own floor), or "none" (no sound track).
        spans: ordered, disjoint spans of speech (or of sound, for "level").
    """

    detector: Literal["silero", "level", "none"]
    spans: tuple[TimeSpan, ...] = ()


BoundaryReason = Literal["start", "end", "cut", "fade", "pause", "window", "limit"]


@dataclass(frozen=True, slots=True)
class Boundary:
    """Why a segment begins or ends where it does.

    Attributes:
        time_us: media time.
        reason: "start"/"end" of the item, a hard "cut", a gradual "fade" (dissolves too), a "pause" in the sound, the
            "window" of a fixed plan, or the length "limit".
        score: 0..1, how strong the evidence is; 1.0 for start, end and window, 0.0 for limit.
    """

    time_us: int
    reason: BoundaryReason
    score: float


@dataclass(frozen=True, slots=True)
class PlannedSegment:
    """A virtual segment [start.time_us, end.time_us) of an item."""

    start: Boundary
    end: Boundary

    @property
    def span(self) -> TimeSpan:
        return TimeSpan(self.start.time_us, self.end.time_us)
