"""Estimate the input tokens of calls before they are made.

The rates are those that the Gemini API publishes: pictures by the model's family (an unknown model counts as the newest
family), 32 tokens per second of sound, about 4 characters of text per token. The response schema is counted separately,
because not every service counts it. The input of a synthesis is a guess, because it does not exist yet.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Final

from promptreel.providers.extraction import PREAMBLE
from promptreel.providers.known_models import NEWEST_FAMILY, family_of
from promptreel.providers.synthesis import PREAMBLE as SYNTHESIS_PREAMBLE
from promptreel.schemas.media import MediaType
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.settings import RunSettings

TOKENS_PER_SOUND_SECOND: Final = 32
CHARS_PER_TOKEN: Final = 4
FINDING_TOKENS: Final = 60  # of one segment in the input of a synthesis
_POSITION_TOKENS: Final = 20  # the line with the segment's position in the item
_LABEL_TOKENS: Final = 9  # the line before each frame, if frames are sent


def input_tokens(
    prompt: Prompt,
    settings: RunSettings,
    media_type: MediaType,
    lengths: Mapping[float, int],
    syntheses: int,
    *,
    has_pictures: bool,
    has_sound: bool,
) -> dict[str, int]:
    """Return the input tokens by modality of one call for each segment of an item, and of its synthesis.

    Args:
        lengths: maps the length of segments in seconds to the number of segments of that length.
        syntheses: 1 if the item is synthesized, otherwise 0.
    """
    count = sum(lengths.values())
    fps, as_frames = settings.sampling.frames_per_second, settings.model.media_input == "frames"
    frames = sum(max(1, math.ceil(length * fps)) * times for length, times in lengths.items()) if has_pictures else 0
    labels = frames * _LABEL_TOKENS if as_frames and media_type != "image" else 0
    sound_s = sum(length * times for length, times in lengths.items()) if has_sound else 0
    family = family_of(settings.model.model) or NEWEST_FAMILY
    as_images = as_frames or media_type == "image"
    tokens_per_picture = family.image_tokens if as_images else family.video_frame_tokens
    tokens = {
        "text": count * _text_tokens(PREAMBLE + prompt.prompt_text, _POSITION_TOKENS) + labels,
        "schema": count * _text_tokens(json.dumps(prompt.json_schema)),
        "image" if as_images else "video": frames * tokens_per_picture[settings.model.media_resolution],
        "audio": math.ceil(sound_s * TOKENS_PER_SOUND_SECOND),
    }
    if syntheses and prompt.video_level is not None:
        level = prompt.video_level
        findings = max(1, count) * FINDING_TOKENS
        tokens["text"] += syntheses * _text_tokens(SYNTHESIS_PREAMBLE + level.instructions_text, findings)
        tokens["schema"] += syntheses * _text_tokens(json.dumps(level.json_schema))
    return {name: number for name, number in tokens.items() if number}


def has_synthesis(prompt: Prompt, media_type: MediaType) -> bool:
    """Return whether items of this type are synthesized from their segments."""
    return prompt.video_level is not None and media_type != "image"


def _text_tokens(text: str, extra: int = 0) -> int:
    return math.ceil(len(text) / CHARS_PER_TOKEN) + extra
