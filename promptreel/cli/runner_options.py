"""Split the words of `promptreel run` that click does not recognize into media and Beam options."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class SplitWords:
    """Words of a command line by kind.

    Attributes:
        media: files, folders and URLs, unchanged.
        beam_options: options that Beam knows, each as one word: `--name` or `--name=value`.
        unknown: names of options that Beam does not know either.
    """

    media: list[str] = field(default_factory=list)
    beam_options: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def is_option(word: str) -> bool:
    """Return whether a word is an option, as opposed to an existing file or a negative number."""
    if word.startswith("--"):
        return True
    return word.startswith("-") and word != "-" and not _is_number(word) and not os.path.exists(word)


def split_words(words: Sequence[str], takes_value: Mapping[str, bool]) -> SplitWords:
    """Split words as Beam parses them: an option's value follows `=` or is the next word.

    Args:
        takes_value: whether each of Beam's options takes a value, by name.
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
    """Return the known option with the most similar spelling, if any is similar."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1)), None)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
