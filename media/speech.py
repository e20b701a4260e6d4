"""Detect sound activity: speech if a speech detector is installed and finds any, otherwise loud sound.

Samples are streamed in blocks. Memory grows by one number per window, about 0.9 MB per hour of audio.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from promptreel.schemas.errors import SettingsError
from promptreel.schemas.media import SoundActivity, TimeSpan
from promptreel.schemas.mediatime import US_PER_SECOND

__all__ = [
    "LOUDNESS_WINDOW_SAMPLES",
    "SAMPLE_RATE",
    "SILENCE_DBFS",
    "WINDOW_SAMPLES",
    "ActivityDetector",
    "SpeechSettings",
    "detector_name",
    "level_spans",
    "pauses",
    "speech_spans",
]

SAMPLE_RATE: Final = 16_000
# Window of the Silero model at 16 kHz, samples of the previous window that it expects as context, and shape of its
# recurrent state (faster_whisper/vad.py, `SileroVADModel.__call__`).
WINDOW_SAMPLES: Final = 512
_CONTEXT_SAMPLES: Final = 64
_STATE_SHAPE: Final = (1, 1, 128)

_BLOCK_SAMPLES: Final = 256 * WINDOW_SAMPLES  # 8 s per inference call; larger blocks are no faster
_MAX_PARTS: Final = 1024  # parts are concatenated beyond this, so that small blocks do not accumulate objects

LOUDNESS_WINDOW_SAMPLES: Final = SAMPLE_RATE // 10
SILENCE_DBFS: Final = -120.0  # reported for digital silence; 16-bit audio reaches down to about -96

# Thresholds of the level detector, in decibels.
_MIN_LEVEL_DBFS: Final = -60.0  # intentional sound is louder than this
_MIN_FLOOR_DBFS: Final = -80.0  # digital silence must not pull the threshold down into hiss
_FLOOR_PERCENTILE: Final = 10
_TOP_PERCENTILE: Final = 95
_LEVEL_SHARE: Final = 0.4  # onset threshold, as a share of the way from the floor to the loud parts
_LEVEL_DROP_DB: Final = 3.0  # hysteresis: sound ends this far below the onset threshold
_STEADY_DB: Final = 6.0  # a floor closer than this to the top means steady sound
_MIN_SOUND_US: Final = 100_000  # shorter than a syllable (0.1 to 0.3 s): a click


@dataclass(frozen=True, slots=True)
class SpeechSettings:
    """Thresholds of the speech detector.

    Attributes:
        threshold, release: probability at which speech starts, and below which it may end (Silero's defaults).
        min_silence_us: a shorter gap does not end a span of speech. 300 ms separates utterances; the usual default of
            2 s would merge sentences.
        pad_us: each span is padded by this on both sides, to include soft onsets.

    Raises:
        SettingsError: a value is out of range.
    """

    threshold: float = 0.5
    release: float = 0.35
    min_silence_us: int = 300_000
    pad_us: int = 30_000

    def __post_init__(self) -> None:
        if not 0 < self.release <= self.threshold < 1:
            raise SettingsError(
                f"release is {self.release!r} and threshold is {self.threshold!r}; they must satisfy "
                "0 < release <= threshold < 1"
            )
        for name in ("min_silence_us", "pad_us"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise SettingsError(
                    f"{name} is {value!r}; it must be a non-negative integer in microseconds (300000 is 0.3 s)"
                )


def detector_name() -> Literal["silero", "level"]:
    """Return the installed detector, which is part of the analysis key. Imports no heavy library."""
    return "silero" if _model_file() is not None else "level"


def pauses(activity: SoundActivity, duration_us: int, min_us: int = 300_000) -> tuple[TimeSpan, ...]:
    """Return the gaps of at least `min_us` between spans of sound, in order, including the silence before the first span
    and after the last. An item without any sound has no pauses.

    Spans may be in any order, overlap, or extend beyond the item [0, duration_us).
    """
    spans = sorted((max(0, span.start_us), min(duration_us, span.end_us)) for span in activity.spans)
    spans = [span for span in spans if span[0] < span[1]]
    if not spans:
        return ()
    gaps = []
    previous_end_us = 0
    for start_us, end_us in [*spans, (duration_us, duration_us)]:
        if start_us - previous_end_us >= max(min_us, 1):
            gaps.append(TimeSpan(previous_end_us, start_us))
        previous_end_us = max(previous_end_us, end_us)
    return tuple(gaps)


class ActivityDetector:
    """Finds spans of speech or sound in a stream of 16 kHz mono samples.

    Uses Silero if installed. If it is not installed, or finds no speech at all (music, tones), the level decides. The
    result does not depend on the block sizes, and speech spans equal those of
    `faster_whisper.vad.get_speech_timestamps` over the complete stream.
    """

    def __init__(self, settings: SpeechSettings = SpeechSettings()) -> None:
        self._settings = settings
        self._speech = _SpeechProbability() if _model_file() is not None else None
        self._levels = _Levels(WINDOW_SAMPLES)
        self._loudness = _Levels(LOUDNESS_WINDOW_SAMPLES)
        self._samples = 0
        self._activity: SoundActivity | None = None

    def add(self, samples: NDArray[np.int16]) -> None:
        """Add int16[m] samples, in blocks of any size.

        Raises:
            ValueError: wrong dtype or shape, or called after `finish`.
        """
        if self._activity is not None:
            raise ValueError("the stream is finished; create a new ActivityDetector for another stream")
        if samples.dtype != np.int16 or samples.ndim != 1:
            raise ValueError(
                f"samples are {samples.dtype}{list(samples.shape)}; they must be int16[m], 16 kHz mono; "
                "convert them in the decoder"
            )
        self._samples += len(samples)
        for first in range(0, len(samples), _BLOCK_SAMPLES):
            scaled = samples[first : first + _BLOCK_SAMPLES].astype(np.float32) / np.float32(32768)
            self._levels.add(scaled)
            self._loudness.add(scaled)
            if self._speech is not None:
                self._speech.add(scaled)

    def finish(self) -> SoundActivity:
        """End the stream and return its sound activity. Further calls return the same result."""
        if self._activity is None:
            self._activity = self._compute_activity()
        return self._activity

    def loudness(self) -> NDArray[np.float32]:
        """Return the RMS level of each tenth of a second so far, float32[n] in dBFS (0 is a full-scale square wave). An
        incomplete last window is included."""
        return self._loudness.values()

    def _compute_activity(self) -> SoundActivity:
        if self._samples == 0:
            return SoundActivity("none")
        duration_us = self._samples * US_PER_SECOND // SAMPLE_RATE
        if self._speech is not None:
            spans = speech_spans(self._speech.finish(), duration_us, self._settings)
            if spans:
                return SoundActivity("silero", spans)
        return SoundActivity("level", level_spans(self._levels.values(), duration_us, self._settings))


def speech_spans(probability: NDArray[np.float32], duration_us: int, settings: SpeechSettings) -> tuple[TimeSpan, ...]:
    """Return the spans of speech, given the probability of each 32 ms window, float32[n].

    The hysteresis is that of Silero's reference code (`get_speech_timestamps` of snakers4/silero-vad, without
    its maximum length): speech starts at `threshold` and ends at the first window below `release` that is followed by
    `min_silence_us` without any window at `threshold`. Spans shorter than a syllable are dropped.
    """
    spans = _active_spans(probability, settings.threshold, settings.release, duration_us, settings)
    return _padded(_without_clicks(spans), duration_us, settings)


def level_spans(levels_dbfs: NDArray[np.float32], duration_us: int, settings: SpeechSettings) -> tuple[TimeSpan, ...]:
    """Return the spans of sound above the item's noise floor, given the level of each 32 ms window, float32[n]. Steady
    sound yields one span, silence none.

    The floor is the 10th percentile of the levels. If that is as loud as the rest (pauses are rare), it is the level of
    the quietest run of `min_silence_us`.
    """
    if len(levels_dbfs) == 0:
        return ()
    floor, top = (float(part) for part in np.percentile(levels_dbfs, [_FLOOR_PERCENTILE, _TOP_PERCENTILE]))
    if top < _MIN_LEVEL_DBFS:
        return ()
    if top - floor < _STEADY_DB:
        floor = _quietest_run(levels_dbfs, -(-settings.min_silence_us // _window_us(1)))
    floor = max(floor, _MIN_FLOOR_DBFS)
    if top - floor < _STEADY_DB:
        return (TimeSpan(0, duration_us),)
    threshold = max(floor + _LEVEL_SHARE * (top - floor), _MIN_LEVEL_DBFS)
    spans = _active_spans(levels_dbfs, threshold, threshold - _LEVEL_DROP_DB, duration_us, settings)
    return _padded(_without_clicks(spans), duration_us, settings)


def _active_spans(
    values: NDArray[np.float32], threshold: float, release: float, duration_us: int, settings: SpeechSettings
) -> list[tuple[int, int]]:
    """Return (start, end) in microseconds of the spans that start at `threshold` and end with a gap below `release`."""
    spans: list[tuple[int, int]] = []
    start_us = quiet_us = -1
    decisive = np.flatnonzero((values >= threshold) | (values < release))
    for index, value in zip(decisive.tolist(), values[decisive].tolist(), strict=True):
        time_us = _window_us(index)
        if value >= threshold:
            quiet_us = -1
            if start_us < 0:
                start_us = time_us
        elif start_us >= 0:
            if quiet_us < 0:
                quiet_us = time_us
            if time_us - quiet_us >= settings.min_silence_us:
                spans.append((start_us, quiet_us))
                start_us = quiet_us = -1
    if start_us >= 0:
        spans.append((start_us, duration_us))
    return spans


def _without_clicks(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Drop spans shorter than a syllable. The model sometimes detects one where a tone starts or ends."""
    return [(start, end) for start, end in spans if end - start >= _MIN_SOUND_US]


def _quietest_run(levels_dbfs: NDArray[np.float32], windows: int) -> float:
    """Return the lowest peak level of any run of `windows` consecutive windows."""
    windows = max(1, min(windows, len(levels_dbfs)))
    loudest = levels_dbfs[: len(levels_dbfs) - windows + 1].copy()
    for offset in range(1, windows):
        np.maximum(loudest, levels_dbfs[offset : offset + len(loudest)], out=loudest)
    return float(loudest.min())


def _padded(spans: Sequence[tuple[int, int]], duration_us: int, settings: SpeechSettings) -> tuple[TimeSpan, ...]:
    """Pad spans on both sides; a gap narrower than both pads is split in the middle."""
    result = []
    for index, (start, end) in enumerate(spans):
        lead, tail = start, duration_us - end
        if index:
            lead = (start - spans[index - 1][1]) // 2
        if index + 1 < len(spans):
            tail = (spans[index + 1][0] - end) // 2
        first, last = start - min(settings.pad_us, lead), end + min(settings.pad_us, tail)
        if first < last:
            result.append(TimeSpan(first, last))
    return tuple(result)


def _window_us(index: int) -> int:
    return index * WINDOW_SAMPLES * US_PER_SECOND // SAMPLE_RATE


class _Column:
    """A float32 column that grows by parts."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.float32]] = []

    def add(self, part: NDArray[np.float32]) -> None:
        self._parts.append(part)
        if len(self._parts) >= _MAX_PARTS:
            self._parts = [self.values()]

    def values(self) -> NDArray[np.float32]:
        return np.concatenate(self._parts) if self._parts else np.zeros(0, np.float32)


class _Levels:
    """RMS level of consecutive windows in dBFS, including an incomplete last window."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._rest = np.zeros(0, np.float32)
        self._column = _Column()

    def add(self, samples: NDArray[np.float32]) -> None:
        joined = np.concatenate([self._rest, samples])
        complete = len(joined) // self._window * self._window
        self._rest = joined[complete:].copy()
        if complete:
            self._column.add(_decibels(joined[:complete].reshape(-1, self._window)))

    def values(self) -> NDArray[np.float32]:
        if not len(self._rest):
            return self._column.values()
        return np.concatenate([self._column.values(), _decibels(self._rest[None])])


def _decibels(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the RMS level in dBFS of each row of samples in -1..1: float32[k, m] to float32[k]."""
    power = np.mean(windows * windows, axis=1)
    min_power = np.float32(10 ** (SILENCE_DBFS / 10))
    return np.asarray(10 * np.log10(np.maximum(power, min_power)), dtype=np.float32)


class _SpeechProbability:
    """Runs the Silero model over a stream; its state carries over between blocks, as if all were processed at once."""

    def __init__(self) -> None:
        self._session = _session()
        self._h = np.zeros(_STATE_SHAPE, np.float32)
        self._c = np.zeros(_STATE_SHAPE, np.float32)
        self._context = np.zeros(_CONTEXT_SAMPLES, np.float32)
        self._pending: list[NDArray[np.float32]] = []
        self._pending_samples = 0
        self._column = _Column()

    def add(self, samples: NDArray[np.float32]) -> None:
        self._pending.append(samples)
        self._pending_samples += len(samples)
        if self._pending_samples >= _BLOCK_SAMPLES:
            self._run()

    def finish(self) -> NDArray[np.float32]:
        """Return the probability of speech in each window, float32[n]; the last window is padded with silence."""
        self._pending.append(np.zeros(-self._pending_samples % WINDOW_SAMPLES, np.float32))
        self._run()
        return self._column.values()

    def _run(self) -> None:
        joined = np.concatenate(self._pending)
        windows = joined[: len(joined) // WINDOW_SAMPLES * WINDOW_SAMPLES].reshape(-1, WINDOW_SAMPLES)
        rest = joined[windows.size :]
        self._pending, self._pending_samples = [rest], len(rest)
        if not len(windows):
            return
        context = np.concatenate([self._context[None], windows[:-1, -_CONTEXT_SAMPLES:]])
        feed = {"input": np.concatenate([context, windows], axis=1), "h": self._h, "c": self._c}
        output, self._h, self._c = self._session.run(None, feed)
        self._column.add(np.asarray(output, np.float32).reshape(-1))
        self._context = windows[-1, -_CONTEXT_SAMPLES:].copy()


@functools.cache
def _model_file() -> Path | None:
    """Return the Silero model bundled with faster-whisper; None if faster-whisper or onnxruntime is not installed."""
    package = importlib.util.find_spec("faster_whisper")
    if package is None or package.origin is None or importlib.util.find_spec("onnxruntime") is None:
        return None
    files = sorted((Path(package.origin).parent / "assets").glob("silero_vad*.onnx"))
    return files[-1] if files else None


@functools.cache
def _session() -> Any:
    """Return a single-threaded ONNX session shared by the process; sessions are thread-safe."""
    # Otherwise the library records its use in the home folder and sends the record away. It reads the variable on import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # the arena would hold the largest block's memory for good
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(_model_file()), options, providers=["CPUExecutionProvider"])
