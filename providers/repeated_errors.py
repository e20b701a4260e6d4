"""Permanent errors that several operations share, so that they do not belong to one segment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from promptreel.schemas.errors import ModelError
from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.service_state import error_identity

REPEATS: Final = 3
# Calls among them that failed in another way, or have no answer yet, as a share of the repeats.
_OTHER_SHARE: Final = 0.1
# An error about the media or the size of a request belongs to its segment, however many segments have it.
_ABOUT_MEDIA: Final = re.compile(
    r"\b(image|video|audio|media|mime|frames?|files?|process input|token count|payload|bytes)\b", re.IGNORECASE
)


def repeated_operations(calls: Sequence[tuple[str, bool, ModelError | None]], error: ModelError) -> int:
    """Return how many operations in a row failed with the same permanent error, once these are enough to halt; otherwise 0.

    Args:
        calls: (operation, is answered, error) in the order of their starts, up to the call that failed with `error`. A
            call in progress has neither an answer nor an error.
    """
    if FAILURE_CODES[error.code].halts_run or _ABOUT_MEDIA.search(error.message):
        return 0
    identity = error_identity(error.message)
    operations = _in_a_row(reversed(calls), error.code, identity)
    return len(operations) if len(operations) >= REPEATS else 0


def _in_a_row(calls: Iterable[tuple[str, bool, ModelError | None]], code: str, identity: str) -> set[str]:
    """Return the operations with this error since the last answer, as far back as few other calls are among them."""
    same: set[str] = set()
    found: set[str] = set()
    others = 0
    for operation, is_answered, error in calls:
        if is_answered:
            break
        if error is not None and error.code == code and error_identity(error.message) == identity:
            same.add(operation)
        else:
            others += 1
        if others <= _OTHER_SHARE * len(same):
            found = set(same)
    return found
