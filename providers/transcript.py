"""The transcript of an item: utterances and their words, and the selection of those in a segment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import TypeAdapter

from promptreel.schemas.media import TimeSpan
from promptreel.schemas.speech_rows import Word


@dataclass(frozen=True, slots=True)
class Language:
    """A spoken language.

    Attributes:
        code: ISO 639-1 code.
        probability: 0..1 as detected; None if the user set the language.
    """

    code: str
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Utterance:
    """One stretch of speech between two pauses.

    Attributes:
        start_us, end_us: where the speech detector found it, in item time.
        words: in order, in item time; empty if the recogniser's output was dropped.
        text: the words as text, including dropped ones.
        dropped_reason: a key of `DROPPED_REASONS`; None if the words are part of the transcript.
        no_speech_probability, mean_log_probability, compression_ratio: the recogniser's confidence; None without output.
        channel: 0 for the left and 1 for the right channel, if each has its own speaker; otherwise None.
    """

    start_us: int
    end_us: int
    language: Language
    words: tuple[Word, ...]
    text: str
    dropped_reason: str | None = None
    no_speech_probability: float | None = None
    mean_log_probability: float | None = None
    compression_ratio: float | None = None
    channel: int | None = None


DROPPED_REASONS: Final = {
    "no_speech": "the recogniser probably heard no speech, and is unsure of its words",
    "repetition": "the recogniser repeats words that have no duration",
    "not_recognized": "the recogniser found no words in this stretch of speech",
}


@dataclass(frozen=True, slots=True)
class Transcript:
    """Everything spoken in one item.

    Attributes:
        model: the recogniser's name.
        utterances: every stretch of speech in order of time, including those without words.
    """

    model: str
    utterances: tuple[Utterance, ...]

    @property
    def words(self) -> tuple[Word, ...]:
        """All words, one utterance after the other: people who speak at the same time do not interrupt each other."""
        return tuple(word for utterance in self.utterances for word in utterance.words)

    def to_dict(self) -> dict[str, Any]:
        """Return the transcript as JSON values, for `transcript_from_dict`."""
        return {"model": self.model, "utterances": [_UTTERANCE.dump_python(part) for part in self.utterances]}


_UTTERANCE: Final = TypeAdapter(Utterance)


def merge_channels(channels: Sequence[Transcript]) -> Transcript:
    """Return the transcripts of an item's channels as one, in order of time."""
    numbered = (replace(part, channel=number) for number, one in enumerate(channels) for part in one.utterances)
    return Transcript(channels[0].model, tuple(sorted(numbered, key=lambda part: (part.start_us, part.channel))))


def transcript_from_dict(values: Any) -> Transcript:
    """Load what `Transcript.to_dict` returned."""
    return Transcript(values["model"], tuple(_UTTERANCE.validate_python(part) for part in values["utterances"]))


def dominant_language(utterances: Iterable[Utterance]) -> Language | None:
    """Return the language with the most words, with its mean probability over those words; None without words."""
    weights: dict[str, int] = {}
    sums: dict[str, float | None] = {}
    for utterance in utterances:
        code, probability = utterance.language.code, utterance.language.probability
        weights[code] = weights.get(code, 0) + len(utterance.words)
        total = sums.get(code, 0.0)
        sums[code] = None if probability is None or total is None else total + probability * len(utterance.words)
    if not any(weights.values()):
        return None
    code = max(weights, key=lambda code: (weights[code], code))
    total = sums[code]
    return Language(code, None if total is None else round(total / weights[code], 4))


def words_of_span(words: Sequence[Word], span: TimeSpan, is_last: bool = False) -> tuple[Word, ...]:
    """Return the words whose middle is in [start, end); the item's last segment also includes those after its end."""
    return tuple(
        word
        for word in words
        if span.start_us <= (word.start_us + word.end_us) // 2 and (is_last or _is_middle_before(word, span.end_us))
    )


def utterances_of_span(utterances: Iterable[Utterance], span: TimeSpan, is_last: bool = False) -> tuple[Utterance, ...]:
    """Return the utterances in a segment, each cut to the words that belong to it.

    An utterance without words belongs to the segment that contains its middle.
    """
    selected = []
    for utterance in utterances:
        middle = Word(utterance.start_us, utterance.end_us, utterance.text, 0.0)
        words = words_of_span(utterance.words or (middle,), span, is_last)
        if not words:
            continue
        if not utterance.words or words == utterance.words:
            selected.append(utterance)
        else:
            start_us, end_us = max(utterance.start_us, span.start_us), min(utterance.end_us, span.end_us)
            end_us = max(start_us, end_us)
            selected.append(replace(utterance, start_us=start_us, end_us=end_us, words=words, text=text_of(words)))
    return tuple(selected)


def text_of(words: Iterable[Word]) -> str:
    """Return the words as text; each word includes its leading space, if its language uses spaces."""
    return "".join(word.text for word in words).strip()


def _is_middle_before(word: Word, end_us: int) -> bool:
    return (word.start_us + word.end_us) // 2 < end_us
