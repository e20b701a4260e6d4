"""Render templates. Every value is hostile text: model answers and file names may contain markup."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from promptreel.schemas.mediatime import format_timecode

_TEMPLATES: Final = Path(__file__).with_name("templates")
STATIC: Final = Path(__file__).with_name("static")
_NOT_IN_TOKENS: Final = re.compile(r"[^a-z_-]")
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # not allowed in HTML


def render(template: str, **values: Any) -> str:
    """Render a template of this package. All values are escaped.

    Raises:
        jinja2.UndefinedError: the template uses a value that is not given.
    """
    return _environment().get_template(template).render(values)


def encode(html: str) -> bytes:
    """Encode a page. A lone surrogate, which JSON text can contain, becomes a question mark."""
    return html.encode("utf-8", "replace")


@cache
def stylesheet() -> str:
    return (STATIC / "style.css").read_text("utf-8")


@cache
def content_security_policy() -> str:
    """The policy of a page without scripts: the stylesheet by its hash, inline images, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(stylesheet().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"


@cache
def static_url(name: str) -> str:
    """Return the URL of a file in `static/`. It changes with the content, so that browsers can cache the file."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()
    return f"/static/{name}?v={digest[:12]}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters["token"] = _token
    environment.filters["timecode"] = format_timecode
    environment.filters["path"] = _path_segment
    environment.globals["stylesheet"] = stylesheet
    environment.globals["static_url"] = static_url
    environment.globals["content_security_policy"] = content_security_policy
    return environment


def _token(value: str) -> str:
    """Return a status, a reason or a language code as part of a class or a `lang` attribute."""
    return _NOT_IN_TOKENS.sub("", value.lower())


def _path_segment(value: str) -> str:
    """Return text as one segment of a path in a link."""
    return quote(value, safe="")


def _printable(value: Any) -> Any:
    """Remove control characters; `Markup`, the output of a macro, is returned as it is."""
    return _CONTROLS.sub("", value) if type(value) is str else value
