"""Where an item is heard: speech where a speech detector is installed and finds some, else sound above the floor.

Samples are streamed through in blocks; nothing grows with the length of the item but one number for each window.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from schemas.media import SoundActivity, TimeSpan

SAMPLE_RATE: Final = 16_000
# The window of the Silero model at 16 kHz, and the samples of the window before that it is given as context.
WINDOW_SAMPLES: Final = 512
_CONTEXT_SAMPLES: Final = 64
_STATE_SHAPE: Final = (1, 1, 128)
_BLOCK_WINDOWS: Final = 256  # windows (8 s) given to the model at once

LOUDNESS_WINDOW_SAMPLES: Final = SAMPLE_RATE // 10
SILENCE_DBFS: Final = -120.0  # what digital silence is reported as; 16 bits reach down to -96

# Sound is louder than this even in a quiet recording; below it lies the hiss of good microphones.
_LEAST_LEVEL_DBFS: Final = -60.0
_FLOOR_PERCENTILE: Final = 10
_TOP_PERCENTILE: Final = 95
_LEVEL_SHARE: Final = 0.4  # the threshold lies this far up from the floor to the loud parts, in decibels
_STEADY_DB: Final = 6.0  # sound whose floor and top are nearer than this has no pauses


@dataclass(frozen=True, slots=True)
class SpeechSettings:
    """Thresholds of the speech detector.

    Attributes:
        threshold, release: probability at which speech begins, and below which it may end (Silero's own defaults).
        min_silence_us: a shorter gap does not end a stretch of speech. 300 ms separates utterances; the detector's
            customary 2 s would merge sentences.
        pad_us: each stretch is widened by this on both sides, for soft onsets.
    """

    threshold: float = 0.5
    release: float = 0.35
    min_silence_us: int = 300_000
    pad_us: int = 30_000


def detector_name() -> Literal["silero", "level"]:
    """The detector that this installation has: part of an analysis' key."""
    return "silero" if _model_file() is not None else "level"


class ActivityDetector:
    """Finds the spans of speech, or of sound, in a stream of 16 kHz mono samples."""

    def __init__(self, settings: SpeechSettings | None = None) -> None:
        self._settings = settings or SpeechSettings()
        self._speech = _SpeechProbability() if _model_file() is not None else None
        self._levels = _Levels(WINDOW_SAMPLES)
        self._loudness = _Levels(LOUDNESS_WINDOW_SAMPLES)
        self._samples = 0

    def add(self, samples: NDArray[np.int16]) -> None:
        """Adds int16[m] samples; blocks may have any size."""
        self._samples += len(samples)
        scaled = samples.astype(np.float32) / 32768
        self._levels.add(scaled)
        self._loudness.add(scaled)
        if self._speech is not None:
            self._speech.add(scaled)

    def finish(self) -> SoundActivity:
        """What was heard. Where the speech detector finds nothing, pauses in other sound are looked for."""
        if self._samples == 0:
            return SoundActivity("none")
        duration_us = self._samples * 1_000_000 // SAMPLE_RATE
        if self._speech is not None:
            spans = speech_spans(self._speech.finish(), duration_us, self._settings)
            if spans:
                return SoundActivity("silero", spans)
        return SoundActivity("level", level_spans(self._levels.finish(), duration_us, self._settings))

    def loudness(self) -> NDArray[np.float32]:
        """float32[n], RMS level in dBFS of each tenth of a second; call it after `finish`."""
        return self._loudness.finish()


def speech_spans(probability: NDArray[np.float32], duration_us: int, settings: SpeechSettings) -> tuple[TimeSpan, ...]:
    """Stretches of speech from the probability of each window, with hysteresis as in Silero's reference code."""
    spans: list[tuple[int, int]] = []
    start = quiet = -1
    gap = settings.min_silence_us
    for index, value in enumerate(probability):
        at = _window_us(index)
        if value >= settings.threshold:
            quiet = -1
            if start < 0:
                start = at
        elif value < settings.release and start >= 0:
            if quiet < 0:
                quiet = at
            if at - quiet >= gap:
                spans.append((start, quiet))
                start = quiet = -1
    if start >= 0:
        spans.append((start, duration_us))
    return _padded(spans, duration_us, settings.pad_us)


def level_spans(levels_dbfs: NDArray[np.float32], duration_us: int, settings: SpeechSettings) -> tuple[TimeSpan, ...]:
    """Stretches of sound that stand above the item's own floor; one for steady sound, none for silence."""
    if len(levels_dbfs) == 0:
        return ()
    floor, top = np.percentile(levels_dbfs, [_FLOOR_PERCENTILE, _TOP_PERCENTILE])
    if top < _LEAST_LEVEL_DBFS:
        return ()
    floor = max(floor, _LEAST_LEVEL_DBFS - 20)
    threshold = max(floor + _LEVEL_SHARE * (top - floor), _LEAST_LEVEL_DBFS)
    if top - floor < _STEADY_DB:
        return (TimeSpan(0, duration_us),)
    loud = np.flatnonzero(levels_dbfs >= threshold)
    spans: list[tuple[int, int]] = []
    for index in loud.tolist():
        start, end = _window_us(index), min(duration_us, _window_us(index + 1))
        if spans and start - spans[-1][1] < settings.min_silence_us:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return _padded(spans, duration_us, settings.pad_us)


def _padded(spans: Sequence[tuple[int, int]], duration_us: int, pad_us: int) -> tuple[TimeSpan, ...]:
    """Widens spans on both sides; a gap narrower than both pads is shared in the middle."""
    result = []
    for index, (start, end) in enumerate(spans):
        before = spans[index - 1][1] if index else 0
        after = spans[index + 1][0] if index + 1 < len(spans) else duration_us
        lead = min(pad_us, (start - before) // 2 if index else start)
        tail = min(pad_us, (after - end) // 2 if index + 1 < len(spans) else after - end)
        if start - lead < end + tail:
            result.append(TimeSpan(start - lead, end + tail))
    return tuple(result)


def _window_us(index: int) -> int:
    return index * WINDOW_SAMPLES * 1_000_000 // SAMPLE_RATE


class _Levels:
    """RMS level of consecutive windows, in dB relative to full scale; a last part of a window counts as one."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._rest = np.zeros(0, np.float32)
        self._parts: list[NDArray[np.float32]] = []

    def add(self, samples: NDArray[np.float32]) -> None:
        joined = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        whole = len(joined) // self._window * self._window
        self._rest = joined[whole:].copy()
        if whole:
            self._parts.append(_decibels(np.mean(joined[:whole].reshape(-1, self._window) ** 2, axis=1)))

    def finish(self) -> NDArray[np.float32]:
        parts = [*self._parts]
        if len(self._rest):
            parts.append(_decibels(np.mean(self._rest**2, keepdims=True)))
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _decibels(power: NDArray[Any]) -> NDArray[np.float32]:
    return (10 * np.log10(np.maximum(power, 10 ** (SILENCE_DBFS / 10)))).astype(np.float32)


class _SpeechProbability:
    """The Silero model over a stream, its state carried from block to block, so that the result is that of one run."""

    def __init__(self) -> None:
        self._session = _session()
        self._h = np.zeros(_STATE_SHAPE, np.float32)
        self._c = np.zeros(_STATE_SHAPE, np.float32)
        self._context = np.zeros(_CONTEXT_SAMPLES, np.float32)
        self._waiting: list[NDArray[np.float32]] = []
        self._waiting_samples = 0
        self._parts: list[NDArray[np.float32]] = []

    def add(self, samples: NDArray[np.float32]) -> None:
        self._waiting.append(samples)
        self._waiting_samples += len(samples)
        if self._waiting_samples >= _BLOCK_WINDOWS * WINDOW_SAMPLES:
            self._run()

    def finish(self) -> NDArray[np.float32]:
        missing = -self._waiting_samples % WINDOW_SAMPLES
        self.add(np.zeros(missing, np.float32))
        self._run()
        return np.concatenate(self._parts) if self._parts else np.zeros(0, np.float32)

    def _run(self) -> None:
        joined = np.concatenate(self._waiting) if self._waiting else np.zeros(0, np.float32)
        count = len(joined) // WINDOW_SAMPLES
        for first in range(0, count, _BLOCK_WINDOWS):
            block = joined[first * WINDOW_SAMPLES : min(count, first + _BLOCK_WINDOWS) * WINDOW_SAMPLES]
            windows = block.reshape(-1, WINDOW_SAMPLES)
            context = np.concatenate([self._context[None], windows[:-1, -_CONTEXT_SAMPLES:]])
            feed = {"input": np.concatenate([context, windows], axis=1), "h": self._h, "c": self._c}
            output, self._h, self._c = self._session.run(None, feed)
            self._parts.append(output.reshape(-1).astype(np.float32))
            self._context = windows[-1, -_CONTEXT_SAMPLES:].copy()
        rest = joined[count * WINDOW_SAMPLES :]
        self._waiting, self._waiting_samples = ([rest.copy()] if len(rest) else []), len(rest)


@functools.cache
def _model_file() -> Path | None:
    """The Silero model that faster-whisper carries; None where it or onnxruntime is not installed."""
    package = importlib.util.find_spec("faster_whisper")
    if package is None or package.origin is None or importlib.util.find_spec("onnxruntime") is None:
        return None
    found = sorted((Path(package.origin).parent / "assets").glob("silero_vad*.onnx"))
    return found[-1] if found else None


@functools.cache
def _session() -> Any:
    """One ONNX session on one thread, shared by the process."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(_model_file()), options, providers=["CPUExecutionProvider"])
