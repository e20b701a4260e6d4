"""Transcription by the true library: on tiny weights that always say the same, and on real ones where they are present."""

import itertools
import re
import shutil
import socket
import threading

import faster_whisper
import numpy as np
import pytest

from promptreel.media.speech import ActivityDetector
from promptreel.providers import local_models, whisper
from promptreel.providers.sound_samples import samples_of_spans
from promptreel.providers.transcript import text_of, words_of_span
from promptreel.providers.transcription import CHUNK_US, pack_speech
from promptreel.providers.weights import MODELS_VARIABLE
from promptreel.providers.whisper import WhisperTranscriber, find_weights, pull_weights
from promptreel.schemas.errors import ModelError, SettingsError
from promptreel.schemas.media import TimeSpan
from promptreel.schemas.settings import TranscriptionSettings
from tests.media_files import RATE, read_sound, silence, write_sound
from tests.tiny_models import WORDS, make_whisper, real_whisper

SECOND = 1_000_000
SENTENCE = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_whisper(tmp_path_factory.mktemp("whisper") / "tiny")


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """90 s of noise: the tiny model hears its words in any sound."""
    samples = np.random.default_rng(1).normal(0, 2000, 90 * RATE).astype(np.int16)
    return write_sound(tmp_path_factory.mktemp("noise") / "noise.flac", samples)


@pytest.fixture(scope="module")
def real():
    return real_whisper()


@pytest.fixture
def offline(monkeypatch):
    """Any connection, and any look-up of a name, fails the test."""

    def refuse(*arguments):
        pytest.fail(f"reached for the network: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def loads(monkeypatch):
    """Names of the models that are loaded while the test runs; none is there from before."""
    monkeypatch.setattr(local_models, "_models", {})
    found = []
    load = whisper._load
    monkeypatch.setattr(whisper, "_load", lambda *arguments: found.append(arguments[0].model) or load(*arguments))
    return found


def transcriber(model, **settings):
    return WhisperTranscriber(TranscriptionSettings(model=str(model), **settings))


def spans(*seconds):
    return [TimeSpan(round(start * SECOND), round(end * SECOND)) for start, end in seconds]


def spoken(text):
    return re.sub(r"[^a-z ]", "", text.lower()).split()


def hear(model, samples, folder, speech=None):
    """The transcript of samples whose speech the product's own detector finds."""
    if speech is None:
        detector = ActivityDetector()
        detector.add(samples)
        speech = detector.finish().spans
    return transcriber(model).transcribe(
        write_sound(folder / "item.flac", samples), speech, len(samples) * SECOND // RATE
    )


def test_words_stand_on_the_items_time(tiny, noise, offline):
    found = transcriber(tiny).transcribe(noise, spans((40, 46)), 90 * SECOND)
    assert tuple(word.text for word in found.words) == WORDS
    # The tiny model says one word a second from the beginning of the chunk, which begins before the speech.
    assert [word.end_us / SECOND - 40 for word in found.words] == pytest.approx([0.4, 1.4, 2.4, 3.4, 4.4], abs=0.1)


def test_words_of_a_packed_chunk_get_their_item_times(tiny, noise):
    found = transcriber(tiny).transcribe(noise, spans((10, 11), (30, 31), (70, 75)), 90 * SECOND)
    assert tuple(word.text for word in found.words) == WORDS
    assert [round(word.end_us / SECOND / 10) for word in found.words] == [1, 1, 3, 3, 7]


def test_chunks_of_one_batch_each_keep_their_words(tiny, noise):
    speech = spans((1, 26), (30, 55), (58, 62), (64, 88))
    assert len(pack_speech(speech, 90 * SECOND)) == 4
    found = transcriber(tiny).transcribe(noise, speech, 90 * SECOND)
    assert [word.text for word in found.words] == [*WORDS] * 4
    alone = [transcriber(tiny).transcribe(noise, [span], 90 * SECOND) for span in speech]
    assert list(found.words) == [word for part in alone for word in part.words]


def test_batches_of_every_size_give_the_same_words(tiny, noise, monkeypatch):
    speech = spans((1, 20), (22, 40), (42, 60), (62, 80))
    together = transcriber(tiny).transcribe(noise, speech, 90 * SECOND)
    monkeypatch.setattr(whisper, "BATCH", 1)
    assert transcriber(tiny).transcribe(noise, speech, 90 * SECOND) == together


def test_long_speech_is_transcribed_window_by_window(tiny, noise):
    found = transcriber(tiny).transcribe(noise, spans((2, 88)), 90 * SECOND)
    # Its words end early in each window, so that each of the windows is left at its end: 0, 29 and 58 s of 87.2.
    assert [word.text for word in found.words] == [*WORDS] * 4
    starts = [found.words[n].start_us / SECOND for n in range(0, 20, 5)]
    assert starts == pytest.approx([1.8, 30.4, 59.4, 88.4], abs=0.2)


def test_without_speech_the_model_is_not_even_loaded(tiny, noise, loads):
    found = transcriber(tiny).transcribe(noise, [], 90 * SECOND)
    assert (found.utterances, loads) == ((), [])


def test_doubtful_words_of_the_model_are_dropped(tmp_path, noise):
    doubtful = make_whisper(tmp_path / "doubtful", no_speech=True)
    found = transcriber(doubtful).transcribe(noise, spans((10, 20)), 90 * SECOND)
    assert found.words == ()
    assert [part.dropped_reason for part in found.utterances] == ["no_speech"]


def test_looping_chunk_is_transcribed_again_in_halves(tiny, noise, monkeypatch):
    # The model is taken to loop on the whole, and on its second half.
    looped = []

    def is_loop(hypothesis):
        looped.append(len(hypothesis.words))
        return len(looped) in (1, 3)

    monkeypatch.setattr(whisper, "is_loop", is_loop)
    found = transcriber(tiny).transcribe(noise, spans((10, 12), (30, 32), (50, 52), (70, 72)), 90 * SECOND)
    assert len(looped) == 3  # the chunk and its halves; a single stretch is not cut
    assert {round(word.end_us / SECOND / 10) for word in found.words} == {1, 3, 5, 7}


def languages(model, noise, **settings):
    found = transcriber(model, **settings).transcribe(noise, spans((10, 20)), 90 * SECOND)
    return [(part.language.code, part.language.probability is not None) for part in found.utterances]


def test_language_is_detected_or_given(tiny, tmp_path, noise):
    assert languages(tiny, noise) == [("de", True)]
    assert languages(tiny, noise, language="fr") == [("fr", False)]
    assert languages(tiny, noise, language="en, de") == [("de", True)]
    english = make_whisper(tmp_path / "english", is_multilingual=False)
    assert languages(english, noise, language="fr") == [("en", False)]


def test_changed_language_is_found_inside_a_chunk(tiny, tmp_path, monkeypatch):
    """The first 50 s are English, the rest is German, as far as the detector can tell from a part."""
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


def test_an_unknown_language_is_named_with_those_that_are_known(tiny, noise):
    with pytest.raises(ModelError, match=r"language is 'xx'.* de,.* fr,") as raised:
        transcriber(tiny, language="xx").transcribe(noise, spans((10, 20)), 90 * SECOND)
    assert raised.value.code == "transcription_failed"


def test_a_stop_ends_it_before_the_next_batch(tiny, noise, monkeypatch):
    monkeypatch.setattr(whisper, "BATCH", 1)
    asked = []

    def should_stop():
        asked.append(True)
        return len(asked) == 3

    speech = spans((1, 20), (22, 40), (42, 60), (62, 80))
    assert transcriber(tiny).transcribe(noise, speech, 90 * SECOND, should_stop) is None
    assert len(asked) == 3


def test_a_model_is_loaded_once_for_many_items_and_threads(tiny, noise, loads):
    found = []

    def work():
        for _ in range(3):
            found.append(transcriber(tiny).transcribe(noise, spans((10, 15)), 90 * SECOND))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert len(found) == 12
    assert len({repr(transcript) for transcript in found}) == 1


def test_a_load_that_failed_is_tried_again(tmp_path, tiny, noise, loads):
    folder = shutil.copytree(tiny, tmp_path / "model")
    whole = (folder / "model.bin").read_bytes()
    (folder / "model.bin").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"model: cannot be loaded .*; pull or convert them again") as raised:
        transcriber(folder).transcribe(noise, spans((10, 15)), 90 * SECOND)
    assert raised.value.code == "weights_missing"
    (folder / "model.bin").write_bytes(whole)
    assert transcriber(folder).transcribe(noise, spans((10, 15)), 90 * SECOND).words
    assert len(loads) == 2


@pytest.mark.parametrize("name", ["tokenizer.json", "vocabulary.json"])
def test_corrupt_model_files_are_a_model_error(tmp_path, tiny, noise, name):
    folder = shutil.copytree(tiny, tmp_path / "model")
    (folder / name).write_text("{ this is not it")
    with pytest.raises(ModelError, match="cannot be loaded"):
        transcriber(folder).transcribe(noise, spans((10, 15)), 90 * SECOND)


@pytest.mark.parametrize("name", ["tokenizer.json", "model.bin", "config.json"])
def test_incomplete_model_folder_is_rejected_offline(tmp_path, tiny, noise, name, offline):
    folder = shutil.copytree(tiny, tmp_path / "model")
    (folder / name).unlink()
    found = find_weights(str(folder))
    assert not found.available
    assert name in found.reason
    assert "CTranslate2" in found.fix
    with pytest.raises(ModelError, match=f"lacks {name}"):
        transcriber(folder).transcribe(noise, spans((10, 15)), 90 * SECOND)


def test_a_missing_folder_is_named(tmp_path, offline):
    found = find_weights(str(tmp_path / "nowhere"))
    assert not found.available
    assert str(tmp_path / "nowhere") in found.reason


def test_unknown_model_name_lists_the_known_names(offline, monkeypatch, tmp_path):
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    found = find_weights("huge")
    assert not found.available
    assert "'huge'" in found.reason
    assert "large-v3" in found.reason
    with pytest.raises(SettingsError, match="large-v3"):
        pull_weights("huge")


def test_missing_public_model_names_the_pull_command(offline, monkeypatch, tmp_path, noise):
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    found = find_weights("base")
    assert (found.available, found.size_bytes) == (False, 0)
    assert found.fix == "run: promptreel models pull whisper:base"
    with pytest.raises(ModelError, match="promptreel models pull whisper:base") as raised:
        transcriber("base").transcribe(noise, spans((10, 15)), 90 * SECOND)
    assert (raised.value.code, raised.value.retryable) == ("weights_missing", True)


def test_pulled_model_is_found_by_name_offline(offline, monkeypatch, tmp_path, tiny, noise):
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    repository = tmp_path / "models--Systran--faster-whisper-base"  # as the hub's library keeps it
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copytree(tiny, repository / "snapshots" / ("0" * 40))
    found = find_weights("base")
    assert (found.available, found.source) == (True, "models folder")
    assert found.size_bytes > 1_000_000
    model = transcriber("base")
    assert model.name == "whisper:base"
    assert tuple(word.text for word in model.transcribe(noise, spans((40, 46)), 90 * SECOND).words) == WORDS


def test_local_weights_are_named_by_their_content(tmp_path, tiny):
    folder = shutil.copytree(tiny, tmp_path / "tiny")
    assert transcriber(folder).name == transcriber(tiny).name
    content = bytearray((folder / "model.bin").read_bytes())
    content[-1] ^= 1
    (folder / "model.bin").write_bytes(content)
    assert transcriber(folder).name != transcriber(tiny).name
    assert transcriber(folder).name.startswith("whisper:tiny-")


@pytest.mark.parametrize("change", [{"language": "de"}, {"compute_type": "float32"}, {"beam_size": 2}])
def test_what_changes_a_transcript_is_in_its_fingerprint(tiny, change):
    assert transcriber(tiny, **change).fingerprint() != transcriber(tiny).fingerprint()


def test_sound_that_cannot_be_read_is_a_model_error(tiny, tmp_path):
    (tmp_path / "sound.flac").write_bytes(b"no sound")
    for name in ("sound.flac", "absent.flac"):
        with pytest.raises(ModelError, match=rf"{name}: (cannot be read|ends 5.0 s before)") as raised:
            transcriber(tiny).transcribe(tmp_path / name, spans((0, 5)), 5 * SECOND)
        assert raised.value.code == "transcription_failed"


def test_samples_of_spans_are_those_of_the_file(tmp_path):
    samples = np.random.default_rng(3).integers(-9000, 9000, 10 * RATE).astype(np.int16)
    path = write_sound(tmp_path / "sound.flac", samples)
    wanted = spans((0, 0.5), (0.5, 0.75), (3.1, 3.1001), (4, 8.25), (9.5, 10.9))  # the last ends behind the sound
    found = list(samples_of_spans(path, wanted))
    for span, part in zip(wanted, found, strict=True):
        expected = samples[span.start_us * RATE // SECOND : span.end_us * RATE // SECOND] / 32768
        np.testing.assert_allclose(part, expected, atol=1e-7)


# ---------------------------------------------------------------------------------- real words


@pytest.mark.weights
def test_real_words_are_heard_right(real, real_media, tmp_path):
    found = hear(real, read_sound(real_media("jfk.flac")), tmp_path)
    assert spoken(text_of(found.words)) == SENTENCE.split()
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
    plain = hear(real, samples, tmp_path)
    # Where it is spoken is told, for this is not a test of the detector.
    speech = [
        TimeSpan(span.start_us + round(shift * SECOND), span.end_us + round(shift * SECOND))
        for (start, shift), end in zip(shifts, cuts[1:], strict=True)
        for span in _speech_of(samples)
        if start <= span.start_us / SECOND < end
    ]
    found = hear(real, item, tmp_path, speech)
    assert spoken(text_of(found.words)) == SENTENCE.split()
    for word, original in zip(found.words, plain.words, strict=True):
        shift = next(s for start, s in reversed(shifts) if original.start_us / SECOND >= start - 0.3)
        assert word.start_us / SECOND == pytest.approx(original.start_us / SECOND + shift, abs=0.5)
        assert word.end_us / SECOND == pytest.approx(original.end_us / SECOND + shift, abs=0.5)
    edges = [TimeSpan(n * 10 * SECOND, (n + 1) * 10 * SECOND) for n in range(len(item) // RATE // 10 + 1)]
    handed = [word for span in edges for word in words_of_span(found.words, span, span is edges[-1])]
    assert handed == list(found.words)


@pytest.mark.weights
def test_unpaused_speech_loses_no_words_between_windows(real, real_media, tmp_path):
    samples = read_sound(real_media("jfk.flac"))
    once = np.concatenate(
        [samples[s.start_us * RATE // SECOND : s.end_us * RATE // SECOND] for s in _speech_of(samples)]
    )
    times = 9
    item = np.concatenate([once] * times)
    duration = len(item) * SECOND // RATE
    assert duration > 2 * CHUNK_US
    found = hear(real, item, tmp_path, [TimeSpan(0, duration)])
    # Word for word: the model mishears some ("american", "asks"), but a joint that lost or doubled one would shift the rest.
    heard = spoken(text_of(found.words))
    assert len(heard) == len(SENTENCE.split()) * times
    wrong = [(one, two) for one, two in zip(SENTENCE.split() * times, heard, strict=True) if one[:3] != two[:3]]
    assert wrong == []
    gaps = [two.start_us - one.end_us for one, two in itertools.pairwise(found.words)]
    assert max(gaps) < 1.2 * SECOND


@pytest.mark.weights
def test_repeated_sentence_is_not_a_loop(real, real_media, tmp_path):
    samples = read_sound(real_media("jfk.flac"))
    found = hear(real, np.concatenate([samples] * 4), tmp_path)
    assert spoken(text_of(found.words)) == SENTENCE.split() * 4


@pytest.mark.weights
@pytest.mark.parametrize("kind", ["silence", "noise", "tone"])
def test_sound_without_speech_gives_no_words(real, tmp_path, kind):
    count = 40 * RATE
    samples = {
        "silence": np.zeros(count, np.int16),
        "noise": np.random.default_rng(2).normal(0, 900, count).astype(np.int16),
        "tone": (9000 * np.sin(np.arange(count) * 0.17)).astype(np.int16),
    }[kind]
    detector = ActivityDetector()
    detector.add(samples)
    activity = detector.finish()
    from promptreel.providers.transcription import speech_of

    assert hear(real, samples, tmp_path, speech_of(activity)).words == ()
    # Even where it is told that all of it is speech, the recogniser's own doubts keep noise and tone silent.
    if kind != "silence":
        told = hear(real, samples, tmp_path, [TimeSpan(0, 40 * SECOND)])
        assert told.words == ()
        assert {part.dropped_reason for part in told.utterances} <= {"no_speech", "repetition", "not_recognized"}


@pytest.mark.weights
def test_our_words_are_those_of_the_library_called_directly(real, real_media, tmp_path):
    path = real_media("jfk.flac")
    model = faster_whisper.WhisperModel(str(real), compute_type="int8")
    segments, _ = model.transcribe(str(path), language="en", beam_size=1)
    assert spoken("".join(segment.text for segment in segments)) == spoken(
        text_of(hear(real, read_sound(path), tmp_path).words)
    )


def _speech_of(samples):
    detector = ActivityDetector()
    detector.add(samples)
    return detector.finish().spans
