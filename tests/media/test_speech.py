"""Sound activity compared with voices and tones at known times."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from promptreel.media import speech
from promptreel.media.speech import (
    LOUDNESS_WINDOW_SAMPLES,
    SILENCE_DBFS,
    ActivityDetector,
    SpeechSettings,
    detector_name,
    level_spans,
    pauses,
)
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.media import SoundActivity, TimeSpan
from tests.media_files import RATE, silence, tone
from tests.voices import Voice, draw_voice, pink_noise, speak, time_f1, to_samples

Sound = NDArray[np.int16]
silero = pytest.mark.skipif(detector_name() != "silero", reason="faster-whisper with onnxruntime is not installed")


def heard(samples: Sound, block: int = RATE) -> SoundActivity:
    detector = ActivityDetector()
    for first in range(0, len(samples), block):
        detector.add(samples[first : first + block])
    return detector.finish()


@pytest.fixture(scope="module")
def voice() -> Voice:
    return draw_voice(30, seed=3)


@silero
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_speech_is_found_at_its_times(seed: int) -> None:
    voice = draw_voice(30, seed=seed)
    found = heard(voice.samples)
    assert found.detector == "silero"
    assert time_f1(found.spans, voice.speech, voice.duration_us) >= 0.95


@silero
def test_every_pause_between_utterances_is_found(voice: Voice) -> None:
    known = [(one.end_us, two.start_us) for one, two in zip(voice.speech, voice.speech[1:], strict=False)]
    found = pauses(heard(voice.samples), voice.duration_us, min_us=200_000)
    for end, start in known:
        assert any(pause.start_us < (end + start) / 2 < pause.end_us for pause in found), (end, start)
    assert len(found) <= len(known) + 2


@silero
def test_speech_is_found_under_noise(voice: Voice) -> None:
    noise = pink_noise(np.random.default_rng(1), len(voice.samples), -45)
    noisy = to_samples(voice.samples / 32768 + noise)
    assert time_f1(heard(noisy).spans, voice.speech, voice.duration_us) >= 0.9


@silero
def test_spoken_sentences_are_found(tmp_path: Path) -> None:
    voice = speak(
        tmp_path, ["Good morning to you all.", "The ship sails at noon.", "Nobody knows why."], [0.5, 0.6, 0.9, 0.4]
    )
    if voice is None:
        pytest.skip("espeak-ng is not installed")
    assert time_f1(heard(voice.samples).spans, voice.speech, voice.duration_us) >= 0.9


@silero
def test_result_equals_the_reference_on_the_complete_sound(voice: Voice) -> None:
    vad = pytest.importorskip("faster_whisper.vad")
    options = vad.VadOptions(min_silence_duration_ms=300, speech_pad_ms=30, min_speech_duration_ms=100)
    reference = vad.get_speech_timestamps(voice.samples.astype(np.float32) / 32768, options)
    known = [TimeSpan(span["start"] * 1_000_000 // RATE, span["end"] * 1_000_000 // RATE) for span in reference]
    assert time_f1(heard(voice.samples).spans, known, voice.duration_us) >= 0.999
    assert len(heard(voice.samples).spans) == len(known)


@pytest.mark.parametrize("block", [1000, 511, 512, 513, 123_457, 10**9])
def test_block_size_does_not_matter(block: int, voice: Voice) -> None:
    samples = voice.samples[: 12 * RATE]
    assert heard(samples, block) == heard(samples)


@pytest.mark.parametrize("seconds", [0.01, 1, 20])
def test_silence_has_no_spans(seconds: float) -> None:
    assert heard(silence(seconds)) == SoundActivity("level", ())


def test_no_samples_means_no_detector() -> None:
    assert heard(silence(0)) == SoundActivity("none", ())
    detector = ActivityDetector()
    detector.add(silence(0))
    assert detector.finish() == SoundActivity("none", ())


def test_tones_are_found_by_their_level() -> None:
    parts = [silence(1), tone(440, 2), silence(0.6), tone(300, 1.5), silence(1.4), tone(880, 1), silence(0.5)]
    found = heard(np.concatenate(parts))
    assert found.detector == "level"
    assert [(span.start_us, span.end_us) for span in found.spans] == [
        (pytest.approx(start, abs=80_000), pytest.approx(end, abs=80_000))
        for start, end in ((1_000_000, 3_000_000), (3_600_000, 5_100_000), (6_500_000, 7_500_000))
    ]


def test_level_is_relative_to_the_noise_floor() -> None:
    hiss = to_samples(np.random.default_rng(1).normal(0, 0.01, 6 * RATE))
    loud = hiss.copy()
    loud[2 * RATE : 4 * RATE] += tone(440, 2, 0.3)
    (span,) = heard(loud).spans
    assert (span.start_us, span.end_us) == (pytest.approx(2_000_000, abs=80_000), pytest.approx(4_000_000, abs=80_000))


def test_steady_sound_is_one_span() -> None:
    assert heard(tone(440, 5)).spans == (TimeSpan(0, 5_000_000),)


def test_rare_pauses_in_loud_sound_are_found() -> None:
    sound = np.concatenate([tone(440, 10), silence(0.5), tone(440, 10)])
    found = heard(sound)
    assert [(p.start_us, p.end_us) for p in pauses(found, 20_500_000)] == [
        (pytest.approx(10_000_000, abs=80_000), pytest.approx(10_500_000, abs=80_000))
    ]


def test_faint_sound_is_ignored() -> None:
    assert heard(tone(440, 3, level=0.0005)).spans == ()


def test_short_click_is_ignored() -> None:
    sound = silence(5)
    sound[2 * RATE : 2 * RATE + 200] = 20_000
    sound[3 * RATE : 4 * RATE] = tone(440, 1)
    assert len(heard(sound).spans) == 1


def test_loudness_is_the_level_of_each_tenth_of_a_second() -> None:
    detector = ActivityDetector()
    sound = np.concatenate([tone(440, 0.5, 1.0), silence(0.5), tone(440, 0.25, 0.1)])
    detector.add(sound)
    expected = [-3.01] * 5 + [SILENCE_DBFS] * 5 + [-23.01] * 3
    np.testing.assert_allclose(detector.loudness(), expected, atol=0.2)
    assert LOUDNESS_WINDOW_SAMPLES == RATE // 10


@pytest.mark.parametrize(
    "samples",
    [np.zeros(5, np.float32), np.zeros((5, 2), np.int16), np.zeros(5, np.int32)],
    ids=["float", "stereo", "int32"],
)
def test_invalid_samples_are_rejected_with_the_fix(samples: NDArray[np.int16]) -> None:
    with pytest.raises(ValueError, match="int16"):
        ActivityDetector().add(samples)


def test_finished_stream_rejects_samples_and_repeats_its_result() -> None:
    detector = ActivityDetector()
    detector.add(tone(440, 1))
    first = detector.finish()
    assert detector.finish() is first
    with pytest.raises(ValueError, match="finished"):
        detector.add(tone(440, 1))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("threshold", 1.0),
        ("release", 0.6),
        ("release", 0.0),
        ("min_silence_us", -1),
        ("min_silence_us", 0.3),
        ("pad_us", True),
    ],
)
def test_settings_out_of_range_are_rejected_by_name(field: str, value: object) -> None:
    with pytest.raises(SettingsError, match=field):
        SpeechSettings(**{field: value})  # type: ignore[arg-type]


spans = st.lists(st.tuples(st.integers(-50, 1050), st.integers(-50, 1050)), max_size=8)


@given(spans, st.integers(0, 1000), st.integers(0, 60))
def test_pauses_are_the_long_gaps(parts: list[tuple[int, int]], duration: int, least: int) -> None:
    activity = SoundActivity("level", tuple(TimeSpan(min(part), max(part)) for part in parts))
    loud = np.zeros(duration + 1, bool)
    for span in activity.spans:
        loud[max(0, span.start_us) : max(0, min(duration, span.end_us))] = True
    loud[duration] = True
    expected, start = [], 0
    for at in range(duration + 1):
        if loud[at]:
            if at > start and at - start >= least:
                expected.append(TimeSpan(start, at))
            start = at + 1
    if not loud[:duration].any():
        expected = []
    assert list(pauses(activity, duration, least)) == expected


@settings(max_examples=60)
@given(st.lists(st.floats(-120, 0, width=32), max_size=120), st.integers(0, 5))
def test_spans_of_any_levels_are_in_order_and_inside(levels: list[float], pad: int) -> None:
    duration_us = len(levels) * 32_000
    chosen = SpeechSettings(pad_us=pad * 10_000)
    found = level_spans(np.array(levels, np.float32), duration_us, chosen)
    ends = [0, *(time for span in found for time in (span.start_us, span.end_us)), duration_us]
    assert ends == sorted(ends)
    assert all(span.duration_us > 0 for span in found)


def test_speech_is_found_by_level_without_the_model(voice: Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "_model_file", lambda: None)
    assert detector_name() == "level"
    found = heard(voice.samples)
    assert found.detector == "level"
    assert time_f1(found.spans, voice.speech, voice.duration_us) >= 0.85


@silero
def test_model_library_sends_no_telemetry(tmp_path: Path) -> None:
    script = (
        "import numpy; from promptreel.media import speech; speech.ActivityDetector().add(numpy.zeros(10**6, 'i2'))"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ORT_")}
    environment["HOME"] = str(tmp_path)
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    root = Path(speech.__file__).parents[1]
    subprocess.run([sys.executable, "-c", script], env=environment, cwd=root, check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []
