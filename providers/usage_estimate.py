"""Estimate the usage and the cost of a run's calls before they are made, each with its spread.

The calls of one kind are estimated together: those for the segments of an item, those that mark its segments, its synthesis,
and its embeddings.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from promptreel.providers.answer_estimate import CHARS_PER_TOKEN, LIST_LENGTH, TEXT_CHARS, answer_tokens, thought_tokens
from promptreel.providers.base import Usage
from promptreel.providers.evidence_format import instruction_with_evidence, schema_with_evidence
from promptreel.providers.extraction import extraction_instruction
from promptreel.providers.marking import MARKS_SCHEMA, marking_instruction
from promptreel.providers.prices import cost_nanos
from promptreel.providers.synthesis import synthesis_instruction
from promptreel.providers.token_estimate import input_tokens, marking_tokens
from promptreel.schemas.evidence import evidence_fields
from promptreel.schemas.media import MediaType, TimeSpan
from promptreel.schemas.mediatime import US_PER_SECOND
from promptreel.schemas.prices import NANOS_PER_UNIT, ModelPrice
from promptreel.schemas.prompt import SYSTEM_FIELDS, Prompt
from promptreel.schemas.segmentation import SegmentationSettings
from promptreel.schemas.settings import RunSettings
from promptreel.schemas.spread import ZERO, Spread, total
from promptreel.schemas.tiers import Tier

CallKind = Literal["video", "audio", "image", "segmentation", "synthesis", "embedding"]
# Maps the length of segments in seconds to their number: with the fewest, the expected and the most segments.
Lengths = tuple[Mapping[float, float], Mapping[float, float], Mapping[float, float]]

# A service caches a shared instruction of at least this length by itself, if it caches at all.
_MIN_CACHED_TOKENS: Final = 1024
_FINDING_HEAD_CHARS: Final = 24  # the line with the times of a segment in the input of a synthesis
_SPEECH_TOKENS_PER_SECOND: Final = Spread(0, 2, 4)
_TEXT_ERROR: Final = 0.15  # of tokens estimated from characters


@dataclass(frozen=True, slots=True)
class CallUsage:
    """The estimated usage of all calls of one kind.

    Attributes:
        calls: number of calls.
        input: input tokens of all calls, with those of sound, without the response schema.
        audio: input tokens of sound.
        schema_tokens: tokens of the response schema in one call; not every service counts them.
        instruction_tokens: tokens that all calls share.
        output, thoughts: output and thought tokens of one call.
        cached_share: share of the input that the service reads from its cache; None if it is unknown.
    """

    kind: CallKind
    calls: Spread
    input: Spread
    audio: Spread = ZERO
    schema_tokens: float = 0.0
    instruction_tokens: float = 0.0
    output: Spread = ZERO
    thoughts: Spread = ZERO
    cached_share: float | None = None

    def total_input(self) -> Spread:
        """Return the input tokens of all calls; the highest value includes the response schema."""
        return self.input + Spread(0, 0, self.schema_tokens * self.calls.high)

    def total_output(self) -> Spread:
        """Return the output tokens of all calls, including thoughts, which are billed as output."""
        return self.calls * (self.output + self.thoughts)

    def cost(self, price: ModelPrice, tier: Tier) -> Spread:
        """Return the cost of all calls in units of the price's currency."""
        bounds = (
            self.calls.bounds(),
            self.total_input().bounds(),
            self.audio.bounds(),
            self._cached().bounds(),
            self.total_output().bounds(),
        )
        return Spread(*(_cost(price, tier, *values) for values in zip(*bounds, strict=True)))

    def _cached(self) -> Spread:
        """Return the cached input tokens; without records, at best the shared instruction is cached."""
        if self.cached_share is not None:
            return self.input.scaled(self.cached_share)
        may_be_cached = self.instruction_tokens >= _MIN_CACHED_TOKENS
        return Spread(self.instruction_tokens * self.calls.low) if may_be_cached else ZERO


def segment_usage(
    prompt: Prompt,
    settings: RunSettings,
    media_type: MediaType,
    lengths: Lengths,
    *,
    has_pictures: bool,
    has_sound: bool,
) -> CallUsage:
    """Estimate the calls for segments of an item."""

    def tokens_of(counts: Mapping[float, float]) -> dict[str, int]:
        return input_tokens(
            prompt,
            settings,
            media_type,
            counts,
            0,
            has_pictures=has_pictures,
            has_sound=has_sound,
        )

    fps = settings.sampling.frames_per_second
    evidence = evidence_fields(prompt.json_schema, settings.evidence)
    audio = Spread(*(tokens_of(counts).get("audio", 0) for counts in lengths))
    tokens = [tokens_of(counts) for counts in _with_frames(lengths, fps)]
    calls = Spread(*(sum(counts.values()) for counts in lengths))
    errors = (-_TEXT_ERROR, 0.0, _TEXT_ERROR)
    without_sound = Spread(
        *(
            sum(count for name, count in counts.items() if name not in ("schema", "audio"))
            + error * counts.get("text", 0)
            for counts, error in zip(tokens, errors, strict=True)
        )
    )
    return CallUsage(
        media_type,
        calls,
        without_sound + audio,
        audio,
        tokens[2].get("schema", 0) / max(1.0, calls.high),
        len(instruction_with_evidence(extraction_instruction(prompt.prompt_text), evidence)) / CHARS_PER_TOKEN,
        answer_tokens(schema_with_evidence(prompt.json_schema, evidence), settings.model.max_output_tokens),
        thought_tokens(settings.model),
    )


def segment_lengths_s(segmentation: SegmentationSettings, media_type: MediaType, duration_us: int | None) -> Lengths:
    """Return the lengths of an item's segments, whose number may only be known within bounds."""
    least, most = segmentation.segment_bounds(media_type, duration_us)
    fewest, expected, largest = (
        {
            length_us / US_PER_SECOND: number
            for length_us, number in segmentation.segment_lengths(media_type, duration_us, count).items()
        }
        for count in (least, segmentation.expected_segments(media_type, duration_us), most)
    )
    return fewest, expected, largest


def sampled_lengths(lengths: Lengths, sample: int) -> Lengths:
    """Return the lengths of a sample of an item's segments: the shortest, expected and longest that it can have."""
    least, expected, most = (sum(counts.values()) for counts in lengths)
    seconds = sum(length * count for length, count in lengths[2].items())
    if sample >= most:
        return lengths
    return {seconds / most: sample}, {seconds / max(sample, expected): sample}, {seconds / max(sample, least): sample}


def _with_frames(lengths: Lengths, fps: float) -> tuple[Mapping[float, float], ...]:
    """Return lengths whose rounded-up number of frames is that of the lengths rounded down, on average, and rounded up."""
    fewest, expected = defaultdict[float, float](float), defaultdict[float, float](float)
    for length, count in lengths[0].items():
        fewest[_length_of(math.floor(length * fps), fps)] += count
    for length, count in lengths[1].items():
        frames = max(1.0, length * fps)
        share = frames - math.floor(frames)
        for whole, part in ((math.floor(frames), 1 - share), (math.ceil(frames), share)):
            expected[_length_of(whole, fps)] += part * count
    return fewest, expected, lengths[2]


def _length_of(frames: int, fps: float) -> float:
    """Return a length in seconds that has a number of frames, in the middle between two roundings."""
    return max(0.0, frames - 0.5) / fps


def synthesis_usage(prompt: Prompt, settings: RunSettings, segments: Spread, seconds: float, count: int) -> CallUsage:
    """Estimate the syntheses of an item.

    Args:
        segments: number of segments that each synthesis reads.
        seconds: duration of the item.
        count: number of syntheses.
    """
    assert prompt.video_level is not None
    level = prompt.video_level
    fields = level.included_segment_fields or ("metadata_text",)
    instruction = len(synthesis_instruction(level.instructions_text)) / CHARS_PER_TOKEN
    read = segments * _finding_chars(prompt, fields).scaled(1 / CHARS_PER_TOKEN)
    if SYSTEM_FIELDS[0] in fields:
        read = read + _SPEECH_TOKENS_PER_SECOND.scaled(seconds)
    schema = input_tokens(prompt, settings, "video", {}, 1, has_pictures=False, has_sound=False).get("schema", 0)
    return CallUsage(
        "synthesis",
        Spread.exactly(count),
        (read + Spread.exactly(instruction)).scaled(count),
        schema_tokens=schema,
        instruction_tokens=instruction,
        output=answer_tokens(level.json_schema, settings.model.max_output_tokens),
        thoughts=thought_tokens(settings.model),
    )


def marking_usage(
    settings: RunSettings, media_type: MediaType, stretches: Sequence[TimeSpan], *, has_pictures: bool, has_sound: bool
) -> CallUsage:
    """Estimate the calls that mark the segments of an item by the user's definition.

    Args:
        stretches: parts of the item to mark, one call each.
    """
    definition = settings.segmentation.definition_of(media_type)
    assert definition is not None
    tokens = marking_tokens(settings, media_type, stretches, has_pictures=has_pictures, has_sound=has_sound)
    audio, text = tokens.get("audio", 0), tokens.get("text", 0)
    exact = sum(tokens.values()) - tokens.get("schema", 0) - text
    return CallUsage(
        "segmentation",
        Spread.exactly(len(stretches)),
        Spread.exactly(exact) + Spread.around(text, _TEXT_ERROR),
        Spread.exactly(audio),
        tokens.get("schema", 0) / max(1, len(stretches)),
        len(marking_instruction(definition)) / CHARS_PER_TOKEN,
        answer_tokens(MARKS_SCHEMA, settings.model.max_output_tokens),
        thought_tokens(settings.model),
    )


def cost_of_calls(
    usages: Iterable[CallUsage], prices: Mapping[CallKind, ModelPrice | None], tier: Tier
) -> Spread | None:
    """Return the cost of calls of several kinds; None if a price that is needed is unknown."""
    costs = []
    for usage in usages:
        price = prices[usage.kind]
        if price is None:
            return None
        costs.append(usage.cost(price, "standard" if usage.kind == "embedding" else tier))
    return total(costs)


def _finding_chars(prompt: Prompt, fields: tuple[str, ...]) -> Spread:
    """Return the characters of one segment in the input of a synthesis: a line for each leaf."""
    selected = {field.removesuffix("[]") for field in fields}
    chars = Spread.exactly(_FINDING_HEAD_CHARS)
    for leaf in prompt.leaves:
        if "metadata_text" in fields or leaf.path in selected or leaf.path.removesuffix("[]") in selected:
            value = TEXT_CHARS if leaf.type == "string" else Spread.exactly(5)
            for _ in range(leaf.list_depth):
                value = value * LIST_LENGTH
            chars = chars + value + Spread.exactly(len(leaf.path) + 3)
    return chars


def _cost(
    price: ModelPrice, tier: Tier, calls: float, input: float, audio: float, cached: float, output: float
) -> float:
    """Return the cost of calls that each use the same tokens, because the price can depend on the tokens of one call."""
    if calls <= 0:
        return 0.0
    usage = Usage(
        input_tokens=round(input / calls),
        audio_tokens=round(audio / calls),
        cached_tokens=round(cached / calls),
        output_tokens=round(output / calls),
    )
    return cost_nanos(price, usage, tier) * calls / NANOS_PER_UNIT
