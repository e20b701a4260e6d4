"""Estimate the input tokens of calls before they are made.

The rates are those that the Gemini API publishes: pictures and sound by the model's family (an unknown model counts as the
newest family), about 4 characters of text per token. Models of other providers have generic rates (`generic_rates`). The
response schema is counted separately,
because not every service counts it. The input of a synthesis is a guess, because it does not exist yet.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from promptreel.media.marks import plan_stretches
from promptreel.providers.chosen_media import frame_limit, sends_sound
from promptreel.providers.evidence_format import instruction_with_evidence, schema_with_evidence
from promptreel.providers.extraction import PREAMBLE
from promptreel.providers.generic_rates import SOUND_SECOND_TOKENS, TRANSCRIPT_SECOND_TOKENS, picture_tokens
from promptreel.providers.known_models import NEWEST_FAMILY, family_of
from promptreel.providers.marking import MARKS_SCHEMA, marking_instruction
from promptreel.providers.registry import is_gemini, provider_of
from promptreel.providers.synthesis import PREAMBLE as SYNTHESIS_PREAMBLE
from promptreel.schemas.evidence import evidence_fields
from promptreel.schemas.media import MediaType, TimeSpan
from promptreel.schemas.mediatime import US_PER_SECOND
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.segmentation import SegmentationSettings
from promptreel.schemas.settings import RunSettings

CHARS_PER_TOKEN: Final = 4
FINDING_TOKENS: Final = 60  # of one segment in the input of a synthesis
_POSITION_TOKENS: Final = 20  # the line with the segment's position in the item
_LABEL_TOKENS: Final = 9  # the line before each frame, if frames are sent
_CHOSEN_LABEL_TOKENS: Final = 23  # the line before a clip of chosen frames, without their times
_CHOSEN_TIME_TOKENS: Final = 2.25  # the time of each


def input_tokens(
    prompt: Prompt,
    settings: RunSettings,
    media_type: MediaType,
    lengths: Mapping[float, float],
    syntheses: int,
    *,
    has_pictures: bool,
    has_sound: bool,
) -> dict[str, int]:
    """Return the input tokens by modality of one call for each segment of an item, and of its synthesis.

    Args:
        lengths: maps the length of segments in seconds to the (expected) number of segments of that length.
        syntheses: 1 if the item is synthesized, otherwise 0.
    """
    count: float = sum(lengths.values())
    has_sound = has_sound and sends_sound(settings.model, media_type)
    reads_transcript = has_generic_rates(settings) and provider_of(settings).reads_transcript(prompt)
    media, media_text = _media_tokens(
        settings,
        media_type,
        lengths,
        has_pictures=has_pictures,
        has_sound=has_sound,
        reads_transcript=reads_transcript,
        limit=frame_limit(settings.model, media_type),
    )
    evidence = evidence_fields(prompt.json_schema, settings.evidence)
    instruction = instruction_with_evidence(PREAMBLE + prompt.prompt_text, evidence)
    tokens: dict[str, float] = {
        "text": count * _text_tokens(instruction, _POSITION_TOKENS) + media_text,
        "schema": count * _text_tokens(json.dumps(schema_with_evidence(prompt.json_schema, evidence))),
        **media,
    }
    if syntheses and prompt.video_level is not None:
        level = prompt.video_level
        findings = max(1, count) * FINDING_TOKENS
        tokens["text"] += syntheses * _text_tokens(SYNTHESIS_PREAMBLE + level.instructions_text, findings)
        tokens["schema"] += syntheses * _text_tokens(json.dumps(level.json_schema))
    return {name: math.ceil(number) for name, number in tokens.items() if number}


def has_generic_rates(settings: RunSettings) -> bool:
    """Return whether the token rates of a run's model are unknown, so that generic ones are used."""
    return not is_gemini(settings.model.model)


def sends_frames(settings: RunSettings) -> bool:
    """Return whether the media of a segment is sent as frames. Only Gemini takes clips and files."""
    return has_generic_rates(settings) or settings.model.media_input == "frames"


def stretches_to_mark(
    segmentation: SegmentationSettings, media_type: MediaType, duration_us: int | None
) -> list[TimeSpan]:
    """Return the stretches of an item in which a model marks the segments that the user defines; empty if it does not."""
    if segmentation.definition_of(media_type) is None or not duration_us:
        return []
    return plan_stretches(segmentation.range_of(duration_us))


def marking_tokens(
    settings: RunSettings,
    media_type: MediaType,
    stretches: Sequence[TimeSpan],
    *,
    has_pictures: bool,
    has_sound: bool,
) -> dict[str, int]:
    """Return the input tokens by modality of the calls that mark the segments which the user defines; empty without any.

    Args:
        stretches: the parts of the item to mark, see `stretches_to_mark`.
    """
    definition = settings.segmentation.definition_of(media_type)
    if definition is None or not stretches:
        return {}
    lengths = Counter(span.duration_us / US_PER_SECOND for span in stretches)
    media, labels = _media_tokens(settings, media_type, lengths, has_pictures=has_pictures, has_sound=has_sound)
    count = len(stretches)
    text = count * _text_tokens(marking_instruction(definition), 2 * _POSITION_TOKENS) + labels
    tokens = {"text": text, "schema": count * _text_tokens(json.dumps(MARKS_SCHEMA)), **media}
    return {name: math.ceil(number) for name, number in tokens.items() if number}


def _media_tokens(
    settings: RunSettings,
    media_type: MediaType,
    lengths: Mapping[float, float],
    *,
    has_pictures: bool,
    has_sound: bool,
    reads_transcript: bool = False,
    limit: int | None = None,
) -> tuple[dict[str, float], float]:
    """Return the tokens of the media by modality, and of the text with it: a line for each frame, a transcript.

    Args:
        reads_transcript: whether the model reads a transcript instead of the sound.
        limit: maximum number of frames of a segment, if some are chosen.
    """
    fps, as_frames = settings.sampling.frames_per_second, sends_frames(settings)
    counts = {length: max(1, math.ceil(length * fps)) for length in lengths}
    if limit is not None:
        counts = {length: min(limit, frames) for length, frames in counts.items()}
    frames: float = sum(counts[length] * times for length, times in lengths.items()) if has_pictures else 0
    labels: float = frames * _LABEL_TOKENS if as_frames and media_type != "image" else 0
    if limit is not None and has_pictures and not as_frames:
        labels = sum(lengths.values()) * _CHOSEN_LABEL_TOKENS + frames * _CHOSEN_TIME_TOKENS
    sound_s: float = sum(length * times for length, times in lengths.items()) if has_sound else 0
    if has_generic_rates(settings):
        images = frames * picture_tokens(settings.sampling)
        if not reads_transcript:
            return {"image": images, "audio": math.ceil(sound_s * SOUND_SECOND_TOKENS)}, labels
        spoken_s = sound_s if settings.transcription.enabled else 0
        return {"image": images}, labels + math.ceil(spoken_s * TRANSCRIPT_SECOND_TOKENS)
    family = family_of(settings.model.model) or NEWEST_FAMILY
    as_images = as_frames or media_type == "image"
    tokens_per_picture = family.image_tokens if as_images else family.video_frame_tokens
    pictures = frames * tokens_per_picture[settings.model.media_resolution]
    return {
        "image" if as_images else "video": pictures,
        "audio": math.ceil(sound_s * family.sound_second_tokens),
    }, labels


def has_synthesis(prompt: Prompt, media_type: MediaType) -> bool:
    """Return whether items of this type are synthesized from their segments."""
    return prompt.video_level is not None and media_type != "image"


def _text_tokens(text: str, extra: float = 0) -> float:
    return math.ceil(len(text) / CHARS_PER_TOKEN) + extra
