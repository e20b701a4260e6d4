"""From the words of `promptreel run` that click does not know to media and options of the Beam runner."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class SplitWords:
    """Words of a command line by what they are.

    Attributes:
        media: files, folders and URLs, as given.
        beam_options: options that Beam knows, each one word: `--name` or `--name=value`.
        unknown: names of options that Beam does not know either.
    """

    media: list[str] = field(default_factory=list)
    beam_options: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def is_option(word: str) -> bool:
    """Whether a word is an option: not media, and not a number as the value of one."""
    if word.startswith("--"):
        return True
    return word.startswith("-") and word != "-" and not _is_number(word) and not os.path.exists(word)


def split_words(words: Sequence[str], takes_value: Mapping[str, bool]) -> SplitWords:
    """Splits words as Beam reads them: the value of an option is joined by `=`, or is the next word.

    Args:
        takes_value: the names of Beam's options, and whether each takes a value.
    """
    split = SplitWords()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, joined, _ = word.partition("=")
        if not is_option(word):
            split.media.append(word)
        elif name not in takes_value:
            split.unknown.append(name)
        elif takes_value[name] and not joined and rest and not is_option(rest[0]):
            split.beam_options.append(f"{name}={rest.pop(0)}")
        else:
            split.beam_options.append(word)
    return split


def nearest_option(name: str, known: Iterable[str]) -> str | None:
    """The known option that is spelled most like a name, if any is."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1)), None)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
