"""Where an item is heard: speech where a speech detector is installed and finds some, else loud sound.

Samples are streamed through in blocks. What grows with the length of an item is one number for each window:
about 0.9 MB for an hour.
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
# The window of the Silero model at 16 kHz, the samples of the window before that it is given as context, and
# the shape of its recurrent state (faster_whisper/vad.py, `SileroVADModel.__call__`).
WINDOW_SAMPLES: Final = 512
_CONTEXT_SAMPLES: Final = 64
_STATE_SHAPE: Final = (1, 1, 128)

_BLOCK_SAMPLES: Final = 256 * WINDOW_SAMPLES  # 8 s are worked on at once: more is no faster
_JOIN_PARTS: Final = 1024  # so many results are joined to one, so that small blocks leave no trail of objects

LOUDNESS_WINDOW_SAMPLES: Final = SAMPLE_RATE // 10
SILENCE_DBFS: Final = -120.0  # what digital silence is reported as; 16 bits reach down to about -96

# Thresholds of the level detector, in decibels.
_MIN_LEVEL_DBFS: Final = -60.0  # quieter than any sound that was meant to be heard
_MIN_FLOOR_DBFS: Final = -80.0  # digital silence must not draw the threshold down into hiss
_FLOOR_PERCENTILE: Final = 10
_TOP_PERCENTILE: Final = 95
_LEVEL_SHARE: Final = 0.4  # sound begins this far up from the floor to the loud parts,
_LEVEL_DROP_DB: Final = 3.0  # and ends this far below, so that a level at the threshold does not flicker
_STEADY_DB: Final = 6.0  # floor and top nearer than this are one steady sound
_MIN_SOUND_US: Final = 100_000  # shorter than a syllable (0.1 to 0.3 s): a click


@dataclass(frozen=True, slots=True)
class SpeechSettings:
    """Thresholds of the speech detector.

    Attributes:
        threshold, release: probability at which speech begins, and below which it may end (Silero's own
            defaults).
        min_silence_us: a shorter gap does not end a stretch of speech. 300 ms separates utterances; the
            detector's customary 2 s would merge sentences.
        pad_us: each stretch is widened by this on both sides, for soft onsets.

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
                f"release is {self.release!r} and threshold {self.threshold!r}; they must be probabilities "
                "with 0 < release <= threshold < 1"
            )
        for name in ("min_silence_us", "pad_us"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise SettingsError(
                    f"{name} is {value!r}; it must be a whole number of microseconds from 0 up (300000 is 0.3 s)"
                )


def detector_name() -> Literal["silero", "level"]:
    """The detector that this installation has: part of an analysis' key. Imports nothing heavy."""
    return "silero" if _model_file() is not None else "level"


def pauses(activity: SoundActivity, duration_us: int, min_us: int = 300_000) -> tuple[TimeSpan, ...]:
    """The gaps of at least `min_us` between spans of sound, in order; the quiet before the first span and
    after the last counts too. Nothing heard at all gives none: there is nothing to pause.

    Spans may come in any order, overlap, or reach beyond the item [0, duration_us).
    """
    spans = sorted((max(0, span.start_us), min(duration_us, span.end_us)) for span in activity.spans)
    spans = [span for span in spans if span[0] < span[1]]
    if not spans:
        return ()
    found = []
    heard_until = 0
    for start_us, end_us in [*spans, (duration_us, duration_us)]:
        if start_us - heard_until >= max(min_us, 1):
            found.append(TimeSpan(heard_until, start_us))
        heard_until = max(heard_until, end_us)
    return tuple(found)


class ActivityDetector:
    """Finds the spans of speech, or of sound, in a stream of 16 kHz mono samples.

    Silero runs where it is installed. Sound in which it finds no speech at all (music, tones), and all sound
    where it is not installed, is judged by its level. The result does not depend on how the stream is cut
    into blocks, and is that of `faster_whisper.vad.get_speech_timestamps` over the whole of it.
    """

    def __init__(self, settings: SpeechSettings = SpeechSettings()) -> None:
        self._settings = settings
        self._speech = _SpeechProbability() if _model_file() is not None else None
        self._levels = _Levels(WINDOW_SAMPLES)
        self._loudness = _Levels(LOUDNESS_WINDOW_SAMPLES)
        self._samples = 0
        self._activity: SoundActivity | None = None

    def add(self, samples: NDArray[np.int16]) -> None:
        """Adds int16[m] samples; blocks may have any size.

        Raises:
            ValueError: on another dtype or shape, or after `finish`.
        """
        if self._activity is not None:
            raise ValueError("the stream is finished; take a new ActivityDetector for another one")
        if samples.dtype != np.int16 or samples.ndim != 1:
            raise ValueError(
                f"samples are {samples.dtype}{list(samples.shape)}: they must be int16[m], 16 kHz mono; "
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
        """What was heard, and which detector says so; a second call gives the same answer."""
        if self._activity is None:
            self._activity = self._judge()
        return self._activity

    def loudness(self) -> NDArray[np.float32]:
        """float32[n], RMS level in dBFS (0 is a square wave at full scale) of each tenth of a second so far;
        a last part of one counts as one."""
        return self._loudness.values()

    def _judge(self) -> SoundActivity:
        if self._samples == 0:
            return SoundActivity("none")
        duration_us = self._samples * US_PER_SECOND // SAMPLE_RATE
        if self._speech is not None:
            spans = speech_spans(self._speech.finish(), duration_us, self._settings)
            if spans:
                return SoundActivity("silero", spans)
        return SoundActivity("level", level_spans(self._levels.values(), duration_us, self._settings))


def speech_spans(probability: NDArray[np.float32], duration_us: int, settings: SpeechSettings) -> tuple[TimeSpan, ...]:
    """Stretches of speech from the probability float32[n] of each window of 32 ms.

    The hysteresis is that of Silero's reference code (`get_speech_timestamps` of snakers4/silero-vad, without
    its maximum length): speech begins at `threshold` and ends where `min_silence_us` have passed since the
    first window below `release` with none at `threshold` in between. What is shorter than a syllable is dropped.
    """
    spans = _stretches(probability, settings.threshold, settings.release, duration_us, settings)
    return _padded(_without_clicks(spans), duration_us, settings)


def level_spans(levels_dbfs: NDArray[np.float32], duration_us: int, settings: SpeechSettings) -> tuple[TimeSpan, ...]:
    """Stretches of sound that stand above the item's own floor, from the level float32[n] of each window of
    32 ms; one for steady sound, none for silence.

    The floor is the level that a tenth of the windows stay below. Where that is as loud as the rest (pauses
    are rare), it is the level of the quietest stretch of `min_silence_us`.
    """
    if len(levels_dbfs) == 0:
        return ()
    floor, top = (float(part) for part in np.percentile(levels_dbfs, [_FLOOR_PERCENTILE, _TOP_PERCENTILE]))
    if top < _MIN_LEVEL_DBFS:
        return ()
    if top - floor < _STEADY_DB:
        floor = _quietest(levels_dbfs, -(-settings.min_silence_us // _window_us(1)))
    floor = max(floor, _MIN_FLOOR_DBFS)
    if top - floor < _STEADY_DB:
        return (TimeSpan(0, duration_us),)
    threshold = max(floor + _LEVEL_SHARE * (top - floor), _MIN_LEVEL_DBFS)
    spans = _stretches(levels_dbfs, threshold, threshold - _LEVEL_DROP_DB, duration_us, settings)
    return _padded(_without_clicks(spans), duration_us, settings)


def _stretches(
    values: NDArray[np.float32], threshold: float, release: float, duration_us: int, settings: SpeechSettings
) -> list[tuple[int, int]]:
    """(start, end) in microseconds of the stretches that begin at `threshold` and end with a gap below
    `release`."""
    found: list[tuple[int, int]] = []
    start = quiet = -1
    telling = np.flatnonzero((values >= threshold) | (values < release))
    for index, value in zip(telling.tolist(), values[telling].tolist(), strict=True):
        at = _window_us(index)
        if value >= threshold:
            quiet = -1
            if start < 0:
                start = at
        elif start >= 0:
            if quiet < 0:
                quiet = at
            if at - quiet >= settings.min_silence_us:
                found.append((start, quiet))
                start = quiet = -1
    if start >= 0:
        found.append((start, duration_us))
    return found


def _without_clicks(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The stretches that are long enough to be a syllable. The model hears one now and then where a tone begins or ends."""
    return [(start, end) for start, end in spans if end - start >= _MIN_SOUND_US]


def _quietest(levels_dbfs: NDArray[np.float32], windows: int) -> float:
    """The level that the quietest stretch of so many windows stays below."""
    windows = max(1, min(windows, len(levels_dbfs)))
    loudest = levels_dbfs[: len(levels_dbfs) - windows + 1].copy()
    for offset in range(1, windows):
        np.maximum(loudest, levels_dbfs[offset : offset + len(loudest)], out=loudest)
    return float(loudest.min())


def _padded(spans: Sequence[tuple[int, int]], duration_us: int, settings: SpeechSettings) -> tuple[TimeSpan, ...]:
    """Widens spans on both sides; a gap narrower than both pads is shared in the middle."""
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
    """A growing float32 column that is fed in parts."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.float32]] = []

    def add(self, part: NDArray[np.float32]) -> None:
        self._parts.append(part)
        if len(self._parts) >= _JOIN_PARTS:
            self._parts = [self.values()]

    def values(self) -> NDArray[np.float32]:
        return np.concatenate(self._parts) if self._parts else np.zeros(0, np.float32)


class _Levels:
    """RMS level of consecutive windows, in dB relative to full scale; a last part of a window counts as
    one."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._rest = np.zeros(0, np.float32)
        self._column = _Column()

    def add(self, samples: NDArray[np.float32]) -> None:
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) // self._window * self._window
        self._rest = joined[whole:].copy()
        if whole:
            self._column.add(_decibels(joined[:whole].reshape(-1, self._window)))

    def values(self) -> NDArray[np.float32]:
        if not len(self._rest):
            return self._column.values()
        return np.concatenate([self._column.values(), _decibels(self._rest[None])])


def _decibels(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """RMS level in dBFS of each row of samples -1..1, float32[k, m] to float32[k]."""
    power = np.mean(windows * windows, axis=1)
    least = np.float32(10 ** (SILENCE_DBFS / 10))
    return np.asarray(10 * np.log10(np.maximum(power, least)), dtype=np.float32)


class _SpeechProbability:
    """The Silero model over a stream; its state is carried on, so that the result is that of one run."""

    def __init__(self) -> None:
        self._session = _session()
        self._h = np.zeros(_STATE_SHAPE, np.float32)
        self._c = np.zeros(_STATE_SHAPE, np.float32)
        self._context = np.zeros(_CONTEXT_SAMPLES, np.float32)
        self._waiting: list[NDArray[np.float32]] = []
        self._waiting_samples = 0
        self._column = _Column()

    def add(self, samples: NDArray[np.float32]) -> None:
        self._waiting.append(samples)
        self._waiting_samples += len(samples)
        if self._waiting_samples >= _BLOCK_SAMPLES:
            self._run()

    def finish(self) -> NDArray[np.float32]:
        """float32[n], the probability of speech in each window; the last window is filled up with silence."""
        self._waiting.append(np.zeros(-self._waiting_samples % WINDOW_SAMPLES, np.float32))
        self._run()
        return self._column.values()

    def _run(self) -> None:
        joined = np.concatenate(self._waiting)
        windows = joined[: len(joined) // WINDOW_SAMPLES * WINDOW_SAMPLES].reshape(-1, WINDOW_SAMPLES)
        rest = joined[windows.size :]
        self._waiting, self._waiting_samples = [rest], len(rest)
        if not len(windows):
            return
        context = np.concatenate([self._context[None], windows[:-1, -_CONTEXT_SAMPLES:]])
        feed = {"input": np.concatenate([context, windows], axis=1), "h": self._h, "c": self._c}
        output, self._h, self._c = self._session.run(None, feed)
        self._column.add(np.asarray(output, np.float32).reshape(-1))
        self._context = windows[-1, -_CONTEXT_SAMPLES:].copy()


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
    """One ONNX session on one thread, shared by the process: sessions may be run from several threads at
    once."""
    # Without it the library keeps a record of its use in the home folder and sends it away. Read when it is imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # else it keeps the largest block's memory for good
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(_model_file()), options, providers=["CPUExecutionProvider"])
