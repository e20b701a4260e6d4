"""Find quoted words among the words that were spoken or shown."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from rapidfuzz import fuzz

# Minimum similarity, 0..100: a recogniser and a model spell a word or an ending differently.
MIN_QUOTE_SCORE: Final = 85.0
_MAX_LETTERS: Final = 400  # of a quote that are compared
_WORD: Final = re.compile(r"[^\W_]+")


def quote_score(quote: str, words: Iterable[str]) -> float | None:
    """Return the similarity of a quote and the most similar run of complete words, 0..100; None if it quotes no word.

    Case, punctuation and spaces do not count, so languages without spaces work too.

    >>> quote_score("We don't agree!", ["and", "we", "dont", "agree", "today"])
    100.0
    >>> quote_score("no", ["know", "this"]) < MIN_QUOTE_SCORE
    True
    """
    quoted = _letters(quote)[:_MAX_LETTERS]
    if not quoted:
        return None
    parts = [letters for letters in map(_letters, words) if letters]
    best = 0.0
    for first in range(len(parts)):
        run = ""
        for part in parts[first:]:
            run += part
            if 4 * len(run) >= 3 * len(quoted):
                best = max(best, fuzz.ratio(quoted, run, score_cutoff=best))
            if 4 * len(run) > 5 * len(quoted):
                break
        if best == 100:
            break
    return round(best, 1)


def _letters(text: str) -> str:
    return "".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))
