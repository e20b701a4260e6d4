"""The names by which a user can refer to an item of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def names_of(item: Mapping[str, Any]) -> set[str]:
    """Return every name that selects an item (a row of `media`): its id, name and URI, and those of files with the same
    bytes."""
    others = (uri.rsplit("/", 1)[-1] for uri in item["other_uris"])
    return {item["video_id"], item["name"], item["uri"], *item["other_uris"], *others}
