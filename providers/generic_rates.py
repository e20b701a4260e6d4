"""Generic rates of input tokens, for models whose own rates promptreel does not know: all but Gemini.

A picture counts one token for each patch of 28 x 28 pixels, as in Qwen2-VL and its successors; other models take between
a quarter and twice that. Sound counts 25 tokens per second, as in Qwen2-Audio; others take 10 to 32. A transcript counts
4 tokens per second of media with sound, which is fast speech.
"""

from __future__ import annotations

import math
from typing import Final

from promptreel.schemas.settings import SamplingSettings

PATCH_SIZE: Final = 28
SOUND_SECOND_TOKENS: Final = 25
TRANSCRIPT_SECOND_TOKENS: Final = 4


def picture_tokens(sampling: SamplingSettings) -> int:
    """Return the tokens of one frame or image of the largest size that is sampled."""
    return math.ceil(sampling.max_width / PATCH_SIZE) * math.ceil(sampling.max_height / PATCH_SIZE)


def generic_rates_note(model: str) -> str:
    """Return the note for an estimate with these rates."""
    return (
        f"Input tokens use generic rates, because those of model {model!r} are unknown; actual counts may differ much."
    )
