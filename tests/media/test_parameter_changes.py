"""Files whose parameters change in the middle: frames and sound have the times that the container declares.

The expected times are computed independently: the start of each part in the joined file is the time of its only key
frame, and the delay of a sound within its part is measured on that part alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest

from promptreel.media.decode import DecodedMedia, decode_media
from promptreel.media.probe import probe_media
from promptreel.media.timestamps import Clock, read_clock
from promptreel.schemas.settings import MediaLimits, SamplingSettings
from tests.media_files import COLOURS, X264, Sound, ffmpeg, plain, read_sound, silence, sounding_s, tone, write_film

TOLERANCE_S = 0.05
PART_S = 2.0
SEQUENCE = ("red", "green", "blue", "yellow", "white", "red")
SMALL, LARGE = (320, 180), (640, 480)
VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-b:v", "500k")
# ffmpeg options of even and odd parts
PARAMETERS: dict[str, tuple[Sequence[object], Sequence[object]]] = {
    "size": ((), ()),
    "pixel format": (("-pix_fmt", "yuv420p"), ("-pix_fmt", "yuv444p")),
    "colour": (("-colorspace", "bt709", "-color_range", "tv"), ("-colorspace", "smpte170m", "-color_range", "pc")),
    "sample rate": (("-ar", 44_100), ("-ar", 22_050)),
    "higher sample rate": (("-ar", 22_050), ("-ar", 48_000)),
    "channels": (("-ac", 2), ("-ac", 1)),
    "everything": (("-ar", 48_000, "-ac", 2), ("-ar", 32_000, "-ac", 1)),
}
FILES = [
    *(("ts", name, changes, "aac", 0.0) for name in PARAMETERS for changes in (2, 5)),
    ("ts", "size", 2, "mp2", 1.0),
    ("ts", "sample rate", 2, "aac", 1.0),
    ("ts", "size", 2, "aac", -0.2),
    ("ts", "sample rate", 2, "mp2", -0.2),
    *(("mp4", name, changes, "aac", 0.0) for name in ("size", "pixel format", "colour") for changes in (2, 5)),
    *(("mkv", name, changes, "mp3", 0.0) for name in ("size", "sample rate", "channels") for changes in (2, 5)),
    *(("webm", name, changes, "opus", 0.0) for name in ("size", "channels") for changes in (2, 5)),
]
ENCODERS = {"aac": "aac", "mp2": "mp2", "mp3": "libmp3lame", "opus": "libopus"}


@dataclass(frozen=True)
class Decoded:
    media: DecodedMedia
    frames: np.ndarray
    times_s: np.ndarray
    sound: Sound


def decode(path: Path, folder: Path) -> Decoded:
    frames: list[np.ndarray] = []
    times: list[np.ndarray] = []
    sound: list[np.ndarray] = []
    folder.mkdir()

    def on_frames(part: np.ndarray, times_us: np.ndarray) -> None:
        frames.append(part.copy())
        times.append(times_us / 1e6)

    media = decode_media(
        probe_media(path), folder, SamplingSettings(), MediaLimits(), on_frames, lambda part: sound.append(part.copy())
    )
    return Decoded(media, np.concatenate(frames), np.concatenate(times), np.concatenate(sound))


def write_parts(folder: Path, container: str, parameter: str, count: int, codec: str, shift_s: float) -> list[Path]:
    """Write parts of 2 s with a tone in the middle and one key frame each, `shift_s` further apart than their length."""
    parts = []
    suffix = {"ts": "ts", "webm": "webm"}.get(container, "mkv")
    for number in range(count):
        size = LARGE if parameter in ("size", "everything") and number % 2 else SMALL
        sound = np.concatenate([silence(0.8), tone(880, 0.3), silence(0.9)])
        options = [*PARAMETERS[parameter][number % 2], "-c:a", ENCODERS[codec], "-g", 1000]
        if container == "ts":
            options += ["-output_ts_offset", number * (PART_S + shift_s)]
        elif container != "webm":
            options += ["-bsf:v", "dump_extra"]
        path = folder / f"{number}.{suffix}"
        encoder = VP8 if container == "webm" else (*X264, "-sc_threshold", 0)
        parts.append(
            write_film(path, plain([SEQUENCE[number]], 50, size), 25, *options, sound=[sound], encoder=encoder)
        )
    return parts


def join(parts: Sequence[Path], path: Path) -> Path:
    if path.suffix == ".ts":
        path.write_bytes(b"".join(part.read_bytes() for part in parts))
        return path
    index = path.with_suffix(".txt")
    index.write_text("".join(f"file '{part}'\n" for part in parts))
    ffmpeg("-f", "concat", "-safe", 0, "-i", index, "-c", "copy", path)
    return path


def key_frames_s(path: Path) -> list[float]:
    """Return the times of the key frames, relative to the start of the file."""
    with av.open(str(path)) as container:
        start_s = container.start_time / 1e6
        packets = container.demux(container.streams.video[0])
        times = [float(p.pts * p.time_base) - start_s for p in packets if p.is_keyframe and p.pts is not None]
    return sorted(times)


def colour_changes_s(found: Decoded) -> list[float]:
    names = list(COLOURS)
    known = np.array([COLOURS[name] for name in names], float)
    middle = found.frames[:, 12:24, 20:44].reshape(len(found.frames), -1, 3).mean(axis=1)
    nearest = np.abs(middle[:, None] - known[None]).sum(axis=2).argmin(axis=1)
    return [float(found.times_s[at]) for at in np.flatnonzero(np.diff(nearest)) + 1]


@pytest.mark.parametrize(("container", "parameter", "changes", "codec", "shift_s"), FILES)
def test_frames_and_sound_have_their_container_times(
    container: str, parameter: str, changes: int, codec: str, shift_s: float, tmp_path: Path
) -> None:
    parts = write_parts(tmp_path, container, parameter, changes + 1, codec, shift_s)
    path = join(parts, tmp_path / f"joined.{container}")
    starts = key_frames_s(path)
    assert len(starts) == changes + 1
    found = decode(path, tmp_path / "out")
    near = pytest.approx
    # If parts overlap, the later one is visible from the end of the earlier one.
    overlap_s = max(0.0, -shift_s)
    assert [at - overlap_s for at in colour_changes_s(found)] == near(starts[1:], abs=TOLERANCE_S)
    onsets = [sounding_s(read_sound(part))[0][0] for part in parts]
    delays = [onset - key_frames_s(part)[0] for onset, part in zip(onsets, parts, strict=True)]
    expected = [start + delay for start, delay in zip(starts, delays, strict=True)]
    assert [start for start, _ in sounding_s(found.sound)] == near(expected, abs=TOLERANCE_S)
    declared_s = (probe_media(path).duration_us or 0) / 1e6
    assert found.media.duration_us / 1e6 == near(declared_s, abs=TOLERANCE_S)
    assert found.times_s[-1] <= declared_s
    assert len(found.sound) / 16_000 == near(declared_s, abs=0.25)  # the last frame or sample ends first


@pytest.mark.parametrize("shift_s", [-2.0, 3600.0], ids=["starts again", "jumps an hour"])
def test_clock_jump_neither_loses_nor_adds_media(shift_s: float, tmp_path: Path) -> None:
    path = join(write_parts(tmp_path, "ts", "size", 3, "mp2", shift_s), tmp_path / "joined.ts")
    assert read_clock(probe_media(path)).jumps
    found = decode(path, tmp_path / "out")
    assert found.media.duration_us / 1e6 == pytest.approx(3 * PART_S, abs=0.3)
    assert len(sounding_s(found.sound)) == 3
    assert len(colour_changes_s(found)) == 2
    assert [warning.code for warning in found.media.warnings] == ["duration_mismatch"]
    assert not found.media.truncated


def test_clock_of_an_ordinary_recording_is_used(tmp_path: Path) -> None:
    path = join(write_parts(tmp_path, "ts", "size", 1, "aac", 0.0), tmp_path / "joined.ts")
    assert read_clock(probe_media(path)) == Clock(is_continuous=True)
