"""Pages of a list. Iterating over a page continues through all following pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Generic, TypeVar

from promptreel.schemas.wire.common import Page as PageBody
from promptreel.schemas.wire.diff import DiffSummaryBody, FieldChangeBody, RunDiffPage
from promptreel.sdk.errors import PromptReelError
from promptreel.sdk.request import Listing
from promptreel.sdk.sender import AsyncSender, Sender

Item = TypeVar("Item")


class _BasePage(Generic[Item]):
    """A page of either client.

    Attributes:
        data: items of this page.
        has_more: whether another page follows.
        next_cursor: cursor of the next page; None on the last page.
    """

    def __init__(self, listing: Listing[Item], body: PageBody[Item], cursor: str | None) -> None:
        self._listing = listing
        self.data = body.data
        self.has_more = body.pagination.has_more
        self.next_cursor = body.pagination.next_cursor
        if self.has_more and (not self.next_cursor or self.next_cursor == cursor):
            raise PromptReelError(
                f"{listing.request} reported another page, but the cursor {self.next_cursor!r} is missing or repeated; "
                "start again from the first page"
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.data)}, {'has more' if self.has_more else 'last'}>"


class Page(_BasePage[Item]):
    """One page; `for item in page` iterates over its items and those of all following pages."""

    def __init__(self, sender: Sender, listing: Listing[Item], body: PageBody[Item], cursor: str | None = None) -> None:
        super().__init__(listing, body, cursor)
        self._sender = sender

    def next_page(self) -> Page[Item] | None:
        """Return the next page; None after the last."""
        if not self.has_more or self.next_cursor is None:
            return None
        following = self._listing.after(self.next_cursor)
        return Page(self._sender, following, self._sender.send(following.page()), self.next_cursor)

    def __iter__(self) -> Iterator[Item]:
        page: Page[Item] | None = self
        while page is not None:
            yield from page.data
            page = page.next_page()


class AsyncPage(_BasePage[Item]):
    """One page; `async for item in page` iterates over its items and those of all following pages."""

    def __init__(
        self, sender: AsyncSender, listing: Listing[Item], body: PageBody[Item], cursor: str | None = None
    ) -> None:
        super().__init__(listing, body, cursor)
        self._sender = sender

    async def next_page(self) -> AsyncPage[Item] | None:
        """Return the next page; None after the last."""
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
    """The first page of a diff between two runs; `summary` counts the changes on all pages."""

    def __init__(self, sender: Sender, listing: Listing[FieldChangeBody], body: RunDiffPage) -> None:
        super().__init__(sender, listing, body)
        self.summary: DiffSummaryBody | None = body.summary


class AsyncDiffPage(AsyncPage[FieldChangeBody]):
    """The first page of a diff between two runs; `summary` counts the changes on all pages."""

    def __init__(self, sender: AsyncSender, listing: Listing[FieldChangeBody], body: RunDiffPage) -> None:
        super().__init__(sender, listing, body)
        self.summary: DiffSummaryBody | None = body.summary
