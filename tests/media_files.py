"""Write media files with known content, and read files independently of the product.

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
# Distinct enough to survive lossy codecs.
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
    """Return `frames_each` pictures of each named colour; size is (width, height)."""
    stills = np.array([COLOURS[name] for name in names], np.uint8)[:, None, None]
    return np.repeat(np.broadcast_to(stills, (len(names), size[1], size[0], 3)), frames_each, axis=0)


def halves(top: str, bottom: str, size: tuple[int, int]) -> Pictures:
    """Return one picture with a top and a bottom colour."""
    return np.concatenate([plain([name], 1, (size[0], size[1] // 2)) for name in (top, bottom)], axis=1)


def textured(shots: int, frames_each: int, size: tuple[int, int] = (320, 180), seed: int = 1) -> Pictures:
    """Return shots of smooth random texture that drifts, so that encoders use motion prediction."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(shots):
        coarse = rng.uniform(10, 245, (size[1] // 20 + 1, size[0] // 20 + 2 + frames_each // 20, 3))
        wide = np.kron(coarse, np.ones((20, 20, 1)))
        frames += [wide[: size[1], at : at + size[0]] for at in range(frames_each)]
    return np.stack(frames).astype(np.uint8)


def tone(hertz: float, seconds: float, level: float = 0.5) -> Sound:
    """Return a sine tone."""
    times = np.arange(round(seconds * RATE)) / RATE
    return np.asarray(np.sin(2 * np.pi * hertz * times) * level * 32767, np.int16)


def silence(seconds: float) -> Sound:
    return np.zeros(round(seconds * RATE), np.int16)


def ffmpeg(*arguments: object, stdin: bytes | None = None) -> bytes:
    """Run ffmpeg and return its standard output.

    Raises:
        AssertionError: ffmpeg failed; with its error output.
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
    """Write pictures and sound tracks to a file; the suffix selects the format, options are ffmpeg output options."""
    with tempfile.TemporaryDirectory() as scratch:
        inputs: list[object] = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{pictures.shape[2]}x{pictures.shape[1]}"]
        inputs += ["-r", rate, "-i", "-"]
        for number, samples in enumerate(sound):
            inputs += ["-i", write_wave(Path(scratch) / f"{number}.wav", samples)]
        maps = itertools.chain.from_iterable(("-map", number) for number in range(len(sound) + 1))
        ffmpeg(*inputs, *maps, *encoder, *options, path, stdin=np.ascontiguousarray(pictures).tobytes())
    return path


def write_changing_film(path: Path, *parts: tuple[float, Pictures, Sound, Sequence[object]]) -> Path:
    """Write an MPEG transport stream whose parameters change, as in TV recordings: separately encoded, joined parts.

    Args:
        parts: (start time in seconds, pictures at 25 frames per second, sound, ffmpeg options) of each part.
    """
    with tempfile.TemporaryDirectory() as scratch, path.open("wb") as joined:
        for start_s, pictures, sound, options in parts:
            part = Path(scratch) / "part.ts"
            write_film(part, pictures, 25, *options, "-output_ts_offset", start_s, sound=[sound])
            joined.write(part.read_bytes())
    return path


def write_sound(path: Path, samples: Sound, *options: object) -> Path:
    """Write a sound file; the suffix selects the format."""
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
    """Write one picture uint8[1, h, w, 3] (or an animation of several); the suffix selects the format."""
    size = f"{picture.shape[2]}x{picture.shape[1]}"
    source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", 5, "-i", "-")
    ffmpeg(*source, *options, path, stdin=np.ascontiguousarray(picture).tobytes())
    return path


def read_pictures(path: Path, size: tuple[int, int]) -> Pictures:
    """Return all pictures of a file with the given (width, height)."""
    raw = ffmpeg("-i", path, "-map", "0:v", "-f", "rawvideo", "-pix_fmt", "rgb24", "-fps_mode", "passthrough", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, size[1], size[0], 3)


def read_sound(path: Path) -> Sound:
    """Return the sound of a file as 16 kHz mono."""
    raw = ffmpeg("-i", path, "-map", "0:a:0", "-f", "s16le", "-ac", 1, "-ar", RATE, "-")
    return np.frombuffer(raw, "<i2")


def colour_of(picture: Pictures) -> str:
    """Return the name of the colour nearest to the centre of a picture."""
    height, width = picture.shape[:2]
    middle = picture[height // 4 : height - height // 4, width // 4 : width - width // 4].reshape(-1, 3).mean(axis=0)
    return min(COLOURS, key=lambda name: float(np.abs(middle - np.array(COLOURS[name])).sum()))


def sounding_s(samples: Sound) -> list[tuple[float, float]]:
    """Return (start, end) in seconds of the non-silent spans, to 10 ms; pauses shorter than 0.1 s are ignored."""
    step = RATE // 100
    levels = np.abs(samples[: len(samples) // step * step].astype(np.int32)).reshape(-1, step).max(axis=1)
    loud = np.flatnonzero(levels > 1000)
    if not len(loud):
        return []
    ends = np.flatnonzero(np.diff(loud) > 10)
    starts = loud[[0, *(ends + 1)]]
    return [(start / 100, (end + 1) / 100) for start, end in zip(starts, loud[[*ends, -1]], strict=True)]


def loudest_hertz(samples: Sound) -> float:
    """Return the frequency with the highest power."""
    spectrum = np.abs(np.fft.rfft(samples.astype(np.float64) * np.hanning(len(samples))))
    return float(np.argmax(spectrum[1:]) + 1) * RATE / len(samples)
