"""Cursors: opaque, bound to their list, and holding the place after the last row that was shown."""

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

Limit = Annotated[int, Query(ge=1, le=100, description="Most rows of one page.")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before.", max_length=2048)]

DEFAULT_LIMIT = 50


def encode_cursor(scope: Sequence[Any], place: Sequence[Any]) -> str:
    """A cursor for one list (named by `scope`: its route and filters) and a place in it."""
    content = json.dumps([digest(list(scope))[:16], list(place)], separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None, scope: Sequence[Any], kinds: Sequence[type]) -> list[Any] | None:
    """The place that a cursor holds, in values of these kinds; an instant travels as text. None without a cursor.

    Raises:
        ApiError: it is no cursor, or one of another list.
    """
    if cursor is None or cursor == "":
        return None
    bad = ApiError(422, "validation_failed", "cursor: is not valid for this list; start without a cursor")
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        signature, place = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        values = [_read(value, kind) for value, kind in zip(place, kinds, strict=True)]
    except (binascii.Error, ValueError, TypeError, RecursionError) as error:
        raise bad from error
    if signature != digest(list(scope))[:16]:
        raise bad
    return values


def _read(value: Any, kind: type) -> Any:
    if kind is datetime:
        return datetime.fromisoformat(value)
    if type(value) is not kind or (isinstance(value, int) and abs(value) >= 2**63):
        raise TypeError(value)
    return storable(value)


def page_body(rows: Sequence[Any], limit: int, next_cursor: str | None) -> dict[str, Any]:
    """A page as its JSON body."""
    pagination = {"limit": limit, "has_more": next_cursor is not None, "next_cursor": next_cursor}
    return {"data": list(rows), "pagination": pagination}
