"""How many input tokens calls would take, before they are made.

The rates are the Gemini API's published ones: pictures by the model's family (the newest for an unknown name), 32 tokens a
second of sound, about 4 characters of text each. The response schema stands apart, for not every service counts it. What a
synthesis reads is guessed before it exists.
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
FINDING_TOKENS: Final = 60  # what one segment contributes to a synthesis
_PLACE_TOKENS: Final = 20  # the line that says where the segment lies
_LABEL_TOKENS: Final = 9  # the line before each frame where frames are sent


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
    """Input tokens by modality of one call for each segment of an item, and of the syntheses over them.

    Args:
        lengths: seconds of a segment, to the number of segments of that length.
        syntheses: 1 where the item's synthesis is to be made, else 0.
    """
    count = sum(lengths.values())
    fps, as_frames = settings.sampling.frames_per_second, settings.model.media_input == "frames"
    shown = sum(max(1, math.ceil(length * fps)) * times for length, times in lengths.items()) if has_pictures else 0
    labels = shown * _LABEL_TOKENS if as_frames and media_type != "image" else 0
    heard = sum(length * times for length, times in lengths.items()) if has_sound else 0
    family = family_of(settings.model.model) or NEWEST_FAMILY
    as_images = as_frames or media_type == "image"
    tokens_per_picture = family.image_tokens if as_images else family.video_frame_tokens
    tokens = {
        "text": count * _text_tokens(PREAMBLE + prompt.prompt_text, _PLACE_TOKENS) + labels,
        "schema": count * _text_tokens(json.dumps(prompt.json_schema)),
        "image" if as_images else "video": shown * tokens_per_picture[settings.model.media_resolution],
        "audio": math.ceil(heard * TOKENS_PER_SOUND_SECOND),
    }
    if syntheses and prompt.video_level is not None:
        level = prompt.video_level
        findings = max(1, count) * FINDING_TOKENS
        tokens["text"] += syntheses * _text_tokens(SYNTHESIS_PREAMBLE + level.instructions_text, findings)
        tokens["schema"] += syntheses * _text_tokens(json.dumps(level.json_schema))
    return {name: tokens_of for name, tokens_of in tokens.items() if tokens_of}


def has_synthesis(prompt: Prompt, media_type: MediaType) -> bool:
    """Whether an item of this type has a synthesis made of its segments."""
    return prompt.video_level is not None and media_type != "image"


def _text_tokens(text: str, more: int = 0) -> int:
    return math.ceil(len(text) / CHARS_PER_TOKEN) + more
