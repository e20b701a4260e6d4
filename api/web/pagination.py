"""Pagination by cursor. Cursors are opaque, bound to their list, and hold the position of the last returned row."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import Query

from promptreel.api.web.errors import ApiError
from promptreel.schemas.ids import digest
from promptreel.schemas.wire.common import storable

Limit = Annotated[int, Query(ge=1, le=100, description="Maximum number of rows per page.")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the previous page.", max_length=2048)]

DEFAULT_LIMIT = 50


def encode_cursor(scope: Sequence[Any], position: Sequence[Any]) -> str:
    """Encode a position in the list identified by `scope` (its route and filters)."""
    content = json.dumps([digest(list(scope))[:16], list(position)], separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None, scope: Sequence[Any], kinds: Sequence[type]) -> list[Any] | None:
    """Decode the position in a cursor; None without a cursor.

    Args:
        kinds: type of each value; `datetime` values are encoded as text.

    Raises:
        ApiError: 422 if the cursor is malformed or belongs to another list.
    """
    if cursor is None or cursor == "":
        return None
    bad = ApiError(422, "validation_failed", "The cursor is not valid for this list; start without a cursor.")
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        signature, position = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        values = [_parse(value, kind) for value, kind in zip(position, kinds, strict=True)]
    except (binascii.Error, ValueError, TypeError, RecursionError) as error:
        raise bad from error
    if signature != digest(list(scope))[:16]:
        raise bad
    return values


def _parse(value: Any, kind: type) -> Any:
    if kind is datetime:
        return datetime.fromisoformat(value)
    if type(value) is not kind or (isinstance(value, int) and abs(value) >= 2**63):
        raise TypeError(value)
    return storable(value)


def page_body(rows: Sequence[Any], limit: int, next_cursor: str | None) -> dict[str, Any]:
    """Return the JSON body of a page."""
    pagination = {"limit": limit, "has_more": next_cursor is not None, "next_cursor": next_cursor}
    return {"data": list(rows), "pagination": pagination}
