"""A request as a value, and what its answer is read as. Nothing here sends anything."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, Generic, TypeVar
from urllib.parse import quote

from promptreel.schemas.wire.common import Page as PageBody

Answer = TypeVar("Answer")
Item = TypeVar("Item")

# What reads or fetches whole media, or asks a model, is answered when that is done.
SLOW_ANSWER_S: Final = 600.0

_REPEATABLE: Final = frozenset({"GET", "PUT", "DELETE"})


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a multipart body; a path is opened when it is sent, a file object is sent from its beginning."""

    name: str
    source: Path | BinaryIO


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        path: below `/api/v2`, percent-encoded; see `path_of`.
        params: the query; lists become repeated keys.
        json: the body, None for none.
        form, file: fields and file of a multipart body.
        idempotency: the Idempotency-Key, the same for each time that the request is sent; None for none.
        patience_s: seconds that its answer is given at least, where the client's time limit is shorter.
    """

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    form: Mapping[str, str] = field(default_factory=dict)
    file: Upload | None = None
    idempotency: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    patience_s: float = 0.0

    @property
    def is_repeatable(self) -> bool:
        """Whether sending it twice has the effect of sending it once."""
        return self.method in _REPEATABLE or self.idempotency is not None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """A request and the type of its answer."""

    request: Request
    kind: type[Answer]


@dataclass(frozen=True, slots=True)
class Listing(Generic[Item]):
    """A request for a page of items."""

    request: Request
    kind: type[Item]

    def page(self) -> Call[PageBody[Item]]:
        """The call for this page."""
        return Call(self.request, PageBody[self.kind])  # type: ignore[name-defined]

    def after(self, cursor: str) -> Listing[Item]:
        """The page behind a cursor; everything else stays."""
        if self.request.method == "GET":
            following = replace(self.request, params={**self.request.params, "cursor": cursor})
        else:
            following = replace(self.request, json={**self.request.json, "cursor": cursor})
        return replace(self, request=following)


def path_of(*parts: str) -> str:
    """A path of its parts, each percent-encoded.

    Raises:
        ValueError: a part is empty or only dots, which would name another resource.
    """
    for part in parts:
        if not isinstance(part, str) or not part.strip("."):
            raise ValueError(f"an id in /{'/'.join(map(str, parts))} is {part!r}; give the id that the service gave")
    return "/" + "/".join(quote(part, safe="") for part in parts)


def given(**values: Any) -> dict[str, Any]:
    """What is not None: the rest is left to the service."""
    return {name: value for name, value in values.items() if value is not None}


def key_for(action: str, own_key: str | None) -> str:
    """The caller's own Idempotency-Key, or a new one."""
    return own_key if own_key is not None else f"{action}:{secrets.token_hex(16)}"
