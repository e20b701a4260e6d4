"""What one answer stores of its evidence: the model's part, and the words on the screen that quotes are checked against.

The transcript may be made later than the answer, so the checks run when tables are written. Text on the screen is read here,
once, because that takes long and needs the frames on the local disk.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

from promptreel.providers import on_screen_text
from promptreel.providers.answers import CheckedAnswer
from promptreel.providers.base import SegmentInput
from promptreel.providers.evidence_checks import TOLERANCE_US, EvidenceClaim, SegmentFacts, is_outside, read_claim
from promptreel.schemas.errors import ModelError
from promptreel.schemas.media import SampledFrame

MAX_READ_FRAMES: Final = 8  # of one span, evenly spread


def evidence_of(answer: CheckedAnswer, media: SegmentInput, fields: Sequence[str]) -> dict[str, Any]:
    """Return what the stored result of a segment holds besides the answer: `evidence` and `screen_words` by field.

    Empty if no evidence is requested. A field is missing in `screen_words` if its quote is not from the screen, or if the
    screen cannot be read on this machine.
    """
    if not fields:
        return {}
    facts = SegmentFacts(media.span, media.media_type == "image", [frame.time_us for frame in media.frames], None)
    claims = {field: read_claim(answer.evidence, field, facts) for field in fields}
    quoted = {
        field: claim
        for field, claim in claims.items()
        if claim is not None and claim.source == "screen" and not is_outside(claim, media.span)
    }
    words = {field: _words_shown(claim, media) for field, claim in quoted.items()} if quoted else {}
    return {
        "evidence": answer.evidence,
        "screen_words": {field: found for field, found in words.items() if found is not None},
    }


def _words_shown(claim: EvidenceClaim, media: SegmentInput) -> list[str] | None:
    """Return the words in the frames of a claim's span; None if they cannot be read."""
    frames = _spread(_frames_of(claim, media.frames))
    if not frames or not on_screen_text.is_available():
        return None
    try:
        lines = on_screen_text.read_screen(media.folder, frames)
    except ModelError as error:
        logging.getLogger(__name__).warning("evidence: on-screen text was not read: %s", error)
        return None
    return [word for line in lines for word in line.text.split()]


def _frames_of(claim: EvidenceClaim, frames: Sequence[SampledFrame]) -> list[SampledFrame]:
    if claim.start_us is None or claim.end_us is None:
        return list(frames)
    low, high = claim.start_us - TOLERANCE_US, claim.end_us + TOLERANCE_US
    return [frame for frame in frames if low <= frame.time_us <= high]


def _spread(frames: Sequence[SampledFrame]) -> Sequence[SampledFrame]:
    if len(frames) <= MAX_READ_FRAMES:
        return frames
    last = len(frames) - 1
    return [frames[at * last // (MAX_READ_FRAMES - 1)] for at in range(MAX_READ_FRAMES)]
