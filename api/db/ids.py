"""Identifiers that the service gives out: a prefix that says what it is, then 96 random bits as hex."""

from __future__ import annotations

import secrets


def new_id(prefix: str) -> str:
    """E.g. `idx_9f86d081884c7d659a2feaa0`; letters, digits and `_` alone, for clients do not escape ids in paths."""
    return f"{prefix}_{secrets.token_hex(12)}"
