"""The name and tags that a user gives a run, and their use as a filter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from promptreel.schemas.errors import InvalidInput

MAX_NAME_LENGTH: Final = 100
MAX_TAGS: Final = 20
MAX_TAG_LENGTH: Final = 200
TAG_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class RunLabels:
    """The labels of a run. They change nothing about its answers.

    Raises:
        InvalidInput: a label is empty, too long, or has an invalid character.
    """

    name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name is not None:
            _check_text("name", self.name, MAX_NAME_LENGTH)
        if len(self.tags) > MAX_TAGS:
            raise InvalidInput(f"tags: {len(self.tags)} tags exceed the limit of {MAX_TAGS} per run")
        for key, value in self.tags.items():
            if TAG_KEY.fullmatch(key) is None:
                raise InvalidInput(f"tags: the key is {key!r}; use 1 to 64 letters, digits, '_', '.' and '-'")
            _check_text(f"tags: {key}", value, MAX_TAG_LENGTH)

    @property
    def tags_text(self) -> str:
        """The tags as `key=value`, sorted by key and separated by commas."""
        return ", ".join(f"{key}={value}" for key, value in sorted(self.tags.items()))

    def matches(self, wanted: RunLabels) -> bool:
        """Whether a run with these labels has the wanted name, if any, and all wanted tags."""
        has_name = wanted.name is None or wanted.name == self.name
        return has_name and all(self.tags.get(key) == value for key, value in wanted.tags.items())


NO_LABELS: Final = RunLabels()


def parse_tags(texts: Iterable[str]) -> dict[str, str]:
    """Parse tags in the form `key=value`.

    Raises:
        InvalidInput: a text has no "=", or two have the same key.
    """
    tags: dict[str, str] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator:
            raise InvalidInput(f"tag is {text!r}; give it as key=value")
        if key in tags:
            raise InvalidInput(f"tag {key} is given twice: {tags[key]!r} and {value!r}")
        tags[key] = value
    return tags


def _check_text(where: str, text: Any, limit: int) -> None:
    if not isinstance(text, str) or not text.strip() or not text.isprintable():
        raise InvalidInput(f"{where} is {text!r}; give printable text")
    if len(text) > limit:
        raise InvalidInput(f"{where} has {len(text)} characters; the limit is {limit}")
