"""Which requests go to the API and which to pages. The API accepts keys in headers only, pages accept sessions only."""

from __future__ import annotations

from typing import Final

API_PREFIX: Final = "/api/v2"
_OTHER: Final = frozenset({"/healthz", "/readyz", "/metrics"})


def is_page(path: str) -> bool:
    """Whether a path is that of a page for browsers.

    >>> is_page("/runs"), is_page("/api/v2/prompt-runs"), is_page("/healthz")
    (True, False, False)
    """
    return path not in _OTHER and path != "/api" and not path.startswith("/api/")
