"""Makers of media files whose content is known, and readers that look at a file another way than the product does.

Pictures are uint8[n, h, w, 3] RGB, sound is int16[m] mono; both are written and read with the product's ffmpeg.
"""

from __future__ import annotations

import itertools
import subprocess
import tempfile
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promptreel.media.ffmpeg import find_ffmpeg

Pictures = NDArray[np.uint8]
Sound = NDArray[np.int16]

RATE = 16_000
# Far enough apart that no codec confuses them.
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 40),
    "blue": (30, 40, 220),
    "yellow": (230, 220, 40),
    "white": (240, 240, 240),
    "black": (16, 16, 16),
}
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p")


def plain(names: Sequence[str], frames_each: int, size: tuple[int, int] = (160, 90)) -> Pictures:
    """`frames_each` pictures of each named colour; size is (width, height)."""
    stills = np.array([COLOURS[name] for name in names], np.uint8)[:, None, None]
    return np.repeat(np.broadcast_to(stills, (len(names), size[1], size[0], 3)), frames_each, axis=0)


def halves(top: str, bottom: str, size: tuple[int, int]) -> Pictures:
    """One picture of two colours, one above the other."""
    return np.concatenate([plain([name], 1, (size[0], size[1] // 2)) for name in (top, bottom)], axis=1)


def textured(shots: int, frames_each: int, size: tuple[int, int] = (320, 180), seed: int = 1) -> Pictures:
    """Shots of smooth random texture that drifts, so that an encoder has something to predict."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(shots):
        coarse = rng.uniform(10, 245, (size[1] // 20 + 1, size[0] // 20 + 2 + frames_each // 20, 3))
        wide = np.kron(coarse, np.ones((20, 20, 1)))
        made += [wide[: size[1], at : at + size[0]] for at in range(frames_each)]
    return np.stack(made).astype(np.uint8)


def tone(hertz: float, seconds: float, level: float = 0.5) -> Sound:
    """A sine of so many seconds."""
    times = np.arange(round(seconds * RATE)) / RATE
    return np.asarray(np.sin(2 * np.pi * hertz * times) * level * 32767, np.int16)


def silence(seconds: float) -> Sound:
    return np.zeros(round(seconds * RATE), np.int16)


def ffmpeg(*arguments: object, stdin: bytes | None = None) -> bytes:
    """Runs ffmpeg and returns what it writes to standard output.

    Raises:
        AssertionError: it failed; with its message.
    """
    command = [find_ffmpeg().path, "-nostdin", "-hide_banner", "-loglevel", "error", "-y", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr.decode('utf-8', 'replace')}"
    return done.stdout


def write_film(
    path: Path,
    pictures: Pictures,
    rate: float,
    *options: object,
    sound: Sequence[Sound] = (),
    encoder: Sequence[str] = X264,
) -> Path:
    """Writes pictures and sound tracks to a file whose kind its suffix says; options are ffmpeg's, for the output."""
    with tempfile.TemporaryDirectory() as scratch:
        inputs: list[object] = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{pictures.shape[2]}x{pictures.shape[1]}"]
        inputs += ["-r", rate, "-i", "-"]
        for number, samples in enumerate(sound):
            inputs += ["-i", write_wave(Path(scratch) / f"{number}.wav", samples)]
        maps = itertools.chain.from_iterable(("-map", number) for number in range(len(sound) + 1))
        ffmpeg(*inputs, *maps, *encoder, *options, path, stdin=np.ascontiguousarray(pictures).tobytes())
    return path


def write_changing_film(path: Path, *parts: tuple[float, Pictures, Sound, Sequence[object]]) -> Path:
    """Writes an MPEG transport stream whose parameters change on the way: parts, one behind the other, that were encoded
    apart, as recordings of television have them.

    Args:
        parts: (time in seconds at which the part begins, pictures at 25 a second, sound, ffmpeg's options).
    """
    with tempfile.TemporaryDirectory() as scratch, path.open("wb") as joined:
        for start_s, pictures, sound, options in parts:
            part = Path(scratch) / "part.ts"
            write_film(part, pictures, 25, *options, "-output_ts_offset", start_s, sound=[sound])
            joined.write(part.read_bytes())
    return path


def write_sound(path: Path, samples: Sound, *options: object) -> Path:
    """Writes a sound file whose kind its suffix says."""
    with tempfile.TemporaryDirectory() as scratch:
        ffmpeg("-i", write_wave(Path(scratch) / "sound.wav", samples), *options, path)
    return path


def write_wave(path: Path, samples: Sound) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def write_image(path: Path, picture: Pictures, *options: object) -> Path:
    """Writes one picture uint8[1, h, w, 3] (or an animation of several) in the format that the suffix says."""
    size = f"{picture.shape[2]}x{picture.shape[1]}"
    source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", 5, "-i", "-")
    ffmpeg(*source, *options, path, stdin=np.ascontiguousarray(picture).tobytes())
    return path


def read_pictures(path: Path, size: tuple[int, int]) -> Pictures:
    """Every picture of a file, which must be of (width, height) `size`."""
    raw = ffmpeg("-i", path, "-map", "0:v", "-f", "rawvideo", "-pix_fmt", "rgb24", "-fps_mode", "passthrough", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, size[1], size[0], 3)


def read_sound(path: Path) -> Sound:
    """The sound of a file, 16 kHz mono."""
    raw = ffmpeg("-i", path, "-map", "0:a:0", "-f", "s16le", "-ac", 1, "-ar", RATE, "-")
    return np.frombuffer(raw, "<i2")


def colour_of(picture: Pictures) -> str:
    """The name of the colour nearest to the middle of a picture."""
    height, width = picture.shape[:2]
    middle = picture[height // 4 : height - height // 4, width // 4 : width - width // 4].reshape(-1, 3).mean(axis=0)
    return min(COLOURS, key=lambda name: float(np.abs(middle - np.array(COLOURS[name])).sum()))


def sounding_s(samples: Sound) -> list[tuple[float, float]]:
    """(start, end) in seconds of what is louder than silence, to 10 ms; pauses shorter than 0.1 s are none."""
    step = RATE // 100
    levels = np.abs(samples[: len(samples) // step * step].astype(np.int32)).reshape(-1, step).max(axis=1)
    loud = np.flatnonzero(levels > 1000)
    if not len(loud):
        return []
    ends = np.flatnonzero(np.diff(loud) > 10)
    starts = loud[[0, *(ends + 1)]]
    return [(start / 100, (end + 1) / 100) for start, end in zip(starts, loud[[*ends, -1]], strict=True)]


def loudest_hertz(samples: Sound) -> float:
    """The frequency with most power."""
    spectrum = np.abs(np.fft.rfft(samples.astype(np.float64) * np.hanning(len(samples))))
    return float(np.argmax(spectrum[1:]) + 1) * RATE / len(samples)
