"""The names by which a user can refer to an item of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from promptreel.schemas.errors import InvalidInput

_MAX_LISTED: Final = 10


def names_of(item: Mapping[str, Any]) -> set[str]:
    """Return every name that selects an item (a row of `media`): its id, name and URI, and those of files with the same
    bytes."""
    others = (uri.rsplit("/", 1)[-1] for uri in item["other_uris"])
    return {item["video_id"], item["name"], item["uri"], *item["other_uris"], *others}


def shown_names(items: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the name of each item (a row of `media`) by its id; a name that several items share is followed by the id."""
    uses = Counter(item["name"] for item in items)
    return {
        item["video_id"]: item["name"] if uses[item["name"]] == 1 else f"{item['name']} ({item['video_id']})"
        for item in items
    }


def find_item(items: Sequence[Mapping[str, Any]], text: str) -> Mapping[str, Any]:
    """Find the item that a user means: by one of its names, or by the start of its name or id that no other item shares.

    Raises:
        InvalidInput: no item fits, or several do.
    """
    found = [item for item in items if text in names_of(item)]
    found = found or [item for item in items if item["name"].startswith(text) or item["video_id"].startswith(text)]
    if len(found) == 1:
        return found[0]
    shown = shown_names(found or items).values()
    listed = ", ".join(sorted(shown)[:_MAX_LISTED]) + (", ..." if len(shown) > _MAX_LISTED else "")
    if found:
        raise InvalidInput(f"{text!r} fits {len(found)} items; give a longer name or the id: {listed}")
    raise InvalidInput(f"no item {text!r}; the run has {listed}")
