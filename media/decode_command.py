"""The ffmpeg commands of the decode pass, built with ffmpeg-python."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import ffmpeg

from promptreel.media.decoder_log import ERROR_DETECTION, LOG_LEVEL
from promptreel.media.ffmpeg import find_ffmpeg, input_arguments
from promptreel.media.probe import picture_format
from promptreel.media.shots import FRAME_HEIGHT, FRAME_WIDTH
from promptreel.media.speech import SAMPLE_RATE
from promptreel.media.stills import MAX_IMAGE_SIDE
from promptreel.media.timestamps import Clock
from promptreel.schemas.media import MediaInfo, VideoStream
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.schemas.settings import MediaLimits, SamplingSettings

FRAMES_FOLDER: Final = "frames"
AUDIO_FILE: Final = "audio.flac"
_MAX_DRIFT_S: Final = 0.03
# Arguments of aresample that turn gaps into silence, so that a sample's position tells its time.
FILL_GAPS: Final[Mapping[str, Any]] = MappingProxyType({"async": 1, "first_pts": 0, "min_hard_comp": _MAX_DRIFT_S})
_MAX_LOWRES: Final = 3  # ffmpeg's JPEG decoder scales by 1/2, 1/4 or 1/8

# Names of the pipes that the commands write to.
SMALL_FRAMES, SMALL_FRAME_TIMES, SAMPLE_TIMES, SOUND = "small frames", "small frame times", "sample times", "sound"


def decode_command(
    info: MediaInfo,
    source_file: Path,
    folder: Path,
    sampling: SamplingSettings,
    limits: MediaLimits,
    skip_unreferenced: bool,
    clock: Clock,
    pipes: Mapping[str, int],
) -> list[str]:
    """Return the command that decodes an item once: small frames, sampled frames, and sound as NUT on standard output.

    Args:
        source_file: the file to read; a still picture may have been converted first.
        folder: where sampled frames are written.
        skip_unreferenced: do not decode frames that no other frame refers to.
        clock: how to treat the timestamps.
        pipes: file descriptor of each named pipe.
    """
    outputs = []
    options = _input(info, source_file, limits, skip_unreferenced)
    source = ffmpeg.input(**options, **clock_options(info, clock))
    if info.video is not None:
        # In microseconds from here on, so that the printed times are exact.
        frames = source[str(info.video.index)].filter("settb", "1/1000000").filter_multi_output("split", 2)
        small = _print_times(
            frames[0].filter("scale", FRAME_WIDTH, FRAME_HEIGHT, flags="fast_bilinear"), pipes[SMALL_FRAME_TIMES]
        )
        outputs.append(
            small.output(f"pipe:{pipes[SMALL_FRAMES]}", format="rawvideo", pix_fmt="rgb24", fps_mode="passthrough")
        )
        sampled = _print_times(_fit(_sample(frames[1], info, sampling), info, sampling), pipes[SAMPLE_TIMES])
        outputs.append(
            sampled.output(
                f"{_escape_pattern(folder / FRAMES_FOLDER)}/%08d.jpg",
                format="image2",
                vcodec="mjpeg",
                pix_fmt="yuvj420p",
                fps_mode="passthrough",
                huffman="default",  # computing optimal tables costs as much as encoding the picture
                **{"q:v": 2 if info.media_type == "image" else sampling.jpeg_quality},
            )
        )
    if info.audio_index is not None:
        # A separate filter graph, so that a change of the audio parameters does not restart the video graph. Samples
        # before zero are cut: item time starts at zero.
        uniform = f"aresample={SAMPLE_RATE},aformat=sample_fmts=s16:channel_layouts=mono,atrim=start=0"
        outputs.append(source[str(info.audio_index)].output("pipe:1", format="nut", acodec="pcm_s16le", af=uniform))
    return compile_command(ffmpeg.merge_outputs(*outputs) if len(outputs) > 1 else outputs[0])


def sound_command(folder: Path, pipes: Mapping[str, int]) -> list[str]:
    """Return the command that reads the NUT stream of `decode_command`, fills gaps with silence and stores the sound.

    It is a separate process because ffmpeg rebuilds a filter graph, and restarts its clock, when the sample rate or the
    channels of a stream change. Gaps become silence, so that a sample's position tells its time; gaps and overlaps up to
    `_MAX_DRIFT_S` are left, because many recorders write times that are not exact.
    """
    source = ffmpeg.input("pipe:0", format="nut", protocol_whitelist="pipe", copyts=None)
    sound = source.audio.filter("aresample", SAMPLE_RATE, **FILL_GAPS)
    sound = sound.filter("aformat", sample_fmts="s16", channel_layouts="mono").filter_multi_output("asplit", 2)
    samples = sound[0].output(f"pipe:{pipes[SOUND]}", format="s16le", acodec="pcm_s16le")
    stored = sound[1].output(str(folder.absolute() / AUDIO_FILE), format="flac", acodec="flac", compression_level=1)
    return compile_command(ffmpeg.merge_outputs(samples, stored))


def frame_times_command(info: MediaInfo, limits: MediaLimits, seconds: float, pipes: Mapping[str, int]) -> list[str]:
    """Return the command that prints the times of the frames that decoding with `skip_unreferenced` yields.

    Args:
        seconds: how much of the item to decode.
    """
    assert info.video is not None
    source = ffmpeg.input(**{**_input(info, Path(info.path), limits, True), "t": seconds})
    frames = source[str(info.video.index)].filter("settb", "1/1000000").filter("scale", 16, 16)
    return compile_command(
        _print_times(frames, pipes[SMALL_FRAME_TIMES]).output("-", format="null", fps_mode="passthrough")
    )


def clock_options(info: MediaInfo, clock: Clock) -> dict[str, Any]:
    """Return the input options that keep the container's times as far as they can be used."""
    options: dict[str, Any] = {}
    if clock.is_continuous:
        options["copyts"] = None
    if clock.changes_sample_rate:
        options["fflags"] = "+nofillin"
    if options:
        options["itsoffset"] = -seconds_from_us(info.start_us)  # either option keeps the container's start
    return options


def _escape_pattern(folder: Path) -> str:
    """Return a folder escaped for use in a pattern of numbered files."""
    return str(folder.absolute()).replace("%", "%%")


def compile_command(output: Any, log_level: str = LOG_LEVEL) -> list[str]:
    """Return the command line of an ffmpeg-python output."""
    options = ("-nostdin", "-nostats", "-hide_banner", "-loglevel", log_level, "-y", "-filter_complex_threads", "1")
    return [str(word) for word in output.global_args(*options).compile(cmd=find_ffmpeg().path)]


def _input(info: MediaInfo, source_file: Path, limits: MediaLimits, skip_unreferenced: bool) -> dict[str, Any]:
    is_image = info.media_type == "image"
    max_pixels = limits.max_image_pixels if is_image else limits.max_pixels
    options: dict[str, Any] = {"max_pixels": max_pixels, "threads": 2, "err_detect": ERROR_DETECTION}
    if is_image:
        with source_file.open("rb") as file:
            picture = picture_format(file.read(64))
        if picture is not None:
            options["format"] = picture
        if picture == "jpeg_pipe" and info.video is not None:
            options["lowres"] = _lowres(info.video)
    else:
        options["t"] = limits.max_duration_s
    if skip_unreferenced:
        options["skip_frame"] = "noref"
    if info.video is not None:
        # Frames that change size or colour mid-file are converted by the existing graph: a rebuilt graph would restart
        # the times and the numbering.
        options["reinit_filter:v"] = 0
    return input_arguments(str(source_file.absolute()), **options)


def _lowres(video: VideoStream) -> int:
    """Return how often a JPEG can be halved during decoding and still fill the largest frame."""
    longer_side = max(video.width, video.height)
    return min(_MAX_LOWRES, max(0, (longer_side // MAX_IMAGE_SIDE).bit_length() - 1))


def _sample(frames: Any, info: MediaInfo, sampling: SamplingSettings) -> Any:
    """Select the first frame of each sampling interval; of an image, the first frame."""
    if info.media_type == "image":
        return frames.filter("select", "eq(n,0)")
    tick = f"floor(t*{sampling.frames_per_second!r}+0.001)"
    last = f"floor(prev_selected_t*{sampling.frames_per_second!r}+0.001)"
    return frames.filter("select", f"isnan(prev_selected_t)+gt({tick},{last})")


def _fit(frames: Any, info: MediaInfo, sampling: SamplingSettings) -> Any:
    """Scale frames into the box with square pixels, never enlarged, to even sizes.

    All frames get the same size: if the aspect ratio changes mid-file, later frames are letterboxed.
    """
    assert info.video is not None
    is_image = info.media_type == "image"
    box = (MAX_IMAGE_SIDE, MAX_IMAGE_SIDE) if is_image else (sampling.max_width, sampling.max_height)
    width, height = _fitted_size(info.video, box)
    square_width = "(iw*if(sar,sar,1))"
    # Rounding to even sizes changes the aspect ratio by up to two pixels: stretch those instead of adding a bar.
    has_aspect = f"lt(min(abs({width}-{height}*{square_width}/ih),abs({height}-{width}*ih/{square_width})),2.01)"
    factor = f"min({width}/{square_width},{height}/ih)"
    fitted = frames.filter(
        "scale",
        f"if({has_aspect},{width},max(2,2*floor({square_width}*{factor}/2)))",
        f"if({has_aspect},{height},max(2,2*floor(ih*{factor}/2)))",
        flags="bilinear",
        out_range="pc",
        eval="frame",
    )
    return fitted.filter("pad", width, height, "(ow-iw)/2", "(oh-ih)/2", eval="frame").filter("setsar", 1)


def _fitted_size(video: VideoStream, box: tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) of frames scaled into a box; the box itself if the header declares no size."""
    if video.width == 0 or video.height == 0:
        return box
    is_turned = video.rotation_degrees % 180 == 90
    size = (
        (video.height / video.pixel_aspect, video.width)
        if is_turned
        else (video.width * video.pixel_aspect, video.height)
    )
    factor = min(1.0, box[0] / size[0], box[1] / size[1])
    width, height = (max(2, 2 * math.floor(side * factor / 2 + 0.5)) for side in size)
    return width, height


def _print_times(frames: Any, descriptor: int) -> Any:
    """Print each frame's time to a file descriptor. The print mode needs a key to print, so one is added first."""
    marked = frames.filter("metadata", mode="add", key="p", value="1")
    return marked.filter("metadata", mode="print", file=f"pipe:{descriptor}")
