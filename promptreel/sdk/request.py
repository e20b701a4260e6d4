"""Requests as values, with the types of their results. Nothing here does I/O."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, Generic, TypeVar
from urllib.parse import quote

from promptreel.schemas.wire.common import Page as PageBody

Result = TypeVar("Result")
Item = TypeVar("Item")

# Timeout of requests during which the service reads complete media files or calls a model.
SLOW_REQUEST_TIMEOUT_S: Final = 600.0

_REPEATABLE: Final = frozenset({"GET", "PUT", "DELETE"})


@dataclass(frozen=True, slots=True)
class Upload:
    """A file in a multipart body. A path is opened when the request is sent; a file object is sent from its start."""

    name: str
    source: Path | BinaryIO


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        path: relative to `/api/v2`, percent-encoded; see `path_of`.
        params: query parameters; lists become repeated keys.
        json: JSON body, if any.
        form, file: fields and file of a multipart body, if any.
        idempotency: Idempotency-Key, if any; retries send the same key.
        min_timeout_s: read timeout, if the client's timeout is shorter.
    """

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    form: Mapping[str, str] = field(default_factory=dict)
    file: Upload | None = None
    idempotency: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    min_timeout_s: float = 0.0

    @property
    def is_repeatable(self) -> bool:
        """Whether the request is safe to send more than once."""
        return self.method in _REPEATABLE or self.idempotency is not None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Call(Generic[Result]):
    """A request and the type of its result."""

    request: Request
    result_type: type[Result]


@dataclass(frozen=True, slots=True)
class Listing(Generic[Item]):
    """A request for a page of items."""

    request: Request
    item_type: type[Item]

    def page(self) -> Call[PageBody[Item]]:
        """Return the call for this page."""
        return Call(self.request, PageBody[self.item_type])  # type: ignore[name-defined]

    def after(self, cursor: str) -> Listing[Item]:
        """Return the listing that continues after a cursor."""
        if self.request.method == "GET":
            next_request = replace(self.request, params={**self.request.params, "cursor": cursor})
        else:
            next_request = replace(self.request, json={**self.request.json, "cursor": cursor})
        return replace(self, request=next_request)


def path_of(*parts: str) -> str:
    """Join percent-encoded parts to a path.

    Raises:
        ValueError: a part is empty or consists of dots, so it would address another resource.
    """
    for part in parts:
        if not isinstance(part, str) or not part.strip("."):
            raise ValueError(f"invalid id {part!r} in /{'/'.join(map(str, parts))}; pass an id returned by the service")
    return "/" + "/".join(quote(part, safe="") for part in parts)


def omit_none(**values: Any) -> dict[str, Any]:
    """Return the values that are not None, so that the service applies its defaults to the others."""
    return {name: value for name, value in values.items() if value is not None}


def key_for(action: str, key: str | None) -> str:
    """Return the caller's Idempotency-Key, or a new one."""
    return key if key is not None else f"{action}:{secrets.token_hex(16)}"
