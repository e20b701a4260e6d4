"""Pack speech for a recogniser, and map its words to item time."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptreel.providers.transcript import (
    DROPPED_REASONS,
    Language,
    Transcript,
    Utterance,
    dominant_language,
    text_of,
    transcript_from_dict,
    utterances_of_span,
    words_of_span,
)
from promptreel.providers.transcription import (
    CHUNK_US,
    COMPRESSION_RATIO,
    EDGE_US,
    LOG_PROBABILITY,
    NO_SPEECH_PROBABILITY,
    PAD_US,
    STRAY_US,
    Hypothesis,
    drop_reason,
    is_loop,
    is_near_speech,
    join_pieces,
    pack_speech,
    speech_of,
    spoken_words,
    to_item_words,
    utterances_of,
)
from promptreel.schemas.media import SoundActivity, TimeSpan
from promptreel.schemas.speech_rows import Word

SECOND = 1_000_000


@st.composite
def items(draw):
    """Generate (speech, duration): ordered stretches with pauses of any length, with or without silence at the end."""
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
def test_padding_is_bounded_by_item_neighbours_and_pad_length(item):
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
def test_chunk_exceeds_the_window_only_with_a_single_piece(item):
    speech, duration = item
    for chunk in pack_speech(speech, duration):
        assert chunk.duration_us <= CHUNK_US or len(chunk.pieces) == 1
        at = 0
        for piece in chunk.pieces:
            assert piece.at_us == at
            at += piece.span.duration_us
        assert chunk.duration_us == at


@given(items())
def test_packing_is_greedy(item):
    speech, duration = item
    for one, two in itertools.pairwise(pack_speech(speech, duration)):
        assert one.duration_us + two.pieces[0].span.duration_us > CHUNK_US


def test_no_speech_yields_no_chunks():
    assert pack_speech([], 10 * SECOND) == ()


def test_level_detector_reports_no_speech():
    spans = (TimeSpan(0, SECOND),)
    assert speech_of(SoundActivity("level", spans)) == ()
    assert speech_of(SoundActivity("silero", spans)) == spans


@given(items(), st.data())
def test_mapping_to_item_time_inverts_packing(item, data):
    speech, duration = item
    for chunk in pack_speech(speech, duration):
        for piece in chunk.pieces:
            span = piece.speech
            start = data.draw(st.integers(span.start_us, span.end_us - 1))
            end = data.draw(st.integers(start + 1, span.end_us))
            shift = piece.at_us - piece.span.start_us
            assert to_item_words(chunk, [word(start + shift, end + shift)]) == [(piece, word(start, end))]


@given(items(), st.data())
def test_mapped_word_is_inside_one_piece(item, data):
    speech, duration = item
    for chunk in pack_speech(speech, duration):
        start = data.draw(st.integers(0, chunk.duration_us + SECOND))
        ((_, placed),) = to_item_words(chunk, [word(start, start + data.draw(st.integers(0, 3 * SECOND)))])
        assert placed.start_us <= placed.end_us
        assert any(
            piece.span.start_us <= placed.start_us and placed.end_us <= piece.span.end_us for piece in chunk.pieces
        )


def test_word_that_starts_before_its_speech_is_moved_to_it():
    # "ask" is spoken at 30.0 s, but the recogniser adds the silence at the join to it.
    (chunk,) = pack_speech([TimeSpan(10 * SECOND, 12 * SECOND), TimeSpan(30 * SECOND, 32 * SECOND)], 60 * SECOND)
    first, second = chunk.pieces
    start = first.at_us + PAD_US + 2 * SECOND + 50_000  # 50 ms after the end of the first speech
    end = second.at_us + PAD_US + 400_000
    ((piece, placed),) = to_item_words(chunk, [word(start, end)])
    assert piece is second
    assert placed == word(30 * SECOND - EDGE_US, 30 * SECOND + 400_000)


def test_joined_pieces_start_at_zero_without_gaps():
    speech = [TimeSpan(n * 10 * SECOND, n * 10 * SECOND + 3 * SECOND) for n in range(5)]
    (chunk,) = pack_speech(speech, 60 * SECOND)
    assert join_pieces(chunk.pieces) == chunk
    rest = join_pieces(chunk.pieces[2:])
    assert [piece.speech for piece in rest.pieces] == speech[2:]
    assert rest.pieces[0].at_us == 0
    assert rest.duration_us == sum(piece.span.duration_us for piece in chunk.pieces[2:])


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


def test_word_across_an_edge_belongs_to_its_midpoints_segment():
    across = [word(900, 1300)]
    assert words_of_span(across, TimeSpan(0, 1000)) == ()
    assert words_of_span(across, TimeSpan(1000, 2000)) == tuple(across)


def hypothesis(no_speech=0.0, log_probability=0.0, ratio=1.0, words=(word(0, 300_000),)):
    return Hypothesis(tuple(words), no_speech, log_probability, ratio)


@pytest.mark.parametrize(
    ("no_speech", "log_probability", "is_dropped"),
    [
        (NO_SPEECH_PROBABILITY + 0.01, LOG_PROBABILITY - 0.01, True),
        (NO_SPEECH_PROBABILITY, LOG_PROBABILITY - 0.01, False),
        (NO_SPEECH_PROBABILITY + 0.01, LOG_PROBABILITY, False),
        (1.0, -0.1, False),
        (0.0, -5.0, False),
    ],
)
def test_words_are_dropped_if_speech_and_text_are_doubtful(no_speech, log_probability, is_dropped):
    assert drop_reason(hypothesis(no_speech, log_probability)) == ("no_speech" if is_dropped else None)


def test_thresholds_match_the_whisper_reference_code():
    assert (NO_SPEECH_PROBABILITY, LOG_PROBABILITY, COMPRESSION_RATIO) == (0.6, -1.0, 2.4)


def test_repeated_words_are_a_loop_only_without_duration():
    spoken = [word(n * 300_000, (n + 1) * 300_000) for n in range(10)]
    crowded = [word(3 * SECOND, 3 * SECOND) for _ in range(11)]
    assert drop_reason(hypothesis(ratio=5, words=spoken)) is None
    assert drop_reason(hypothesis(ratio=5, words=[*spoken, *crowded])) == "repetition"
    assert not is_loop(hypothesis(ratio=COMPRESSION_RATIO, words=[*spoken, *crowded]))


def test_loop_within_repeated_speech_is_dropped():
    spoken = [word(n * 300_000, (n + 1) * 300_000) for n in range(10)]
    crowded = word(3 * SECOND, 3 * SECOND)
    assert spoken_words(hypothesis(ratio=5, words=[*spoken, *[crowded] * 3, *spoken])) == (*spoken, *spoken)
    assert spoken_words(hypothesis(ratio=5, words=[*spoken, crowded, crowded])) == (*spoken, crowded, crowded)
    assert spoken_words(hypothesis(ratio=1, words=[*spoken, *[crowded] * 3])) == (*spoken, *[crowded] * 3)


def test_word_far_from_all_speech_is_dropped():
    speech = [TimeSpan(10 * SECOND, 12 * SECOND)]
    at_edge, beyond = word(12 * SECOND + STRAY_US, 13 * SECOND), word(12 * SECOND + STRAY_US + 1, 13 * SECOND)
    before = word(9 * SECOND, 10 * SECOND - STRAY_US)
    assert [is_near_speech(one, speech) for one in (before, at_edge, beyond)] == [True, True, False]


def test_every_stretch_of_speech_has_an_utterance():
    speech = [TimeSpan(n * 5 * SECOND, n * 5 * SECOND + 2 * SECOND) for n in range(1, 5)]
    (chunk,) = pack_speech(speech, 60 * SECOND)

    def at(number, text):
        start_us = chunk.pieces[number].at_us + PAD_US
        return word(start_us + SECOND, start_us + 2 * SECOND, text)

    hypotheses = [
        hypothesis(words=[at(0, " one")]),
        hypothesis(no_speech=0.9, log_probability=-2, words=[at(1, " thanks")]),
        hypothesis(ratio=5, words=[at(2, " la")] + [word(at(2, "").end_us, at(2, "").end_us, " la")] * 5),
    ]
    found = utterances_of(chunk, hypotheses, Language("en", 0.9), speech)
    assert [(part.start_us, part.end_us) for part in found] == [(span.start_us, span.end_us) for span in speech]
    assert [part.dropped_reason for part in found] == [None, "no_speech", "repetition", "not_recognized"]
    assert [part.text for part in found] == ["one", "thanks", "la la la la la la", ""]
    assert [len(part.words) for part in found] == [1, 0, 0, 0]
    assert [part.no_speech_probability for part in found] == [0.0, 0.9, 0.0, None]
    assert {part.dropped_reason for part in found} - {None} <= set(DROPPED_REASONS)


def utterance(start, end, *words, code="de", probability=0.9, reason=None):
    return Utterance(start, end, Language(code, probability), words, text_of(words), reason)


def test_transcript_round_trips_through_json():
    spoken = utterance(0, 20, word(5, 9, " Straße"), word(9, 12, " eins"))
    silent = utterance(30, 40, code="en", probability=None, reason="not_recognized")
    transcript = Transcript("whisper:base", (spoken, silent))
    assert transcript_from_dict(json.loads(json.dumps(transcript.to_dict()))) == transcript
    assert text_of(transcript.words) == "Straße eins"


def test_dominant_language_has_the_most_words():
    german = utterance(0, 9, word(0, 1), word(1, 2), probability=0.6)
    more = utterance(9, 12, word(9, 10), probability=0.9)
    english = utterance(20, 30, word(20, 21), word(22, 23), code="en")
    silent = utterance(40, 90, code="fr", reason="no_speech")
    assert dominant_language([german, english, more, silent]) == Language("de", 0.7)
    assert dominant_language([silent]) is None
    assert dominant_language([utterance(0, 9, word(0, 1), probability=None)]) == Language("de")


def test_utterances_are_split_between_segments_by_their_words():
    first, second, third = TimeSpan(0, 1000), TimeSpan(1000, 2000), TimeSpan(2000, 3000)
    across = utterance(800, 1300, word(800, 900, " a"), word(950, 1100, " b"))
    silent = utterance(1900, 2200, reason="not_recognized")
    found = [utterances_of_span([across, silent], span, span is third) for span in (first, second, third)]
    assert found[0] == (utterance(800, 1000, word(800, 900, " a")),)
    assert found[1] == (utterance(1000, 1300, word(950, 1100, " b")),)
    assert found[2] == (silent,)
