"""What the media layer says about 120 generated files, compared with what is known about each.

    python -m benchmarks media_truth [--keep FOLDER] [--list]

The files are films, sounds and pictures in many containers and codecs, whole, truncated to 60 %, and with flipped bits, and
recordings whose parameters change. A film shows six colours, one every 2 s; its sound has a beep 0.8 s into each. So the
type, the duration, the picture size, the times of the changes and the number and times of the beeps are known.

A truncated file agrees if it is reported as truncated or fails; if its format declares no length, what is left is a complete
file, and agrees if its duration is that of what is left. A file with flipped bits agrees if it carries a warning or
fails, or if ffmpeg, run on its own, reports no error either.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.rehearsal import run_ffmpeg
from benchmarks.report import print_bar, print_table
from benchmarks.scratch import work_folder
from promptreel.media.decode import decode_media
from promptreel.media.decoder_log import ERROR_DETECTION
from promptreel.media.ffmpeg import find_ffmpeg
from promptreel.media.probe import probe_media
from promptreel.schemas.errors import MediaError
from promptreel.schemas.settings import MediaLimits, SamplingSettings

COLOURS: Final = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "yellow": (230, 220, 40)}
SEQUENCE: Final = ("red", "green", "blue", "yellow", "red", "blue")
PART_S: Final = 2.0
BEEP_S: Final = 0.8
SIZE: Final = (320, 180)
LENGTH_TOLERANCE_S: Final = 0.15
TIME_TOLERANCE_S: Final = 0.1
_SAMPLE_RATE: Final = 16_000
_FLIPS: Final = 12

# name, extension, video options, audio options
FILMS: Final = (
    ("h264 mp4", "mp4", "-c:v libx264 -preset veryfast", "-c:a aac"),
    ("h264 mov", "mov", "-c:v libx264 -preset veryfast -bf 0", "-c:a alac"),
    ("hevc mp4", "mp4", "-c:v libx265 -preset ultrafast -x265-params log-level=none", "-c:a aac"),
    ("av1 mp4", "mp4", "-c:v libsvtav1 -preset 12", "-c:a libopus"),
    ("mpeg4 avi", "avi", "-c:v mpeg4 -q:v 3", "-c:a libmp3lame"),
    ("mjpeg avi", "avi", "-c:v mjpeg -q:v 3", "-c:a pcm_s16le"),
    ("h264 mkv", "mkv", "-c:v libx264 -preset veryfast", "-c:a flac"),
    ("ffv1 mkv", "mkv", "-c:v ffv1", "-c:a ac3"),
    ("vp8 webm", "webm", "-c:v libvpx -deadline realtime", "-c:a libvorbis"),
    ("vp9 webm", "webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8", "-c:a libopus"),
    ("h264 ts", "ts", "-c:v libx264 -preset veryfast", "-c:a aac"),
    ("mpeg2 ts", "ts", "-c:v mpeg2video -q:v 3", "-c:a mp2"),
    ("mpeg2 mpg", "mpg", "-c:v mpeg2video -q:v 3", "-c:a mp2"),
    ("flv", "flv", "-c:v flv -q:v 3", "-c:a libmp3lame -ar 44100"),
    ("wmv", "wmv", "-c:v wmv2 -q:v 3", "-c:a wmav2"),
    ("theora ogv", "ogv", "-c:v libtheora -q:v 7", "-c:a libvorbis"),
    ("gif", "gif", "", ""),
    ("apng", "png", "-f apng -plays 0", ""),
    ("animated webp", "webp", "-c:v libwebp_anim -lossless 1", ""),
)
SOUNDS: Final = (
    ("wav", "wav", "-c:a pcm_s16le"), ("flac", "flac", "-c:a flac"), ("mp3", "mp3", "-c:a libmp3lame -b:a 96k"),
    ("mp3 variable", "mp3", "-c:a libmp3lame -q:a 4"), ("vorbis ogg", "ogg", "-c:a libvorbis"),
    ("opus", "opus", "-c:a libopus"), ("aac m4a", "m4a", "-c:a aac"), ("alac m4a", "m4a", "-c:a alac"),
    ("adts", "aac", "-c:a aac"), ("ac3", "ac3", "-c:a ac3"), ("eac3", "eac3", "-c:a eac3"), ("wma", "wma", "-c:a wmav2"),
    ("aiff", "aiff", "-c:a pcm_s16be"), ("caf", "caf", "-c:a pcm_s16le"), ("wavpack", "wv", "-c:a wavpack"),
    ("amr", "amr", "-c:a libopencore_amrnb -ar 8000 -ac 1"),
)  # fmt: skip
PICTURES: Final = (
    ("jpeg", "jpg", "-q:v 2"), ("png", "png", ""), ("bmp", "bmp", ""), ("tiff", "tif", ""),
    ("webp", "webp", "-c:v libwebp"), ("still gif", "gif", ""), ("jpeg 2000", "jp2", ""),
)  # fmt: skip
# name, extension, options of the parts in turn
CHANGES: Final = (
    ("size ts", "ts", ("-s 320x180", "-s 640x480"), "-c:a aac"),
    ("pixel format ts", "ts", ("-pix_fmt yuv420p", "-pix_fmt yuv444p"), "-c:a aac"),
    ("sample rate ts", "ts", ("-ar 44100", "-ar 22050"), "-c:a aac"),
    ("channels ts", "ts", ("-ac 1", "-ac 2"), "-c:a aac"),
    ("everything ts", "ts", ("-s 320x180 -ar 48000", "-s 640x480 -ar 32000 -ac 1"), "-c:a aac"),
    ("size mp4", "mp4", ("-s 320x180", "-s 640x480"), "-c:a aac"),
    ("size mkv", "mkv", ("-s 320x180", "-s 640x480"), "-c:a libmp3lame"),
    ("sample rate mkv", "mkv", ("-ar 44100", "-ar 22050"), "-c:a libmp3lame"),
)


# Formats without a declared length
_ENDLESS: Final = frozenset({".ts", ".mpg", ".aac", ".ac3", ".eac3", ".amr"})


@dataclass(frozen=True)
class Case:
    """A generated file and what is known about it.

    Attributes:
        damage: "none", "truncated" or "flipped".
        duration_s: None if it is not known, as in damaged files.
    """

    path: Path
    kind: str
    damage: str
    media_type: str
    duration_s: float | None = None
    changes_s: tuple[float, ...] = ()
    beeps_s: tuple[float, ...] = ()


@dataclass
class Observed:
    """What the product says about a file."""

    failure: str | None = None
    media_type: str = ""
    duration_s: float = 0.0
    size: tuple[int, int] | None = None
    changes_s: list[float] = field(default_factory=list)
    beeps_s: list[float] = field(default_factory=list)
    warnings: tuple[str, ...] = ()
    is_truncated: bool = False


def cases(folder: Path) -> Iterator[Case]:
    """Write the files; yield what is known about each."""
    film_s = len(SEQUENCE) * PART_S
    changes = tuple(PART_S * number for number in range(1, len(SEQUENCE)))
    beeps = tuple(PART_S * number + BEEP_S for number in range(len(SEQUENCE)))
    for name, extension, video, audio in FILMS:
        path = folder / f"film {name}.{extension}"
        _write_film(path, SEQUENCE, f"{video} {audio} -pix_fmt {_pixel_format(extension, video)}", bool(audio))
        heard = beeps if audio else ()
        yield from _with_damage(path, "films", lambda p, d, h=heard: Case(p, "films", d, "video", film_s, changes, h))  # type: ignore[misc]
    for name, extension, audio in SOUNDS:
        path = folder / f"sound {name}.{extension}"
        run_ffmpeg(path, "-f", "lavfi", "-i", _beeps(film_s), *audio.split())
        yield from _with_damage(path, "sounds", lambda p, d: Case(p, "sounds", d, "audio", film_s, (), beeps))
    for name, extension, options in PICTURES:
        path = folder / f"picture {name}.{extension}"
        run_ffmpeg(path, "-f", "lavfi", "-i", f"testsrc2=s={SIZE[0]}x{SIZE[1]}", "-frames:v", "1", *options.split())
        yield from list(_with_damage(path, "pictures", lambda p, d: Case(p, "pictures", d, "image")))[
            : 1 + (len(name) % 2)
        ]
    for name, extension, options, audio in CHANGES:
        path = folder / f"change {name}.{extension}"
        starts = _write_changing(path, options, audio)
        times = tuple(start + BEEP_S for start in starts)
        yield Case(path, "changes", "none", "video", None, tuple(starts[1:]), times)


def _with_damage(path: Path, kind: str, case: Callable[[Path, str], Case]) -> Iterator[Case]:
    content = path.read_bytes()
    yield case(path, "none")
    cut = path.with_stem(f"{path.stem} truncated")
    cut.write_bytes(content[: round(0.6 * len(content))])
    yield case(cut, "truncated")
    flipped = path.with_stem(f"{path.stem} flipped")
    rng, data = random.Random(path.name), bytearray(content)
    for _ in range(_FLIPS):
        at = rng.randrange(len(data) // 5, len(data))  # headers at the start are another matter
        data[at] ^= 1 << rng.randrange(8)
    flipped.write_bytes(data)
    yield case(flipped, "flipped")


def _pixel_format(extension: str, video: str) -> str:
    if extension == "gif":
        return "rgb8"
    if extension in ("png", "webp"):
        return "rgb24" if extension == "png" else "bgra"
    return "yuvj420p" if "mjpeg" in video else "yuv420p"


def _write_film(path: Path, colours: tuple[str, ...], options: str, has_sound: bool, *more: str) -> None:
    sources = [_picture_source(colour) for colour in colours]
    inputs = [word for source in sources for word in ("-f", "lavfi", "-i", source)]
    count = len(sources)
    graph = "".join(f"[{number}:v]" for number in range(count)) + f"concat=n={count}[v]"
    sound = ["-f", "lavfi", "-i", _beeps(count * PART_S), "-map", f"{count}:a"] if has_sound else []
    run_ffmpeg(path, *inputs, *sound[:4], "-filter_complex", graph, "-map", "[v]", *sound[4:], *options.split(), *more)


def _picture_source(colour: str) -> str:
    red, green, blue = COLOURS[colour]
    return f"color=c=0x{red:02x}{green:02x}{blue:02x}:s={SIZE[0]}x{SIZE[1]}:r=25:d={PART_S:g}"


def _beeps(seconds: float) -> str:
    return f"aevalsrc='0.5*sin(880*2*PI*t)*between(mod(t,{PART_S:g}),{BEEP_S},{BEEP_S + 0.3})':s=44100:d={seconds:g}"


def _write_changing(path: Path, options: tuple[str, ...], audio: str) -> list[float]:
    """Join separately encoded parts; return their starts in the joined file."""
    with tempfile.TemporaryDirectory() as scratch:
        parts = []
        for number, colour in enumerate(SEQUENCE):
            part = Path(scratch) / f"{number}.{'ts' if path.suffix == '.ts' else 'mkv'}"
            words = f"-c:v libx264 -preset veryfast -bf 0 -bsf:v dump_extra {audio} {options[number % len(options)]}"
            if "pix_fmt" not in words:
                words += " -pix_fmt yuv420p"
            offset = ("-output_ts_offset", str(number * PART_S)) if path.suffix == ".ts" else ()
            _write_film(part, (colour,), words, True, *offset)
            parts.append(part)
        if path.suffix == ".ts":
            path.write_bytes(b"".join(part.read_bytes() for part in parts))
        else:
            index = Path(scratch) / "index.txt"
            index.write_text("".join(f"file '{part}'\n" for part in parts))
            run_ffmpeg(path, "-f", "concat", "-safe", "0", "-i", str(index), "-c", "copy")
    return _key_frames_s(path)


def _key_frames_s(path: Path) -> list[float]:
    import av

    with av.open(str(path)) as container:
        start_s = (container.start_time or 0) / 1e6
        packets = list(container.demux(container.streams.video[0]))
        return sorted(float(p.pts * p.time_base) - start_s for p in packets if p.is_keyframe and p.pts is not None)


def observe(path: Path) -> Observed:
    """Decode a file as a run does."""
    frames: list[NDArray[np.float64]] = []
    times: list[NDArray[np.int64]] = []
    sound: list[NDArray[np.int16]] = []

    def on_frames(part: NDArray[np.uint8], times_us: NDArray[np.int64]) -> None:
        frames.append(part[:, 12:24, 20:44].reshape(len(part), -1, 3).mean(axis=1))
        times.append(times_us.copy())

    with tempfile.TemporaryDirectory() as folder:
        try:
            info = probe_media(path)
            decoded = decode_media(
                info, Path(folder), SamplingSettings(), MediaLimits(), on_frames, lambda part: sound.append(part.copy())
            )
        except MediaError as error:
            return Observed(failure=error.code)
    return Observed(
        media_type=info.media_type,
        duration_s=decoded.duration_us / 1e6,
        size=info.video.display_size if info.video is not None else None,
        changes_s=_changes_s(np.concatenate(frames), np.concatenate(times)) if frames else [],
        beeps_s=_beeps_s(np.concatenate(sound)) if sound else [],
        warnings=tuple(warning.code for warning in decoded.warnings),
        is_truncated=decoded.truncated,
    )


def _changes_s(middles: NDArray[np.float64], times_us: NDArray[np.int64]) -> list[float]:
    known = np.array(list(COLOURS.values()), np.float64)
    nearest = np.abs(middles[:, None] - known[None]).sum(axis=2).argmin(axis=1)
    return [float(times_us[at]) / 1e6 for at in np.flatnonzero(np.diff(nearest)) + 1]


def _beeps_s(samples: NDArray[np.int16]) -> list[float]:
    """Starts of the beeps; a pause shorter than 0.2 s does not end one."""
    step = _SAMPLE_RATE // 100
    levels = np.abs(samples[: len(samples) // step * step].astype(np.int32)).reshape(-1, step).max(axis=1)
    loud = np.flatnonzero(levels > 3000)
    if not len(loud):
        return []
    return [float(at) / 100 for at in loud[[0, *(np.flatnonzero(np.diff(loud) > 20) + 1)]]]


def disagreements(case: Case, seen: Observed) -> list[str]:
    """What the product says differently from what is known."""
    if case.damage == "truncated":
        if case.path.suffix in _ENDLESS and case.duration_s is not None:
            is_right = not seen.failure and 0.3 * case.duration_s < seen.duration_s < 0.8 * case.duration_s
            return [] if is_right else [f"{seen.duration_s:.2f} s of {case.duration_s:.2f} s"]
        return [] if seen.failure or seen.is_truncated else ["not reported as truncated"]
    if case.damage == "flipped":
        if seen.failure or seen.warnings or not _ffmpeg_errors(case.path):
            return []
        return ["errors of ffmpeg are not reported"]
    if seen.failure:
        return [f"failed: {seen.failure}"]
    found = []
    if seen.media_type != case.media_type:
        found.append(f"type {seen.media_type} instead of {case.media_type}")
    if (
        case.duration_s is not None
        and case.kind != "pictures"
        and _far(seen.duration_s, case.duration_s, LENGTH_TOLERANCE_S)
    ):
        found.append(f"duration {seen.duration_s:.2f} s instead of {case.duration_s:.2f} s")
    if case.kind != "sounds" and seen.size != SIZE:
        found.append(f"size {seen.size}")
    for what, times, known in (("changes", seen.changes_s, case.changes_s), ("beeps", seen.beeps_s, case.beeps_s)):
        if case.kind == "pictures":
            continue
        if len(times) != len(known) or any(_far(a, b, TIME_TOLERANCE_S) for a, b in zip(times, known, strict=True)):
            found.append(f"{what} at {[round(at, 2) for at in times]} instead of {[round(at, 2) for at in known]}")
    if seen.warnings or seen.is_truncated:
        found.append(f"warned of {', '.join(seen.warnings)}")
    return found


def _far(one: float, two: float, tolerance: float) -> bool:
    return abs(one - two) > tolerance


def _ffmpeg_errors(path: Path) -> bool:
    command = [find_ffmpeg().path, "-nostdin", "-v", "error", "-err_detect", ERROR_DETECTION, "-i", str(path)]
    done = subprocess.run([*command, "-f", "null", "-"], capture_output=True, timeout=60, check=False)
    return bool(done.stderr.strip()) or done.returncode != 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the generated files in this folder")
    parser.add_argument("--list", action="store_true", help="print every file with what was found")
    options = parser.parse_args()
    files: Counter[tuple[str, str]] = Counter()
    agreed: Counter[tuple[str, str]] = Counter()
    lines = []
    with work_folder(options.keep) as folder:
        for case in cases(folder):
            seen = observe(case.path)
            wrong = disagreements(case, seen)
            files[case.kind, case.damage] += 1
            agreed[case.kind, case.damage] += not wrong
            if wrong or options.list:
                lines.append(f"{case.path.name}: {'; '.join(wrong) or seen.failure or 'agrees'}")
    print_table(("kind", "damage", "files", "agree"), [(*key, files[key], agreed[key]) for key in files])
    print(*lines, sep="\n")
    total = sum(files.values())
    print_bar("files that agree", f"{sum(agreed.values())} of {total}", f"all of {total}", agreed == files)


if __name__ == "__main__":
    main()
