"""How a run's items are divided over part files: by a hash of their ids, so that a part can be named without looking."""

from __future__ import annotations

import hashlib
from typing import Final

ITEMS_PER_SHARD: Final = 100
MAX_SHARDS: Final = 1024


def shards_for(item_count: int) -> int:
    """How many parts a run of so many items is divided into; a resume finds the same number."""
    return min(MAX_SHARDS, max(1, -(-item_count // ITEMS_PER_SHARD)))


def shard_of(video_id: str, shards: int) -> int:
    """The part that an item's rows lie in."""
    return int.from_bytes(hashlib.sha256(video_id.encode()).digest()[:8]) % shards
