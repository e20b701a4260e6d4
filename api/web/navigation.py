"""Which pages the navigation lists. A key sees only those that its scopes permit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from promptreel.api.web.auth import Principal  # whose errors are pages, which need this module


@dataclass(frozen=True, slots=True)
class NavigationLink:
    """A page in the navigation, and the scope that it requires."""

    path: str
    name: str
    scope: str


LINKS: Final = (
    NavigationLink("/runs", "Runs", "read"),
    NavigationLink("/search", "Search", "search"),
    NavigationLink("/prompts", "Prompts", "read"),
    NavigationLink("/indexes", "Indexes", "read"),
    NavigationLink("/upload", "Upload", "write"),
    NavigationLink("/sql", "SQL", "search"),
    NavigationLink("/keys", "Keys", "admin"),
)


def permitted_links(caller: Principal | None) -> tuple[NavigationLink, ...]:
    """Return the pages that a caller may open; none without one."""
    return () if caller is None else tuple(link for link in LINKS if caller.has_scope(link.scope))
