"""Identifiers of resources: a prefix for the type, then 96 random bits as hex."""

from __future__ import annotations

import secrets


def new_id(prefix: str) -> str:
    """Create an id, e.g. `idx_9f86d081884c7d659a2feaa0`. Needs no escaping in URL paths."""
    return f"{prefix}_{secrets.token_hex(12)}"
