"""The one decode pass over an item: small frames, sampled pictures and sound, all from one bounded ffmpeg."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import ffmpeg
import numpy as np
from numpy.typing import NDArray

from promptreel.media.bounded import (
    Completed,
    DeadlinePassed,
    Limits,
    Stopped,
    failure_of,
    stream_bounded,
)
from promptreel.media.ffmpeg import find_ffmpeg, input_arguments
from promptreel.media.probe import picture_format
from promptreel.media.shots import FRAME_HEIGHT, FRAME_WIDTH
from promptreel.media.speech import SAMPLE_RATE
from promptreel.media.stills import decode_still, is_still
from promptreel.schemas.errors import MediaError
from promptreel.schemas.media import MediaInfo, SampledFrame, VideoStream
from promptreel.schemas.mediatime import US_PER_SECOND, seconds_from_us
from promptreel.schemas.settings import MediaLimits, SamplingSettings

FRAMES_FOLDER: Final = "frames"
AUDIO_FILE: Final = "audio.flac"
IMAGE_SIDE: Final = 1568  # a still picture is kept this large at most: two of the models' 768-pixel tiles and a margin

# The pipes that the child writes to.
_FRAMES, _TIMES, _KEPT_TIMES, _SOUND = "frames", "times", "kept times", "sound"
_FRAME_BYTES: Final = FRAME_WIDTH * FRAME_HEIGHT * 3
_BLOCK_FRAMES: Final = 64

# Codecs in which frames that no other refers to can be skipped without harm to the rest.
_SKIPPABLE_CODECS: Final = frozenset({"h264", "hevc", "mpeg2video", "mpeg4"})
# Streams that carry no times of their own: the decoder counts pictures, so none may be left out.
_UNTIMED_CONTAINERS: Final = frozenset({"h264", "hevc", "m4v", "mpegvideo"})
# A shot change must be placed within a quarter of a second: where skipping leaves wider gaps than this, all frames are
# decoded after all.
_WIDEST_GAP_US: Final = 180_000
# A file counts as truncated when it ends this much before its header says.
_MISSING_SHARE, _MISSING_US = 0.02, US_PER_SECOND
_USUAL_STEP_US: Final = 40_000  # of a single picture that does not say how long it is shown
_MIN_DEADLINE_S: Final = 60.0
_TRIAL_S: Final = 2.0


@dataclass(frozen=True)
class DecodedMedia:
    """What the pass found.

    Attributes:
        duration_us: length in microseconds: the header's where the streams bear it out, else what was decoded; 0 for an
            image.
        frames: sampled pictures in order of time.
        audio_file: name of the sound file; None without sound.
        frame_count: small frames that were handed over.
        truncated: the streams end before the header says.
    """

    duration_us: int
    frames: tuple[SampledFrame, ...]
    audio_file: str | None
    frame_count: int
    truncated: bool
    warnings: tuple[str, ...]


def decode_media(
    info: MediaInfo,
    folder: Path,
    sampling: SamplingSettings,
    limits: MediaLimits,
    on_frames: Callable[[NDArray[np.uint8], NDArray[np.int64]], None],
    on_sound: Callable[[NDArray[np.int16]], None],
    should_stop: Callable[[], bool] | None = None,
) -> DecodedMedia:
    """Decodes an item once.

    Args:
        folder: where sampled pictures (`frames/*.jpg`) and sound (`audio.flac`, 16 kHz mono) are put; it must exist.
        on_frames: is given uint8[k, 36, 64, 3] RGB frames and their int64[k] times in microseconds, in order.
        on_sound: is given int16[m] samples, 16 kHz mono.
        should_stop: looked at several times a second.

    Raises:
        MediaError: nothing could be decoded, a limit was reached, or (code "cancelled") the pass was stopped.
    """
    (folder / FRAMES_FOLDER).mkdir(exist_ok=True)
    skip = info.video is not None and info.video.has_b_frames and info.video.codec in _SKIPPABLE_CODECS
    skip = skip and info.container not in _UNTIMED_CONTAINERS
    if skip and not _skipping_leaves_enough(info, limits, should_stop):
        skip = False

    def decode(wanted: MediaInfo, source: Path) -> tuple[_Sinks, Completed]:
        sinks = _Sinks(on_frames, on_sound)
        done = _run(
            wanted,
            lambda to: _command(wanted, source, folder, sampling, limits, skip, to),
            lambda to: _sound_command(folder, to),
            limits,
            sinks,
            should_stop,
        )
        sinks.finish()
        failure = failure_of(done, info.path)
        if done.returncode != 0 and failure.code != "media_corrupt":
            raise failure  # the machine's end, not the file's: a part of the item is no result
        return sinks, done

    with _source(info, folder, limits, should_stop) as source:
        sinks, done = decode(info, source)
        if sinks.is_empty and info.video is not None and info.audio_index is not None:
            # Pictures that cannot be decoded must not cost the sound.
            sinks, done = decode(replace(info, video=None), source)
    if sinks.is_empty:
        raise failure_of(done, info.path)
    return _decoded(info, folder, sinks, done)


@contextmanager
def _source(
    info: MediaInfo, folder: Path, limits: MediaLimits, should_stop: Callable[[], bool] | None
) -> Iterator[Path]:
    """The file that ffmpeg reads: the item's own, or a decoded copy of a picture that ffmpeg does not read completely."""
    if not is_still(info):
        yield Path(info.path)
        return
    with tempfile.TemporaryDirectory(prefix="picture-", dir=folder) as scratch:
        copy = Path(scratch) / "picture.bmp"
        decode_still(info, copy, limits, should_stop)
        yield copy


def _decoded(info: MediaInfo, folder: Path, sinks: _Sinks, done: Completed) -> DecodedMedia:
    frames = _stored_frames(folder, sinks.kept_times.values)
    warnings = []
    if info.video is not None and sinks.frame_count == 0:
        warnings.append("no picture could be decoded; only the sound is used")
    if info.audio_index is not None and sinks.samples == 0:
        warnings.append("no sound could be decoded")
    if info.media_type == "image":
        return DecodedMedia(0, frames[:1], None, sinks.frame_count, False, tuple(warnings))
    decoded_us = max(_pictures_end_us(info, sinks), sinks.sound_end_us)
    picture_stays = info.video is not None and done.returncode == 0 and not done.stderr.strip()
    duration_us, truncated = settle_duration(info.duration_us, decoded_us, picture_stays)
    if truncated:
        promised, found = seconds_from_us(info.duration_us or 0), seconds_from_us(decoded_us)
        warnings.append(f"truncated: its header says {promised:.1f} s, but only {found:.1f} s can be decoded")
    elif done.returncode != 0:
        warnings.append(f"the decoder ended early: {(done.stderr.strip().splitlines() or ['no message'])[-1][:200]}")
    kept = tuple(frame for frame in frames if frame.time_us < duration_us)
    audio_file = AUDIO_FILE if sinks.samples else None
    return DecodedMedia(duration_us, kept, audio_file, sinks.frame_count, truncated, tuple(warnings))


def settle_duration(promised_us: int | None, decoded_us: int, picture_stays: bool = False) -> tuple[int, bool]:
    """(length in microseconds, whether the file is truncated) from the header's promise and what was decoded.

    The header is exact to the frame where the decoded end is not (the last frame's own length is unknown), so it is kept
    unless the two differ by more than rounding.

    Args:
        picture_stays: there are pictures and the decoder had no complaint, so that the last one may be shown to the end
            however far that is: a slide show, a recording of a screen that stands still.
    """
    if promised_us is None:
        return decoded_us, False
    missing_us = promised_us - decoded_us
    if missing_us > max(_MISSING_US, _MISSING_SHARE * promised_us):
        return (promised_us, False) if picture_stays else (decoded_us, True)
    return (promised_us, False) if missing_us > -US_PER_SECOND // 2 else (decoded_us, False)


def _pictures_end_us(info: MediaInfo, sinks: _Sinks) -> int:
    """When the last picture ends, as far as can be told: after a step like those before it, but not beyond the
    header's end."""
    if info.video is None or sinks.frame_count == 0:
        return 0
    step_us = sinks.step_us
    if step_us is None:
        step_us = round(US_PER_SECOND / info.video.frame_rate) if info.video.frame_rate else _USUAL_STEP_US
    if info.duration_us is not None:
        step_us = min(step_us, max(0, info.duration_us - sinks.last_us))
    return sinks.last_us + step_us


def _command(
    info: MediaInfo,
    source_file: Path,
    folder: Path,
    sampling: SamplingSettings,
    limits: MediaLimits,
    skip_unreferenced: bool,
    pipes: Mapping[str, int],
) -> list[str]:
    """The ffmpeg command of the pass, built with ffmpeg-python."""
    outputs = []
    source = ffmpeg.input(**_input(info, source_file, limits, skip_unreferenced))
    if info.video is not None:
        # From here on times are whole microseconds: what is printed of them is exact.
        pictures = source[str(info.video.index)].filter("settb", "1/1000000").filter_multi_output("split", 2)
        small = _timed(pictures[0].filter("scale", FRAME_WIDTH, FRAME_HEIGHT, flags="fast_bilinear"), pipes[_TIMES])
        outputs.append(
            small.output(f"pipe:{pipes[_FRAMES]}", format="rawvideo", pix_fmt="rgb24", fps_mode="passthrough")
        )
        kept = _timed(_fitted(_sampled(pictures[1], info, sampling), info, sampling), pipes[_KEPT_TIMES])
        outputs.append(
            kept.output(
                f"{_literal(folder / FRAMES_FOLDER)}/%08d.jpg",
                format="image2",
                vcodec="mjpeg",
                pix_fmt="yuvj420p",
                fps_mode="passthrough",
                huffman="default",  # tables made for each picture cost as much as the picture
                **{"q:v": 2 if info.media_type == "image" else sampling.jpeg_quality},
            )
        )
    if info.audio_index is not None:
        # A graph apart from the pictures', for a change of the sound must not begin theirs anew. Nothing before the
        # beginning: the container has no times below zero.
        uniform = f"aresample={SAMPLE_RATE},aformat=sample_fmts=s16:channel_layouts=mono,atrim=start=0"
        outputs.append(source[str(info.audio_index)].output("pipe:1", format="nut", acodec="pcm_s16le", af=uniform))
    return _compiled(ffmpeg.merge_outputs(*outputs) if len(outputs) > 1 else outputs[0])


def _sound_command(folder: Path, pipes: Mapping[str, int]) -> list[str]:
    """The ffmpeg command that reads the sound of the pass, in one form and with its times, and stores it.

    It is a process of its own, for ffmpeg begins its filters anew, and their clock, when the sound of a file changes its
    sample rate or channels. Gaps are filled with silence, so that a sample's number tells its time.
    """
    source = ffmpeg.input("pipe:0", format="nut", protocol_whitelist="pipe", copyts=None)
    sound = source.audio.filter("aresample", SAMPLE_RATE, **{"async": 1, "first_pts": 0})
    sound = sound.filter("aformat", sample_fmts="s16", channel_layouts="mono").filter_multi_output("asplit", 2)
    samples = sound[0].output(f"pipe:{pipes[_SOUND]}", format="s16le", acodec="pcm_s16le")
    stored = sound[1].output(str(folder.absolute() / AUDIO_FILE), format="flac", acodec="flac", compression_level=1)
    return _compiled(ffmpeg.merge_outputs(samples, stored))


def _literal(folder: Path) -> str:
    """A folder inside a pattern of numbered files."""
    return str(folder.absolute()).replace("%", "%%")


def _compiled(output: Any) -> list[str]:
    options = ("-nostdin", "-hide_banner", "-loglevel", "error", "-y", "-filter_complex_threads", "1")
    return [str(word) for word in output.global_args(*options).compile(cmd=find_ffmpeg().path)]


def _input(info: MediaInfo, source_file: Path, limits: MediaLimits, skip_unreferenced: bool) -> dict[str, Any]:
    more: dict[str, Any] = {"max_pixels": limits.max_pixels, "threads": 2}
    if info.duration_us is not None or info.media_type != "image":
        more["t"] = limits.max_duration_s
    if info.media_type == "image":
        with source_file.open("rb") as file:
            picture = picture_format(file.read(64))
        if picture is not None:
            more["format"] = picture
            more.pop("format_whitelist", None)
        more.pop("t", None)
    if skip_unreferenced:
        more["skip_frame"] = "noref"
    if info.video is not None:
        # Pictures that change their size or colours on the way are converted by the graph as it stands: a new one would
        # write its times and numbers from the beginning.
        more["reinit_filter:v"] = 0
    return input_arguments(str(source_file.absolute()), **more)


def _sampled(pictures: Any, info: MediaInfo, sampling: SamplingSettings) -> Any:
    """The first picture of each sampling interval; of a still one, the first."""
    if info.media_type == "image":
        return pictures.filter("select", "eq(n,0)")
    tick = f"floor(t*{sampling.frames_per_second!r}+0.001)"
    last = f"floor(prev_selected_t*{sampling.frames_per_second!r}+0.001)"
    return pictures.filter("select", f"isnan(prev_selected_t)+gt({tick},{last})")


def _fitted(pictures: Any, info: MediaInfo, sampling: SamplingSettings) -> Any:
    """Scaled into the box with square pixels, never enlarged, to even sizes. All are of one size: where the pictures of a
    stream change their shape on the way, later ones are fitted into it between black bars."""
    assert info.video is not None
    box = (IMAGE_SIDE, IMAGE_SIDE) if info.media_type == "image" else (sampling.max_width, sampling.max_height)
    width, height = _fitted_size(info.video, box)
    wide = "(iw*if(sar,sar,1))"
    # The even size may differ by two pixels from the exact shape: these are stretched, not shown as a bar.
    is_of_shape = f"lt(min(abs({width}-{height}*{wide}/ih),abs({height}-{width}*ih/{wide})),2.01)"
    share = f"min({width}/{wide},{height}/ih)"
    fitted = pictures.filter(
        "scale",
        f"if({is_of_shape},{width},max(2,2*floor({wide}*{share}/2)))",
        f"if({is_of_shape},{height},max(2,2*floor(ih*{share}/2)))",
        flags="bilinear",
        out_range="pc",
        eval="frame",
    )
    return fitted.filter("pad", width, height, "(ow-iw)/2", "(oh-ih)/2", eval="frame").filter("setsar", 1)


def _fitted_size(video: VideoStream, box: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of pictures that are scaled into a box; the box where the header does not tell their size."""
    if video.width == 0 or video.height == 0:
        return box
    turned = video.rotation_degrees % 180 == 90
    size = (
        (video.height / video.pixel_aspect, video.width) if turned else (video.width * video.pixel_aspect, video.height)
    )
    share = min(1.0, box[0] / size[0], box[1] / size[1])
    width, height = (max(2, 2 * math.floor(side * share / 2 + 0.5)) for side in size)
    return width, height


def _timed(pictures: Any, descriptor: int) -> Any:
    """Prints each picture's time to a file descriptor. The print filter wants something to print beside it."""
    marked = pictures.filter("metadata", mode="add", key="p", value="1")
    return marked.filter("metadata", mode="print", file=f"pipe:{descriptor}")


def _run(
    info: MediaInfo,
    make_command: Callable[[Mapping[str, int]], list[str]],
    make_sound_command: Callable[[Mapping[str, int]], list[str]],
    limits: MediaLimits,
    sinks: _Sinks,
    should_stop: Callable[[], bool] | None,
) -> Completed:
    takers: dict[str, Callable[[bytes], None]] = {}
    if info.video is not None:
        takers |= {_FRAMES: sinks.add_frames, _TIMES: sinks.times.add, _KEPT_TIMES: sinks.kept_times.add}
    if info.audio_index is not None:
        takers[_SOUND] = sinks.add_sound
    length_s = seconds_from_us(info.duration_us) if info.duration_us is not None else limits.max_duration_s / 2
    deadline_s = max(_MIN_DEADLINE_S, limits.decode_deadline_factor * length_s)
    try:
        bounds = Limits(deadline_s, limits.decode_memory_bytes)
        reader = make_sound_command if info.audio_index is not None else None
        return stream_bounded(make_command, takers, bounds, should_stop, reader)
    except DeadlinePassed as error:
        message = f"{info.path}: decoding took longer than {deadline_s:.0f} s; is the file what it claims to be?"
        raise MediaError("decode_timeout", message, retryable=True) from error
    except Stopped as error:
        raise MediaError("cancelled", f"{info.path}: stopped while it was decoded", retryable=True) from error


def _skipping_leaves_enough(info: MediaInfo, limits: MediaLimits, should_stop: Callable[[], bool] | None) -> bool:
    """Whether the frames that others refer to lie close enough, judged on the first seconds of the item."""
    assert info.video is not None
    index = str(info.video.index)

    def command(pipes: Mapping[str, int]) -> list[str]:
        source = ffmpeg.input(**{**_input(info, Path(info.path), limits, True), "t": _TRIAL_S})
        pictures = _timed(source[index].filter("settb", "1/1000000").filter("scale", 16, 16), pipes[_TIMES])
        return _compiled(pictures.output("-", format="null", fps_mode="passthrough"))

    times = _Times()
    try:
        bounds = Limits(_MIN_DEADLINE_S, limits.decode_memory_bytes)
        stream_bounded(command, {_TIMES: times.add}, bounds, should_stop)
    except (DeadlinePassed, Stopped):
        return False
    gaps = np.diff(np.array(times.values, np.int64))
    return len(gaps) > 0 and float(np.percentile(gaps, 95)) <= _WIDEST_GAP_US


def _stored_frames(folder: Path, times_us: list[int]) -> tuple[SampledFrame, ...]:
    """The sampled pictures that are on disk, with their times; a picture cut off by the decoder's end is left out."""
    frames = []
    for number, time_us in enumerate(times_us, start=1):
        name = f"{FRAMES_FOLDER}/{number:08d}.jpg"
        if (folder / name).is_file() and (folder / name).stat().st_size > 0:
            frames.append(SampledFrame(max(0, time_us), name))
    return tuple(frames)


class _Times:
    """Reads picture times in microseconds from what ffmpeg's metadata filter prints: `frame:0    pts:0    pts_time:0`."""

    def __init__(self) -> None:
        self.values: list[int] = []
        self._rest = b""

    def add(self, block: bytes) -> None:
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            if line.startswith(b"frame:"):
                value = line.split(b"pts:", 1)[1].split(None, 1)[0]
                before = self.values[-1] if self.values else 0
                self.values.append(before if value == b"NOPTS" else int(value))


class _Sinks:
    """Takes what the child writes and hands it over in whole frames and samples."""

    def __init__(
        self,
        on_frames: Callable[[NDArray[np.uint8], NDArray[np.int64]], None],
        on_sound: Callable[[NDArray[np.int16]], None],
    ) -> None:
        self.times = _Times()
        self.kept_times = _Times()
        self.frame_count = 0
        self.last_us = 0
        self.step_us: int | None = None  # usual time between pictures, lately
        self.samples = 0
        self._on_frames = on_frames
        self._on_sound = on_sound
        self._pixels = bytearray()
        self._sound = b""

    @property
    def is_empty(self) -> bool:
        return self.frame_count == 0 and self.samples == 0

    @property
    def sound_end_us(self) -> int:
        return self.samples * US_PER_SECOND // SAMPLE_RATE

    def add_frames(self, block: bytes) -> None:
        self._pixels += block
        self._flush(_BLOCK_FRAMES)

    def add_sound(self, block: bytes) -> None:
        joined = self._sound + block
        whole = len(joined) // 2 * 2
        self._sound = joined[whole:]
        self.samples += whole // 2
        self._on_sound(np.frombuffer(joined[:whole], "<i2"))

    def finish(self) -> None:
        """Hands over what is left."""
        self._flush(1)

    def _flush(self, at_least: int) -> None:
        """Hands over frames whose times are known. The times of a pass may come later than the pixels."""
        count = min(len(self._pixels) // _FRAME_BYTES, len(self.times.values))
        if count < at_least:
            return
        pixels = np.frombuffer(bytes(self._pixels[: count * _FRAME_BYTES]), np.uint8)
        del self._pixels[: count * _FRAME_BYTES]
        times = np.maximum.accumulate(np.maximum(np.array(self.times.values[:count], np.int64), self.last_us))
        del self.times.values[:count]
        self._on_frames(pixels.reshape(count, FRAME_HEIGHT, FRAME_WIDTH, 3), times)
        gaps = np.diff(times, prepend=[self.last_us] * bool(self.frame_count))
        if len(gaps):
            self.step_us = int(np.median(gaps))
        self.frame_count += count
        self.last_us = int(times[-1])
