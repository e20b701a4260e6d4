"""Generate a short sample film: moving shots, hard cuts, a cross-fade, captions, and audio with pauses."""

from __future__ import annotations

import subprocess
import tempfile
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from promptreel.media.ffmpeg import find_ffmpeg

WIDTH, HEIGHT, RATE = 640, 360, 24
_SAMPLE_RATE: Final = 16_000

# (caption, seconds, two colours as RGB)
_SHOTS: Final = (
    ("HARBOUR AT DAWN", 5.0, ((230, 150, 90), (40, 60, 110))),
    ("A RED VAN ARRIVES", 4.5, ((200, 205, 210), (90, 100, 105))),
    ("THE CRATES ARE LIFTED", 6.0, ((70, 130, 90), (20, 40, 30))),
    ("NIGHT SHIFT", 5.5, ((25, 25, 60), (90, 40, 110))),
    ("THE END OF THE LINE", 5.0, ((235, 225, 180), (150, 110, 60))),
)
_BOXES: Final = ((190, 30, 30), (20, 90, 190), (240, 200, 40))
_CROSS_FADE_S: Final = 1.0  # between the third shot and the fourth
_FADE_OUT_S: Final = 1.5

CUT_TIMES_S: Final = (5.0, 9.5, 21.0)
CROSS_FADE_S: Final = (14.5, 15.5)
DURATION_S: Final = 25.0
# (start, end) of each span of sound, in seconds.
SOUND_S: Final = ((0.4, 4.5), (5.3, 9.1), (10.1, 14.3), (15.8, 20.6), (21.5, 23.6))

# 5x7 bitmap font: one 5-bit number per row, from the top.
_LETTERS: Final[dict[str, tuple[int, ...]]] = {
    " ": (0, 0, 0, 0, 0, 0, 0),
    "A": (14, 17, 17, 31, 17, 17, 17),
    "B": (30, 17, 17, 30, 17, 17, 30),
    "C": (14, 17, 16, 16, 16, 17, 14),
    "D": (30, 17, 17, 17, 17, 17, 30),
    "E": (31, 16, 16, 30, 16, 16, 31),
    "F": (31, 16, 16, 30, 16, 16, 16),
    "G": (14, 17, 16, 23, 17, 17, 15),
    "H": (17, 17, 17, 31, 17, 17, 17),
    "I": (14, 4, 4, 4, 4, 4, 14),
    "L": (16, 16, 16, 16, 16, 16, 31),
    "N": (17, 25, 21, 19, 17, 17, 17),
    "O": (14, 17, 17, 17, 17, 17, 14),
    "R": (30, 17, 17, 30, 20, 18, 17),
    "S": (15, 16, 16, 14, 1, 1, 30),
    "T": (31, 4, 4, 4, 4, 4, 4),
    "U": (17, 17, 17, 17, 17, 17, 14),
    "V": (17, 17, 17, 17, 17, 10, 4),
    "W": (17, 17, 17, 21, 21, 27, 17),
}


def make_sample_film(path: Path) -> None:
    """Write the film as an MP4 (H.264 and AAC) of `DURATION_S`. The same ffmpeg always writes the same bytes.

    Raises:
        MediaError: no usable ffmpeg was found.
        OSError: the file cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="promptreel-film-") as scratch:
        sound = Path(scratch) / "sound.wav"
        _write_wave(sound, _sound())
        unfinished = path.with_name(f".{path.name}.part")
        command = [find_ffmpeg().path, "-nostdin", "-loglevel", "error", "-y"]
        command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(RATE), "-i", "-"]
        command += ["-i", str(sound), "-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-pix_fmt", "yuv420p"]
        command += ["-c:a", "aac", "-b:a", "64k", "-movflags", "+faststart", "-fflags", "+bitexact", "-f", "mp4"]
        with subprocess.Popen([*command, str(unfinished)], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stderr is not None
            try:
                for frame in _frames():
                    process.stdin.write(frame.data)
                process.stdin.close()
            except BrokenPipeError:
                pass
            message = process.stderr.read().decode("utf-8", "replace").strip()
        if process.returncode != 0:
            raise OSError(f"ffmpeg cannot write {path}: {message}")
        unfinished.replace(path)


def _frames() -> Iterator[NDArray[np.uint8]]:
    """Yield all frames of the film as uint8[360, 640, 3] RGB."""
    starts = np.cumsum([0.0, *(seconds for _, seconds, _ in _SHOTS)])
    captions = [_caption(text) for text, _, _ in _SHOTS]
    palettes = [_palette(*colours) for _, _, colours in _SHOTS]

    def picture_of(shot: int) -> NDArray[np.uint8]:
        return _shot_picture(shot, time_s - starts[shot], palettes[shot], captions[shot])

    for number in range(round(DURATION_S * RATE)):
        time_s = number / RATE
        picture = picture_of(int(np.searchsorted(starts, time_s + 1e-9, side="right")) - 1)
        into_fade = time_s - CROSS_FADE_S[0]
        if 0 <= into_fade < _CROSS_FADE_S:
            share = np.float32(into_fade / _CROSS_FADE_S)
            picture = np.asarray((1 - share) * picture_of(2) + share * picture_of(3), np.uint8)
        left_s = DURATION_S - time_s
        if left_s < _FADE_OUT_S:
            picture = np.asarray(picture * np.float32(left_s / _FADE_OUT_S), np.uint8)
        yield picture


def _shot_picture(
    shot: int, time_s: float, palette: NDArray[np.uint8], caption: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Return one frame: a two-colour background with drifting texture, a moving box, and the caption."""
    y, x = np.arange(HEIGHT, dtype=np.float32), np.arange(WIDTH, dtype=np.float32)
    # The texture is 0.18 sin(along + down) cos(...). sin(along + down) expands to products of a row and a column, so the
    # whole picture is one small matrix product.
    along = (x + np.float32(time_s * (18 + 7 * shot))) / (23 + 9 * shot)
    down, strength = 1.3 * np.sin(y / 31), 0.18 * np.cos(y / (17 + 5 * shot))
    columns = np.stack([y / HEIGHT, strength * np.cos(down), strength * np.sin(down)], axis=1)
    share = columns @ np.stack([np.ones(WIDTH, np.float32), np.sin(along), np.cos(along)])
    picture: NDArray[np.uint8] = palette.take(np.clip(share * 255, 0, 255).astype(np.uint8), axis=0)
    across = (60 + time_s * 90) % (WIDTH + 120) - 60
    centre_y = HEIGHT * (0.35 + 0.1 * shot % 0.4) + 25 * np.sin(time_s * 2 + shot)
    left, top = max(0, round(across) - 50), round(centre_y) - 26 - 6 * shot
    picture[top : round(centre_y) + 26 + 6 * shot, left : max(0, round(across) + 50)] = _BOXES[shot % 3]
    rows, width = caption.shape
    top, left = HEIGHT - rows - 14, (WIDTH - width) // 2
    picture[top - 6 : top + rows + 6, left - 10 : left + width + 10] //= 4
    picture[top : top + rows, left : left + width][caption] = 250
    return picture


def _palette(light: tuple[int, int, int], dark: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return a gradient from the light colour to the dark one, uint8[256, 3]."""
    share = np.linspace(0, 1, 256)[:, None]
    return np.asarray(np.array(light) * (1 - share) + np.array(dark) * share, np.uint8)


def _caption(text: str, scale: int = 3) -> NDArray[np.bool_]:
    """Render the text as a mask; each font pixel is `scale` pixels wide and high."""
    columns = []
    for letter in text:
        rows = np.array([[bool(row >> (4 - bit) & 1) for bit in range(5)] for row in _LETTERS[letter]])
        columns += [rows, np.zeros((7, 1), bool)]
    return np.kron(np.concatenate(columns, axis=1), np.ones((scale, scale), bool))


def _sound() -> NDArray[np.int16]:
    """Return int16[n] samples at 16 kHz: a voice-like hum of vowels and syllables, silent between the spans."""
    samples = np.zeros(round(DURATION_S * _SAMPLE_RATE), np.float64)
    for number, (start_s, end_s) in enumerate(SOUND_S):
        time_s = np.arange(round((end_s - start_s) * _SAMPLE_RATE)) / _SAMPLE_RATE
        pitch = 115 + 14 * number + 12 * np.sin(2 * np.pi * 0.7 * time_s)
        phase = 2 * np.pi * np.cumsum(pitch) / _SAMPLE_RATE
        formants = (500 + 200 * np.sin(2 * np.pi * 1.9 * time_s), 1500 + 500 * np.sin(2 * np.pi * 1.3 * time_s + 1))
        hum = np.zeros_like(time_s)
        for harmonic in range(1, 25):
            loudness = sum(np.exp(-(((harmonic * pitch - formant) / 180) ** 2)) for formant in formants)
            hum += loudness * np.sin(harmonic * phase)
        syllables = np.clip(0.55 + 0.6 * np.sin(2 * np.pi * 4.2 * time_s), 0.15, 1)
        edges = np.clip(np.minimum(time_s, time_s[-1] - time_s) / 0.03, 0, 1)
        first = round(start_s * _SAMPLE_RATE)
        samples[first : first + len(time_s)] = hum * syllables * edges
    return np.asarray(samples / np.abs(samples).max() * 12_000, np.int16)


def _write_wave(path: Path, samples: NDArray[np.int16]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_SAMPLE_RATE)
        file.writeframes(samples.astype("<i2").tobytes())
