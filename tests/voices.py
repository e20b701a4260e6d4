"""Generate voice-like sound with exactly known pauses: syllables of vowels and noise bursts.

A vowel is a sum of harmonics of a falling pitch, weighted by the resonances of the vocal tract (the source-filter model
of Fant, 1960), gliding from one vowel to the next; a consonant is a short burst of noise. Silero detects it as speech.
"""

from __future__ import annotations

import shutil
import subprocess
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promptreel.schemas.media import TimeSpan

SAMPLE_RATE = 16_000

# Formants 1 to 3 in Hz of male speakers (Peterson and Barney, 1952), and a typical fourth.
_VOWELS = np.array(
    [
        (270, 2290, 3010, 3500),
        (390, 1990, 2550, 3500),
        (530, 1840, 2480, 3500),
        (660, 1720, 2410, 3500),
        (730, 1090, 2440, 3500),
        (570, 840, 2410, 3500),
        (440, 1020, 2240, 3500),
        (300, 870, 2240, 3500),
    ],
    dtype=np.float64,
)
_BANDWIDTHS = np.array([70, 100, 150, 250])
_HARMONICS = 32
_FRAME = 80  # samples (5 ms) with constant articulation
_SYLLABLES_PER_SECOND = 5.5
# Levels of voice and noise in the first frames of a syllable.
_HISS_VOICED, _HISS = np.array([0] * 8 + [0.3, 0.7]), np.concatenate([np.linspace(0.3, 1, 8), [0.1, 0.05]])
_CLICK_VOICED, _CLICK = np.array([0.25, 0.4, 0.7]), np.array([1, 1, 0.6, 0.2])

Sound = NDArray[np.float64]


@dataclass(frozen=True)
class Voice:
    """Sound with known speech spans.

    Attributes:
        samples: int16[n], 16 kHz mono.
        speech: ordered spans of speech, exact to the sample.
    """

    samples: NDArray[np.int16]
    speech: tuple[TimeSpan, ...]

    @property
    def duration_us(self) -> int:
        return len(self.samples) * 1_000_000 // SAMPLE_RATE


def draw_voice(duration_s: float, seed: int = 1, pauses_s: tuple[float, float] = (0.4, 1.5)) -> Voice:
    """Generate at least `duration_s` of utterances of 1 to 4 s.

    Pauses before, between and after them have random lengths from the range `pauses_s`.
    """
    rng = np.random.default_rng(seed)
    utterances: list[Sound] = []
    while sum(map(len, utterances)) < duration_s * SAMPLE_RATE:
        utterances.append(draw_utterance(rng, rng.uniform(1, 4)))
        utterances[-1] *= rng.uniform(0.1, 0.5)
    return join_utterances(utterances, rng.uniform(*pauses_s, len(utterances) + 1).tolist())


def speak(folder: Path, sentences: Sequence[str], pauses_s: Sequence[float]) -> Voice | None:
    """Speak sentences with espeak-ng, with pauses before, between and after them (one more than sentences).

    Silence at the start and end of each sentence is removed. Returns None if espeak-ng is not installed.
    """
    program = shutil.which("espeak-ng")
    if program is None:
        return None
    utterances = []
    for number, sentence in enumerate(sentences):
        path = folder / f"{number}.wav"
        subprocess.run([program, "-v", "en", "-s", "160", "-w", str(path), sentence], check=True, timeout=30)
        with wave.open(str(path)) as file:
            rate = file.getframerate()
            read = np.frombuffer(file.readframes(file.getnframes()), np.int16) / 32768
        times = np.arange(int(len(read) * SAMPLE_RATE / rate)) * rate / SAMPLE_RATE
        sound = np.interp(times, np.arange(len(read)), read)
        loud = np.flatnonzero(np.abs(sound) > 0.01)
        utterances.append(sound[loud[0] : loud[-1] + 1])
    return join_utterances(utterances, pauses_s)


def join_utterances(utterances: Sequence[Sound], pauses_s: Sequence[float]) -> Voice:
    """Join utterances with silence before, between and after them."""
    parts: list[Sound] = []
    speech = []
    at = 0
    for pause_s, utterance in zip(pauses_s, utterances, strict=False):
        quiet = round(pause_s * SAMPLE_RATE)
        parts += [np.zeros(quiet), utterance]
        speech.append(TimeSpan(_to_us(at + quiet), _to_us(at + quiet + len(utterance))))
        at += quiet + len(utterance)
    parts.append(np.zeros(round(pauses_s[-1] * SAMPLE_RATE)))
    return Voice(to_samples(np.concatenate(parts)), tuple(speech))


def draw_utterance(rng: np.random.Generator, duration_s: float) -> Sound:
    """Generate syllables without pauses and with falling pitch: float64[n] in -1..1.

    Each consonant is at random a hiss (as in "see") or a click (as in "tea").
    """
    count = max(2, round(duration_s * _SYLLABLES_PER_SECOND))
    lengths = rng.uniform(0.7, 1.3, count)
    frames = np.maximum(14, np.round(lengths / lengths.sum() * duration_s * SAMPLE_RATE / _FRAME)).astype(int)
    vowels = _VOWELS[rng.integers(0, len(_VOWELS), count + 1)]
    formants, voiced, noise = [], [], []
    for one, two, length in zip(vowels, vowels[1:], frames.tolist(), strict=False):
        glide = np.clip((np.arange(length) / length - 0.5) / 0.5, 0, 1)[:, None]
        formants.append(one + (two - one) * glide)
        onset, burst = (_HISS_VOICED, _HISS) if rng.random() < 0.5 else (_CLICK_VOICED, _CLICK)
        voiced.append(np.concatenate([onset, np.ones(length - len(onset) - 2), [0.8, 0.5]]))
        noise.append(np.concatenate([rng.uniform(0.1, 0.35) * burst, np.zeros(length - len(burst))]))
    total = int(frames.sum())
    wander = np.cumsum(rng.normal(0, 1, total))
    wander = 0.12 * wander / np.abs(wander).max()
    pitch = rng.uniform(95, 180) * (np.linspace(1.15, 0.85, total) + wander)
    sound = _sum_harmonics(pitch, np.concatenate(formants)) * _per_sample(np.concatenate(voiced))
    hiss = np.diff(rng.normal(0, 0.5, len(sound) + 1)) * _per_sample(np.concatenate(noise))
    mixed = sound / np.abs(sound).max() + hiss
    edge = np.arange(len(mixed)) / (0.02 * SAMPLE_RATE)
    return mixed / np.abs(mixed).max() * np.minimum(1, np.minimum(edge, edge[::-1]))


def pink_noise(rng: np.random.Generator, count: int, level_dbfs: float) -> Sound:
    """Return pink noise (-3 dB per octave) at an RMS level in dBFS: float64[count]."""
    spectrum = np.fft.rfft(rng.normal(0, 1, count))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    noise = np.fft.irfft(spectrum, count)
    return np.asarray(noise * (10 ** (level_dbfs / 20) / np.sqrt(np.mean(noise**2))))


def to_samples(sound: Sound) -> NDArray[np.int16]:
    """Convert sound in -1..1 to int16, clipped."""
    return np.round(np.clip(sound, -1, 1) * 32767).astype(np.int16)


def time_f1(found: Sequence[TimeSpan], known: Sequence[TimeSpan], duration_us: int) -> float:
    """Return F1 over milliseconds, each of which is speech or not in both."""
    one, two = (_mask(spans, duration_us) for spans in (found, known))
    return float(2 * np.sum(one & two) / max(1, np.sum(one) + np.sum(two)))


def _mask(spans: Sequence[TimeSpan], duration_us: int) -> NDArray[np.bool_]:
    mask = np.zeros(duration_us // 1000 + 1, np.bool_)
    for span in spans:
        mask[span.start_us // 1000 : span.end_us // 1000] = True
    return mask


def _sum_harmonics(pitch_hz: Sound, formants_hz: Sound) -> Sound:
    """Filter harmonics of pitch float64[k] with resonators float64[k, 4], one value per frame: float64[k * _FRAME]."""
    phase = 2 * np.pi * np.cumsum(_per_sample(pitch_hz)) / SAMPLE_RATE
    sound = np.zeros(len(phase))
    for number in range(1, _HARMONICS + 1):
        hertz = pitch_hz[:, None] * number
        # gain of a two-pole resonator at each frequency, 1 at 0 Hz
        gain = formants_hz**2 / np.hypot(formants_hz**2 - hertz**2, hertz * _BANDWIDTHS)
        # the glottal pulse falls by 12 dB per octave, and lip radiation adds 6 dB
        level = np.where(hertz[:, 0] < SAMPLE_RATE / 2, gain.prod(axis=1) / number, 0.0)
        sound += _per_sample(level) * np.sin(number * phase)
    return sound


def _per_sample(per_frame: Sound) -> Sound:
    at = np.arange(len(per_frame) * _FRAME) / _FRAME
    return np.interp(at, np.arange(len(per_frame)) + 0.5, per_frame)


def _to_us(samples: int) -> int:
    return samples * 1_000_000 // SAMPLE_RATE
