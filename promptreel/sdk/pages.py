"""Pages of a list. Iterating over one goes on through all that follow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Generic, TypeVar

from promptreel.schemas.wire.common import Page as PageBody
from promptreel.schemas.wire.diff import DiffSummaryBody, FieldChangeBody, RunDiffPage
from promptreel.sdk.errors import PromptReelError
from promptreel.sdk.request import Listing
from promptreel.sdk.sender import AsyncSender, Sender

Item = TypeVar("Item")


class _OnePage(Generic[Item]):
    """What both kinds of pages hold.

    Attributes:
        data: the items of this page.
        has_more: whether another page follows.
        next_cursor: names that page; None where there is none.
    """

    def __init__(self, listing: Listing[Item], body: PageBody[Item], cursor: str | None) -> None:
        self._listing = listing
        self.data = body.data
        self.has_more = body.pagination.has_more
        self.next_cursor = body.pagination.next_cursor
        if self.has_more and (not self.next_cursor or self.next_cursor == cursor):
            raise PromptReelError(
                f"{listing.request} says that more follows, but its cursor ({self.next_cursor!r}) leads nowhere new; "
                "begin the list again"
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.data)}, {'more follow' if self.has_more else 'the last'}>"


class Page(_OnePage[Item]):
    """One page; `for item in page` goes through its items and those of all pages that follow."""

    def __init__(self, sender: Sender, listing: Listing[Item], body: PageBody[Item], cursor: str | None = None) -> None:
        super().__init__(listing, body, cursor)
        self._sender = sender

    def next_page(self) -> Page[Item] | None:
        """The page that follows; None after the last."""
        if not self.has_more or self.next_cursor is None:
            return None
        following = self._listing.after(self.next_cursor)
        return Page(self._sender, following, self._sender.send(following.page()), self.next_cursor)

    def __iter__(self) -> Iterator[Item]:
        page: Page[Item] | None = self
        while page is not None:
            yield from page.data
            page = page.next_page()


class AsyncPage(_OnePage[Item]):
    """One page; `async for item in page` goes through its items and those of all pages that follow."""

    def __init__(
        self, sender: AsyncSender, listing: Listing[Item], body: PageBody[Item], cursor: str | None = None
    ) -> None:
        super().__init__(listing, body, cursor)
        self._sender = sender

    async def next_page(self) -> AsyncPage[Item] | None:
        """The page that follows; None after the last."""
        if not self.has_more or self.next_cursor is None:
            return None
        following = self._listing.after(self.next_cursor)
        return AsyncPage(self._sender, following, await self._sender.send(following.page()), self.next_cursor)

    async def __aiter__(self) -> AsyncIterator[Item]:
        page: AsyncPage[Item] | None = self
        while page is not None:
            for item in page.data:
                yield item
            page = await page.next_page()


class DiffPage(Page[FieldChangeBody]):
    """The first page of what differs between two runs; `summary` counts what is on all of them."""

    def __init__(self, sender: Sender, listing: Listing[FieldChangeBody], body: RunDiffPage) -> None:
        super().__init__(sender, listing, body)
        self.summary: DiffSummaryBody | None = body.summary


class AsyncDiffPage(AsyncPage[FieldChangeBody]):
    """The first page of what differs between two runs; `summary` counts what is on all of them."""

    def __init__(self, sender: AsyncSender, listing: Listing[FieldChangeBody], body: RunDiffPage) -> None:
        super().__init__(sender, listing, body)
        self.summary: DiffSummaryBody | None = body.summary
