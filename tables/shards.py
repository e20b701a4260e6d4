"""Sharding of a run's items over part files, by a hash of the item id, so that lookups need no index."""

from __future__ import annotations

import hashlib
from typing import Final

ITEMS_PER_SHARD: Final = 100
MAX_SHARDS: Final = 1024


def shards_for(item_count: int) -> int:
    """Number of shards of a run; it depends only on the item count, so a resume computes the same number."""
    return min(MAX_SHARDS, max(1, -(-item_count // ITEMS_PER_SHARD)))


def shard_of(video_id: str, shards: int) -> int:
    """Number of the shard that has an item's rows."""
    return int.from_bytes(hashlib.sha256(video_id.encode()).digest()[:8]) % shards
