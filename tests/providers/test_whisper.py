"""Transcription with faster-whisper on tiny weights that always output the same words."""

import threading

import numpy as np
import pytest

from promptreel.providers import whisper
from promptreel.providers.sound_samples import samples_of_spans
from promptreel.providers.transcription import pack_speech
from promptreel.schemas.errors import ModelError
from tests.media_files import RATE, write_sound
from tests.providers.whisper_calls import SECOND, spans, transcriber
from tests.tiny_models import WORDS, make_whisper


def test_words_have_item_times(tiny, noise, offline):
    found = transcriber(tiny).transcribe(noise, spans((40, 46)), 90 * SECOND)
    assert tuple(word.text for word in found.words) == WORDS
    # The tiny model outputs one word per second from the start of the chunk, which is before the speech.
    assert [word.end_us / SECOND - 40 for word in found.words] == pytest.approx([0.4, 1.4, 2.4, 3.4, 4.4], abs=0.1)


def test_words_of_a_packed_chunk_get_their_item_times(tiny, noise):
    found = transcriber(tiny).transcribe(noise, spans((10, 11), (30, 31), (70, 75)), 90 * SECOND)
    assert tuple(word.text for word in found.words) == WORDS
    assert [round(word.end_us / SECOND / 10) for word in found.words] == [1, 1, 3, 3, 7]


def test_each_chunk_of_a_batch_gets_its_own_words(tiny, noise):
    speech = spans((1, 26), (30, 55), (58, 62), (64, 88))
    assert len(pack_speech(speech, 90 * SECOND)) == 4
    found = transcriber(tiny).transcribe(noise, speech, 90 * SECOND)
    assert [word.text for word in found.words] == [*WORDS] * 4
    alone = [transcriber(tiny).transcribe(noise, [span], 90 * SECOND) for span in speech]
    assert list(found.words) == [word for part in alone for word in part.words]


def test_batch_size_does_not_change_the_words(tiny, noise, monkeypatch):
    speech = spans((1, 20), (22, 40), (42, 60), (62, 80))
    together = transcriber(tiny).transcribe(noise, speech, 90 * SECOND)
    monkeypatch.setattr(whisper, "BATCH", 1)
    assert transcriber(tiny).transcribe(noise, speech, 90 * SECOND) == together


def test_long_speech_is_transcribed_window_by_window(tiny, noise):
    found = transcriber(tiny).transcribe(noise, spans((2, 88)), 90 * SECOND)
    # The words end early in each window, so the next window starts at its end: 29, 58 and 87 s of 87.2 s.
    assert [word.text for word in found.words] == [*WORDS] * 4
    starts = [found.words[n].start_us / SECOND for n in range(0, 20, 5)]
    assert starts == pytest.approx([1.8, 30.4, 59.4, 88.4], abs=0.2)


def test_model_is_not_loaded_without_speech(tiny, noise, loads):
    found = transcriber(tiny).transcribe(noise, [], 90 * SECOND)
    assert (found.utterances, loads) == ((), [])


def test_doubtful_words_of_the_model_are_dropped(tmp_path, noise):
    doubtful = make_whisper(tmp_path / "doubtful", no_speech=True)
    found = transcriber(doubtful).transcribe(noise, spans((10, 20)), 90 * SECOND)
    assert found.words == ()
    assert [part.dropped_reason for part in found.utterances] == ["no_speech"]


def test_looping_chunk_is_transcribed_again_in_halves(tiny, noise, monkeypatch):
    # The chunk and its second half count as loops.
    looped = []

    def is_loop(hypothesis):
        looped.append(len(hypothesis.words))
        return len(looped) in (1, 3)

    monkeypatch.setattr(whisper, "is_loop", is_loop)
    found = transcriber(tiny).transcribe(noise, spans((10, 12), (30, 32), (50, 52), (70, 72)), 90 * SECOND)
    assert len(looped) == 3  # the chunk and its halves; a single piece is not split
    assert {round(word.end_us / SECOND / 10) for word in found.words} == {1, 3, 5, 7}


def detected_languages(model, noise, **settings):
    found = transcriber(model, **settings).transcribe(noise, spans((10, 20)), 90 * SECOND)
    return [(part.language.code, part.language.probability is not None) for part in found.utterances]


def test_language_is_detected_or_set(tiny, tmp_path, noise):
    assert detected_languages(tiny, noise) == [("de", True)]
    assert detected_languages(tiny, noise, language="fr") == [("fr", False)]
    assert detected_languages(tiny, noise, language="en, de") == [("de", True)]
    english = make_whisper(tmp_path / "english", is_multilingual=False)
    assert detected_languages(english, noise, language="fr") == [("en", False)]


def test_language_change_inside_a_chunk_is_found(tiny, tmp_path, monkeypatch):
    """The detector reports English for the first 50 s and German afterwards."""
    seconds = np.repeat(np.arange(90), RATE)
    sound = write_sound(tmp_path / "sound.flac", (100 * seconds).astype(np.int16))
    speech = spans((1, 9), (10, 19), (20, 30), (32, 41), (51, 57), (61, 69), (70, 80))
    assert [len(chunk.pieces) for chunk in pack_speech(speech, 90 * SECOND)] == [2, 3, 2]

    def detect(model, samples):
        english = 0.02 + 0.96 * float(np.mean(np.round(samples * 32768) < 100 * 50))
        return {"en": english, "de": 1 - english}

    monkeypatch.setattr(whisper, "_language_probabilities", detect)
    found = transcriber(tiny).transcribe(sound, speech, 90 * SECOND)
    assert [part.start_us for part in found.utterances] == [span.start_us for span in speech]
    assert [part.language.code for part in found.utterances] == ["en"] * 4 + ["de"] * 3


def test_unknown_language_lists_the_known_ones(tiny, noise):
    with pytest.raises(ModelError, match=r"language is 'xx'.* de,.* fr,") as raised:
        transcriber(tiny, language="xx").transcribe(noise, spans((10, 20)), 90 * SECOND)
    assert raised.value.code == "transcription_failed"


def test_transcription_stops_before_the_next_batch(tiny, noise, monkeypatch):
    monkeypatch.setattr(whisper, "BATCH", 1)
    checks = []

    def should_stop():
        checks.append(True)
        return len(checks) == 3

    speech = spans((1, 20), (22, 40), (42, 60), (62, 80))
    assert transcriber(tiny).transcribe(noise, speech, 90 * SECOND, should_stop) is None
    assert len(checks) == 3


def test_model_is_loaded_once_for_all_items_and_threads(tiny, noise, loads):
    found = []

    def transcribe_items():
        for _ in range(3):
            found.append(transcriber(tiny).transcribe(noise, spans((10, 15)), 90 * SECOND))

    threads = [threading.Thread(target=transcribe_items) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert len(found) == 12
    assert len({repr(transcript) for transcript in found}) == 1


def test_unreadable_sound_is_a_model_error(tiny, tmp_path):
    (tmp_path / "sound.flac").write_bytes(b"no sound")
    for name in ("sound.flac", "absent.flac"):
        with pytest.raises(ModelError, match=rf"{name}: (cannot be read|ends 5.0 s before)") as raised:
            transcriber(tiny).transcribe(tmp_path / name, spans((0, 5)), 5 * SECOND)
        assert raised.value.code == "transcription_failed"


def test_samples_of_spans_match_the_file(tmp_path):
    samples = np.random.default_rng(3).integers(-9000, 9000, 10 * RATE).astype(np.int16)
    path = write_sound(tmp_path / "sound.flac", samples)
    selected = spans((0, 0.5), (0.5, 0.75), (3.1, 3.1001), (4, 8.25), (9.5, 10.9))  # the last one ends after the sound
    found = list(samples_of_spans(path, selected))
    for span, part in zip(selected, found, strict=True):
        expected = samples[span.start_us * RATE // SECOND : span.end_us * RATE // SECOND] / 32768
        np.testing.assert_allclose(part, expected, atol=1e-7)
