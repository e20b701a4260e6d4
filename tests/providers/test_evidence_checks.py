"""Verdicts on evidence, and the comparison of quotes with words."""

import pytest

from promptreel.providers.evidence_checks import EvidenceClaim, SegmentFacts, check_claim, has_value, read_claim
from promptreel.providers.quote_match import quote_score
from promptreel.schemas.media import TimeSpan
from promptreel.schemas.speech_rows import Word

SECOND = 1_000_000
WORDS = tuple(
    Word(10 * SECOND + at * SECOND, 11 * SECOND + at * SECOND, f" {text}", 0.9)
    for at, text in enumerate(("The", "ferry", "leaves", "at", "nine", "o'clock", "from", "pier", "two."))
)
FRAMES = tuple(range(10 * SECOND, 20 * SECOND, SECOND))
SEGMENT = SegmentFacts(TimeSpan(10 * SECOND, 20 * SECOND), False, FRAMES, WORDS)
SILENT = SegmentFacts(SEGMENT.span, False, FRAMES, None)
IMAGE = SegmentFacts(TimeSpan(0, 0), True, (0,), None)


def checked(part, facts=SEGMENT, screen=None):
    return check_claim(read_claim({"where": part}, "where", facts), facts, screen)


def spoken(quote, start=1, end=5):
    return {"start": start, "end": end, "quote": quote, "quote_source": "speech"}


@pytest.mark.parametrize(
    ("part", "facts", "screen", "verdict"),
    [
        (spoken("leaves at nine o'clock"), SEGMENT, None, "confirmed"),
        (spoken("Leaves at NINE oclock!"), SEGMENT, None, "confirmed"),
        (spoken("leavs at nine o'clock"), SEGMENT, None, "confirmed"),
        (spoken("the train arrives at noon"), SEGMENT, None, "not_found"),
        (spoken("from pier two", 0, 2), SEGMENT, None, "not_found"),
        (spoken("leaves at nine", "00:01", "0:05"), SEGMENT, None, "confirmed"),
        (spoken("leaves at nine"), SILENT, None, "not_checked"),
        (spoken("...", 1, 5), SEGMENT, None, "not_checked"),
        (spoken(None), SEGMENT, None, "span_only"),
        (spoken("  "), SEGMENT, None, "span_only"),
        (spoken("leaves at nine", 1, 11.0), SEGMENT, None, "confirmed"),
        (spoken("leaves at nine", 1, 11.5), SEGMENT, None, "outside_segment"),
        (spoken(None, -1.5, 2), SEGMENT, None, "outside_segment"),
        ({"start": 2, "end": 4, "quote": "PIER 2", "quote_source": "screen"}, SEGMENT, ["Pier", "2"], "confirmed"),
        ({"start": 2, "end": 4, "quote": "PIER 2", "quote_source": "screen"}, SEGMENT, ["Exit"], "not_found"),
        ({"start": 2, "end": 4, "quote": "PIER 2", "quote_source": "screen"}, SEGMENT, None, "not_checked"),
        ({"start": None, "end": None, "quote": "PIER 2", "quote_source": "screen"}, IMAGE, ["PIER 2"], "confirmed"),
        ({"start": None, "end": None, "quote": None, "quote_source": "none"}, IMAGE, None, "not_checked"),
    ],
)
def test_verdict_follows_span_and_quote(part, facts, screen, verdict):
    assert checked(part, facts, screen).verdict == verdict


@pytest.mark.parametrize(
    "part",
    [
        None,
        "0:01",
        [1, 2],
        {},
        spoken("leaves at nine", None, None),
        spoken("leaves at nine", 5, 1),
        spoken("leaves at nine", True, False),
        spoken("leaves at nine", float("nan"), 2),
        spoken("leaves at nine", "soon", "later"),
        spoken("leaves at nine", {"s": 1}, [2]),
        spoken("leaves at nine", 1, 1e30),
    ],
)
def test_malformed_evidence_is_missing(part):
    found = checked(part)
    assert (found.verdict, found.claim, found.frame_us) == ("missing", EvidenceClaim(), None)


@pytest.mark.parametrize("evidence", [None, "nothing", [], 3, {"other": spoken("leaves")}])
def test_evidence_without_the_field_is_missing(evidence):
    assert read_claim(evidence, "where", SEGMENT) is None


@pytest.mark.parametrize(
    ("start", "end", "frame"), [(1, 5, 13), (2.2, 2.6, 12), (4, 4, 14), (None, 3, 13), (0, 0.4, 10), (9.9, 10.5, 19)]
)
def test_frame_is_the_sampled_one_closest_to_the_middle(start, end, frame):
    assert checked(spoken(None, start, end)).frame_us == frame * SECOND


def test_sound_has_no_frame():
    facts = SegmentFacts(SEGMENT.span, False, (), WORDS)
    assert checked(spoken("leaves at nine"), facts).frame_us is None


@pytest.mark.parametrize(
    ("value", "expected"), [(None, False), ("", False), ([], False), ({}, False), (0, True), (False, True), ("a", True)]
)
def test_only_a_value_has_evidence(value, expected):
    assert has_value(value) is expected


@pytest.mark.parametrize(
    ("quote", "words", "minimum", "maximum"),
    [
        ("明日は晴れです", ["明日", "は", "晴れ", "です", "。"], 100, 100),
        ("Straße", ["STRASSE"], 100, 100),
        ("no", ["know", "nothing"], 0, 84),
        ("nine", [], 0, 0),
        ("a" * 5000, ["a"] * 5000, 100, 100),
    ],
)
def test_quote_is_compared_by_letters_of_complete_words(quote, words, minimum, maximum):
    assert minimum <= quote_score(quote, words) <= maximum


def test_quote_without_a_letter_has_no_score():
    assert quote_score("... !", ["nine"]) is None
