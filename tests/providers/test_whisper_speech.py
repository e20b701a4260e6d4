"""Transcription of real speech with real Whisper weights, if they are available."""

import itertools
import re

import faster_whisper
import numpy as np
import pytest

from promptreel.media.speech import ActivityDetector
from promptreel.providers.transcript import text_of, words_of_span
from promptreel.providers.transcription import CHUNK_US, speech_of
from promptreel.schemas.media import TimeSpan
from tests.media_files import RATE, read_sound, silence, write_sound
from tests.providers.whisper_calls import SECOND, transcriber
from tests.tiny_models import real_whisper

SENTENCE = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"


@pytest.fixture(scope="module")
def real():
    return real_whisper()


def normalised_words(text):
    return re.sub(r"[^a-z ]", "", text.lower()).split()


def activity_of(samples):
    detector = ActivityDetector()
    detector.add(samples)
    return detector.finish()


def transcribe(model, samples, folder, speech=None):
    """Transcribe samples; the default `speech` is what the detector finds."""
    if speech is None:
        speech = activity_of(samples).spans
    return transcriber(model).transcribe(
        write_sound(folder / "item.flac", samples), speech, len(samples) * SECOND // RATE
    )


@pytest.mark.weights
def test_real_words_are_recognised(real, real_media, tmp_path):
    found = transcribe(real, read_sound(real_media("jfk.flac")), tmp_path)
    assert normalised_words(text_of(found.words)) == SENTENCE.split()
    assert all(word.probability > 0.2 for word in found.words)


@pytest.mark.weights
def test_speech_scattered_over_silence_keeps_words_and_times(real, real_media, tmp_path):
    samples = read_sound(real_media("jfk.flac"))
    cuts = [0, 2.8, 4.9, 7.92, 11.0]  # in the speaker's pauses
    parts, shifts, at = [silence(45)], [], 45.0
    for start, end in itertools.pairwise(cuts):
        shifts += [(start, at - start)]
        parts += [samples[round(start * RATE) : round(end * RATE)], silence(20)]
        at += round((end - start) * RATE) / RATE + 20
    item = np.concatenate(parts)
    plain = transcribe(real, samples, tmp_path)
    # The spans of speech are given, because this does not test the detector.
    speech = [
        TimeSpan(span.start_us + round(shift * SECOND), span.end_us + round(shift * SECOND))
        for (start, shift), end in zip(shifts, cuts[1:], strict=True)
        for span in activity_of(samples).spans
        if start <= span.start_us / SECOND < end
    ]
    found = transcribe(real, item, tmp_path, speech)
    assert normalised_words(text_of(found.words)) == SENTENCE.split()
    for word, original in zip(found.words, plain.words, strict=True):
        shift = next(s for start, s in reversed(shifts) if original.start_us / SECOND >= start - 0.3)
        assert word.start_us / SECOND == pytest.approx(original.start_us / SECOND + shift, abs=0.5)
        assert word.end_us / SECOND == pytest.approx(original.end_us / SECOND + shift, abs=0.5)
    edges = [TimeSpan(n * 10 * SECOND, (n + 1) * 10 * SECOND) for n in range(len(item) // RATE // 10 + 1)]
    selected = [word for span in edges for word in words_of_span(found.words, span, span is edges[-1])]
    assert selected == list(found.words)


@pytest.mark.weights
def test_unpaused_speech_loses_no_words_between_windows(real, real_media, tmp_path):
    samples = read_sound(real_media("jfk.flac"))
    once = np.concatenate(
        [samples[s.start_us * RATE // SECOND : s.end_us * RATE // SECOND] for s in activity_of(samples).spans]
    )
    times = 9
    item = np.concatenate([once] * times)
    duration = len(item) * SECOND // RATE
    assert duration > 2 * CHUNK_US
    found = transcribe(real, item, tmp_path, [TimeSpan(0, duration)])
    # The model mishears some words ("american", "asks"), but a lost or duplicate word would shift all later ones.
    heard = normalised_words(text_of(found.words))
    assert len(heard) == len(SENTENCE.split()) * times
    wrong = [(one, two) for one, two in zip(SENTENCE.split() * times, heard, strict=True) if one[:3] != two[:3]]
    assert wrong == []
    gaps = [two.start_us - one.end_us for one, two in itertools.pairwise(found.words)]
    assert max(gaps) < 1.2 * SECOND


@pytest.mark.weights
def test_repeated_sentence_is_not_a_loop(real, real_media, tmp_path):
    samples = read_sound(real_media("jfk.flac"))
    found = transcribe(real, np.concatenate([samples] * 4), tmp_path)
    assert normalised_words(text_of(found.words)) == SENTENCE.split() * 4


@pytest.mark.weights
@pytest.mark.parametrize("kind", ["silence", "noise", "tone"])
def test_sound_without_speech_has_no_words(real, tmp_path, kind):
    count = 40 * RATE
    samples = {
        "silence": np.zeros(count, np.int16),
        "noise": np.random.default_rng(2).normal(0, 900, count).astype(np.int16),
        "tone": (9000 * np.sin(np.arange(count) * 0.17)).astype(np.int16),
    }[kind]
    assert transcribe(real, samples, tmp_path, speech_of(activity_of(samples))).words == ()
    # Noise and a tone have no words even if all of them counts as speech: the recogniser is unsure.
    if kind != "silence":
        found = transcribe(real, samples, tmp_path, [TimeSpan(0, 40 * SECOND)])
        assert found.words == ()
        assert {part.dropped_reason for part in found.utterances} <= {"no_speech", "repetition", "not_recognized"}


@pytest.mark.weights
def test_words_match_those_of_the_library(real, real_media, tmp_path):
    path = real_media("jfk.flac")
    model = faster_whisper.WhisperModel(str(real), compute_type="int8")
    segments, _ = model.transcribe(str(path), language="en", beam_size=1)
    assert normalised_words("".join(segment.text for segment in segments)) == normalised_words(
        text_of(transcribe(real, read_sound(path), tmp_path).words)
    )
