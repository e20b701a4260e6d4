"""Base classes of the resources of both clients."""

from __future__ import annotations

from typing import TypeVar

from promptreel.sdk.pages import AsyncPage, Page
from promptreel.sdk.request import Call, Listing
from promptreel.sdk.sender import AsyncSender, Sender

Result = TypeVar("Result")
Item = TypeVar("Item")


class Resource:
    """A resource of the sync client."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def _send(self, call: Call[Result]) -> Result:
        return self._sender.send(call)

    def _first_page(self, listing: Listing[Item]) -> Page[Item]:
        return Page(self._sender, listing, self._sender.send(listing.page()))


class AsyncResource:
    """A resource of the async client."""

    def __init__(self, sender: AsyncSender) -> None:
        self._sender = sender

    async def _send(self, call: Call[Result]) -> Result:
        return await self._sender.send(call)

    async def _first_page(self, listing: Listing[Item]) -> AsyncPage[Item]:
        return AsyncPage(self._sender, listing, await self._sender.send(listing.page()))
