"""The clients."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from promptreel.sdk import resources
from promptreel.sdk.connection import connection
from promptreel.sdk.retry import RetryPolicy
from promptreel.sdk.sender import AsyncSender, Sender


class PromptReel:
    """A client of a promptreel service. Threads may share it; close it, or use it in a `with` block.

        with PromptReel() as client:
            run = client.prompt_runs.execute(prompt_id, {"type": "index", "index_id": index_id})
            run = client.prompt_runs.wait_for_completion(run.run_id)

    Args:
        api_key: PROMPTREEL_API_KEY where it is None.
        base_url: PROMPTREEL_BASE_URL where it is None, else that of `promptreel serve` on this machine.
        timeout_s: seconds without a byte after which a request is given up; answers that are known to take long have more.
        connect_timeout_s: seconds to establish a connection.
        retries: when a request is sent again.
        verify: whether certificates are checked, or the context that checks them.
        trust_env: whether proxies named in the environment are used.
        now, sleep: the clock by which retries and waits go.

    Raises:
        PromptReelError: there is no key, or the address is none.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        timeout_s: float = 60.0,
        connect_timeout_s: float = 10.0,
        retries: RetryPolicy = RetryPolicy(),
        verify: bool | ssl.SSLContext = True,
        trust_env: bool = True,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        settings = connection(
            api_key,
            base_url,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            retries=retries,
            verify=verify,
            trust_env=trust_env,
        )
        sender = self._sender = Sender(settings, now, sleep)
        self.prompt_runs = resources.PromptRuns(sender)
        self.prompts = resources.Prompts(sender)
        self.indexes = resources.Indexes(sender)
        self.videos = resources.Videos(sender)
        self.playground = resources.Playground(sender)
        self.search = resources.Search(sender)
        self.events = resources.Events(sender)
        self.api_keys = resources.ApiKeys(sender)
        self.rate_limits = resources.RateLimits(sender)
        self.auth = resources.Auth(sender)

    def close(self) -> None:
        """Closes its connections; it cannot be used again."""
        self._sender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        settings = self._sender.connection
        return f"PromptReel(api_key={settings.masked_key!r}, base_url={settings.base_url!r})"


class AsyncPromptReel:
    """A client of a promptreel service for one event loop: the same resources, whose methods are coroutines.

        async with AsyncPromptReel() as client:
            run = await client.prompt_runs.execute(prompt_id, {"type": "index", "index_id": index_id})
            run = await client.prompt_runs.wait_for_completion(run.run_id)

    Arguments as for `PromptReel`.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        timeout_s: float = 60.0,
        connect_timeout_s: float = 10.0,
        retries: RetryPolicy = RetryPolicy(),
        verify: bool | ssl.SSLContext = True,
        trust_env: bool = True,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        settings = connection(
            api_key,
            base_url,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            retries=retries,
            verify=verify,
            trust_env=trust_env,
        )
        sender = self._sender = AsyncSender(settings, now, sleep)
        self.prompt_runs = resources.AsyncPromptRuns(sender)
        self.prompts = resources.AsyncPrompts(sender)
        self.indexes = resources.AsyncIndexes(sender)
        self.videos = resources.AsyncVideos(sender)
        self.playground = resources.AsyncPlayground(sender)
        self.search = resources.AsyncSearch(sender)
        self.events = resources.AsyncEvents(sender)
        self.api_keys = resources.AsyncApiKeys(sender)
        self.rate_limits = resources.AsyncRateLimits(sender)
        self.auth = resources.AsyncAuth(sender)

    async def close(self) -> None:
        """Closes its connections; it cannot be used again."""
        await self._sender.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        settings = self._sender.connection
        return f"AsyncPromptReel(api_key={settings.masked_key!r}, base_url={settings.base_url!r})"
