"""Packing speech for a recogniser, and placing the words that come back."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptreel.providers.transcription import (
    CHUNK_US,
    COMPRESSION_RATIO,
    EDGE_US,
    LOG_PROBABILITY,
    NO_SPEECH_PROBABILITY,
    PAD_US,
    STRAY_US,
    Transcript,
    Utterance,
    halves_of,
    is_hallucination,
    is_loop,
    near_speech,
    pack_speech,
    speech_of,
    spoken_words,
    text_of,
    to_item_words,
    transcript_from_dict,
    words_of_span,
)
from promptreel.schemas.media import SoundActivity, TimeSpan
from promptreel.schemas.records import Word

SECOND = 1_000_000


@st.composite
def items(draw):
    """(speech, duration): stretches in order and apart, with pauses of all lengths; the item ends with quiet or not."""
    at, speech = 0, []
    for pause, length in draw(
        st.lists(st.tuples(st.integers(1, 40 * SECOND), st.integers(1, 45 * SECOND)), min_size=1, max_size=30)
    ):
        speech.append(TimeSpan(at + pause, at + pause + length))
        at += pause + length
    return speech, at + draw(st.integers(0, 5 * SECOND))


def pieces_of(chunks):
    return [piece for chunk in chunks for piece in chunk.pieces]


def word(start, end, text=" w"):
    return Word(start, end, text, 0.9)


@given(items())
def test_packing_covers_each_stretch_of_speech_once_and_in_order(item):
    speech, duration = item
    pieces = pieces_of(pack_speech(speech, duration))
    assert [piece.speech for piece in pieces] == speech
    for piece, span in zip(pieces, speech, strict=True):
        assert piece.span.start_us <= span.start_us < span.end_us <= piece.span.end_us


@given(items())
def test_padding_never_overlaps_nor_leaves_the_item_nor_exceeds_its_size(item):
    speech, duration = item
    pieces = pieces_of(pack_speech(speech, duration))
    assert pieces[0].span.start_us >= 0
    assert pieces[-1].span.end_us <= duration
    for one, two in itertools.pairwise(pieces):
        assert one.span.end_us <= two.span.start_us
    for piece, span in zip(pieces, speech, strict=True):
        assert span.start_us - piece.span.start_us <= PAD_US
        assert piece.span.end_us - span.end_us <= PAD_US


@given(items())
def test_a_chunk_is_longer_than_the_window_only_where_one_stretch_is(item):
    speech, duration = item
    for chunk in pack_speech(speech, duration):
        assert chunk.duration_us <= CHUNK_US or len(chunk.pieces) == 1
        at = 0
        for piece in chunk.pieces:
            assert piece.at_us == at
            at += piece.span.duration_us
        assert chunk.duration_us == at


@given(items())
def test_packing_is_greedy_so_that_no_two_neighbours_would_fit_into_one_chunk(item):
    speech, duration = item
    for one, two in itertools.pairwise(pack_speech(speech, duration)):
        assert one.duration_us + two.pieces[0].span.duration_us > CHUNK_US


def test_no_speech_is_no_chunk():
    assert pack_speech([], 10 * SECOND) == ()


def test_speech_of_sound_that_only_a_level_detector_has_heard_is_none():
    spans = (TimeSpan(0, SECOND),)
    assert speech_of(SoundActivity("level", spans)) == ()
    assert speech_of(SoundActivity("silero", spans)) == spans


@given(items(), st.data())
def test_placing_is_the_inverse_of_packing(item, data):
    speech, duration = item
    for chunk in pack_speech(speech, duration):
        for piece in chunk.pieces:
            span = piece.speech
            start = data.draw(st.integers(span.start_us, span.end_us - 1))
            end = data.draw(st.integers(start + 1, span.end_us))
            shift = piece.at_us - piece.span.start_us
            assert to_item_words(chunk, [word(start + shift, end + shift)]) == [word(start, end)]


@given(items(), st.data())
def test_a_placed_word_lies_inside_one_piece_whatever_its_times(item, data):
    speech, duration = item
    for chunk in pack_speech(speech, duration):
        start = data.draw(st.integers(0, chunk.duration_us + SECOND))
        (placed,) = to_item_words(chunk, [word(start, start + data.draw(st.integers(0, 3 * SECOND)))])
        assert placed.start_us <= placed.end_us
        assert any(
            piece.span.start_us <= placed.start_us and placed.end_us <= piece.span.end_us for piece in chunk.pieces
        )


def test_a_word_that_begins_in_the_quiet_before_its_speech_is_placed_with_its_speech():
    # "ask" is spoken at 30.0 s, but the recogniser counts the quiet at the join as part of it.
    (chunk,) = pack_speech([TimeSpan(10 * SECOND, 12 * SECOND), TimeSpan(30 * SECOND, 32 * SECOND)], 60 * SECOND)
    first, second = chunk.pieces
    start = first.at_us + PAD_US + 2 * SECOND + 50_000  # 50 ms behind the end of the first speech
    end = second.at_us + PAD_US + 400_000
    (placed,) = to_item_words(chunk, [word(start, end)])
    assert placed == word(30 * SECOND - EDGE_US, 30 * SECOND + 400_000)


def test_halves_of_a_chunk_hold_its_pieces_from_a_new_beginning():
    speech = [TimeSpan(n * 10 * SECOND, n * 10 * SECOND + 3 * SECOND) for n in range(5)]
    (chunk,) = pack_speech(speech, 60 * SECOND)
    one, two = halves_of(chunk)
    assert [piece.speech for piece in (*one.pieces, *two.pieces)] == speech
    assert one.pieces[0].at_us == two.pieces[0].at_us == 0
    assert one.duration_us + two.duration_us == chunk.duration_us


@given(
    st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 5_000)), max_size=40),
    st.lists(st.integers(1, 99_999), max_size=8, unique=True),
)
def test_every_word_belongs_to_exactly_one_segment_of_any_partition(times, cuts):
    words = [word(start, start + length, f" {n}") for n, (start, length) in enumerate(times)]
    edges = [0, *sorted(cuts), 100_000]
    spans = [TimeSpan(start, end) for start, end in itertools.pairwise(edges)]
    found = [words_of_span(words, span, is_last=span is spans[-1]) for span in spans]
    assert sorted(part.text for words in found for part in words) == sorted(part.text for part in words)


def test_a_word_across_an_edge_goes_to_the_segment_that_holds_its_middle():
    across = [word(900, 1300)]
    assert words_of_span(across, TimeSpan(0, 1000)) == ()
    assert words_of_span(across, TimeSpan(1000, 2000)) == tuple(across)


def utterance(no_speech=0.0, log_probability=0.0, ratio=1.0, words=(word(0, 300_000),)):
    return Utterance(tuple(words), no_speech, log_probability, ratio)


@pytest.mark.parametrize(
    ("no_speech", "log_probability", "is_invented"),
    [
        (NO_SPEECH_PROBABILITY + 0.01, LOG_PROBABILITY - 0.01, True),
        (NO_SPEECH_PROBABILITY, LOG_PROBABILITY - 0.01, False),
        (NO_SPEECH_PROBABILITY + 0.01, LOG_PROBABILITY, False),
        (1.0, -0.1, False),
        (0.0, -5.0, False),
    ],
)
def test_words_are_invented_where_the_recogniser_doubts_speech_and_is_unsure(no_speech, log_probability, is_invented):
    assert is_hallucination(utterance(no_speech, log_probability)) is is_invented


def test_the_thresholds_are_those_of_the_whisper_reference_code():
    assert (NO_SPEECH_PROBABILITY, LOG_PROBABILITY, COMPRESSION_RATIO) == (0.6, -1.0, 2.4)


def test_repeated_words_that_take_no_time_are_a_loop_and_those_that_take_time_were_spoken():
    spoken = [word(n * 300_000, (n + 1) * 300_000) for n in range(10)]
    crowded = [word(3 * SECOND, 3 * SECOND) for _ in range(11)]
    assert not is_hallucination(utterance(ratio=5, words=spoken))
    assert is_hallucination(utterance(ratio=5, words=[*spoken, *crowded]))
    assert not is_loop(utterance(ratio=COMPRESSION_RATIO, words=[*spoken, *crowded]))


def test_a_turn_of_the_loop_in_repeated_speech_is_left_out_but_no_single_word_without_time():
    spoken = [word(n * 300_000, (n + 1) * 300_000) for n in range(10)]
    crowded = word(3 * SECOND, 3 * SECOND)
    assert spoken_words(utterance(ratio=5, words=[*spoken, *[crowded] * 3, *spoken])) == (*spoken, *spoken)
    assert spoken_words(utterance(ratio=5, words=[*spoken, crowded, crowded])) == (*spoken, crowded, crowded)
    assert spoken_words(utterance(ratio=1, words=[*spoken, *[crowded] * 3])) == (*spoken, *[crowded] * 3)


def test_a_word_far_from_all_speech_is_left_out():
    speech = [TimeSpan(10 * SECOND, 12 * SECOND)]
    at_edge, beyond = word(12 * SECOND + STRAY_US, 13 * SECOND), word(12 * SECOND + STRAY_US + 1, 13 * SECOND)
    before = word(9 * SECOND, 10 * SECOND - STRAY_US)
    assert near_speech([before, at_edge, beyond], speech) == [before, at_edge]


def test_a_transcript_survives_json():
    transcript = Transcript("whisper:base", "de", (word(5, 9, " Straße"), word(9, 12, " eins")), 2)
    assert transcript_from_dict(transcript.to_dict()) == transcript
    assert text_of(transcript.words) == "Straße eins"
