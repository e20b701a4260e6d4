"""URIs of media: their public form, and messages without their secrets.

A URL may contain secrets: a password before the host, or a signature or token in the query. Only `TargetItem.uri` holds the
full URL, in a private file of the run folder. Tables, logs, messages and progress contain the public form.

>>> public_uri("https://me:password@host/a%20film.mp4?X-Amz-Signature=abc")
'https://host/a%20film.mp4'
>>> display_name("https://me:password@host/a%20film.mp4?X-Amz-Signature=abc")
'a film.mp4'
"""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import quote, unquote, unquote_plus, unquote_to_bytes

from promptreel.schemas.errors import InvalidInput

_URI: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)", re.DOTALL)
_URI_IN_TEXT: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
_PAGE: Final = re.compile(r"#page=\d{1,5}\Z")
# Schemes whose names may contain "?", "#" and "%": these are not a query, a fragment or an escape.
_OBJECT_STORES: Final = frozenset({"gs", "gcs", "s3", "s3a", "memory"})
_AUTHORITY: Final = re.compile(r"(\[[^\]]*\]|[^:]*)(:\d*)?", re.DOTALL)
_REMOVED: Final = "[removed]"
_MIN_SECRET_CHARS: Final = 4  # shorter values ("1", "GET") occur in messages for other reasons


def scheme_of(uri: str) -> str | None:
    """Return the scheme of a URI in lower case; None for a local path."""
    found = _URI.fullmatch(uri)
    return None if found is None else found["scheme"].lower()


def is_remote(uri: str) -> bool:
    """Return whether a URI is neither a local path nor a `file://` URI."""
    return scheme_of(uri) not in (None, "file")


def public_uri(uri: str) -> str:
    """Return a URI without userinfo, query and fragment, except for `#page=N`.

    Local paths and `file://` URIs are unchanged, and so are names of objects that contain "?" or "#"; the query of an object
    is removed if it has parameters.
    """
    if not is_remote(uri):
        return uri
    userinfo, query, fragment = _secret_parts(uri)
    page = _PAGE.search(uri)
    public = uri if page is None else uri[: page.start()]
    public = public.removesuffix(f"#{fragment}") if fragment is not None else public
    public = public.removesuffix(f"?{query}") if query is not None else public
    public = public.replace(f"{userinfo}@", "", 1) if userinfo is not None else public
    authority = public.partition("://")[2].partition("/")[0]
    if not _AUTHORITY.fullmatch(authority):  # an unescaped password, e.g. me:p/w@host
        return f"{public.partition('://')[0]}://{authority.partition(':')[0]}"
    return public if page is None else public + page.group()


def display_name(uri: str) -> str:
    """Return the last part of a remote URI's path, decoded; the host if the path is empty."""
    public = public_uri(uri)
    name = public.partition("://")[2].rstrip("/").rsplit("/", 1)[-1]
    return name if scheme_of(uri) in _OBJECT_STORES else unquote(name, errors="replace")


def local_path_of(uri: str) -> str:
    """Return the decoded path of a `file://` URI of this machine; bytes that are not UTF-8 become surrogate escapes.

    Raises:
        InvalidInput: the URI names another host, or no path.
    """
    host, slash, path = uri.partition("://")[2].partition("/")
    if not slash or host.lower() not in ("", "localhost"):
        raise InvalidInput(f"{uri}: must have the form file:///absolute/path")
    return os.fsdecode(unquote_to_bytes(f"/{path}"))


def redact(text: str, uri: str) -> str:
    """Return a message about a URI without its secrets, in any quoting, and without those of other URIs in it."""
    text = text.replace(uri, public_uri(uri))
    text = _URI_IN_TEXT.sub(lambda found: public_uri(found.group()), text)
    for secret in _secrets(uri):
        text = text.replace(secret, _REMOVED)
    return text


def _secret_parts(uri: str) -> tuple[str | None, str | None, str | None]:
    """Return (userinfo, query, fragment) of a remote URI; None for a part that it does not have."""
    page = _PAGE.search(uri)
    rest = (uri if page is None else uri[: page.start()]).partition("://")[2]
    fragment: str | None = None
    query: str | None = None
    if scheme_of(uri) in _OBJECT_STORES:
        before, mark, after = rest.rpartition("?")
        if mark and "=" in after:
            rest, query = before, after
    else:
        rest, mark, after = rest.partition("#")
        fragment = after if mark else None
        rest, mark, after = rest.partition("?")
        query = after if mark else None
    userinfo, mark, _ = rest.partition("/")[0].rpartition("@")
    return (userinfo if mark else None), query, fragment


def _secrets(uri: str) -> list[str]:
    """Return the secrets of a URI in the forms in which a message may quote them, longest first."""
    if not is_remote(uri):
        return []
    userinfo, query, fragment = _secret_parts(uri)
    found = {part for part in (userinfo, query, fragment) if part}
    if userinfo:
        found.add(userinfo.partition(":")[2] or userinfo)
    for part in (query or "").split("&"):
        found |= {part, part.partition("=")[2]}
    decoded = {decode(part) for part in found for decode in (unquote, unquote_plus)}
    forms = found | decoded | {quote(part, safe=safe) for part in decoded for safe in ("", "/", "/+=:")}
    forms |= {repr(form)[1:-1] for form in forms}
    return sorted((form for form in forms if len(form) >= _MIN_SECRET_CHARS), key=len, reverse=True)
