"""The names by which a user can refer to an item of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


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
