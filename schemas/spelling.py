"""Suggest the known name that a misspelt one probably means."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable

_SIMILAR = 0.6  # difflib's ratio


def nearest(name: str, known: Iterable[str], similarity: float = _SIMILAR) -> str | None:
    """Return the known name with the most similar spelling, if any is similar."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=similarity)), None)


def describe_unknown(name: str, known: Iterable[str]) -> str:
    """Describe an unknown name, with the nearest known one or all of them.

    >>> describe_unknown("video_id", ["video_ids", "codes"])
    "unknown field 'video_id'; did you mean 'video_ids'?"
    """
    known = list(known)
    if (meant := nearest(name, known)) is not None:
        return f"unknown field {reprlib.repr(name)}; did you mean {meant!r}?"
    fields = f"the fields are {', '.join(known)}" if known else "no fields are allowed here"
    return f"unknown field {reprlib.repr(name)}; {fields}"
