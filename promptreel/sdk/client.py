"""The sync and async clients."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from promptreel.sdk import resources
from promptreel.sdk.connection import resolve_connection
from promptreel.sdk.retry import RetryPolicy
from promptreel.sdk.sender import AsyncSender, Sender


class PromptReel:
    """A thread-safe client of a promptreel service. Close it after use, or use it in a `with` block.

        with PromptReel() as client:
            run = client.prompt_runs.execute(prompt_id, {"type": "index", "index_id": index_id})
            run = client.prompt_runs.wait_for_completion(run.run_id)

    Args:
        api_key: defaults to PROMPTREEL_API_KEY.
        base_url: defaults to PROMPTREEL_BASE_URL, then to the local address of `promptreel serve`.
        timeout_s: seconds without network activity after which a request fails. Slow operations have longer timeouts.
        connect_timeout_s: seconds to establish a connection.
        retries: which failed requests are retried, and how often.
        verify: whether to verify TLS certificates, or the SSL context to use.
        trust_env: whether to use proxies from the environment.
        now, sleep: the clock for retries and waits.

    Raises:
        PromptReelError: the API key is missing or invalid, or base_url is invalid.
        ValueError: a timeout is not above 0.
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
        settings = resolve_connection(
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
        """Close all connections. The client cannot be used afterwards."""
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
    """A client of a promptreel service for one event loop: the resources of `PromptReel`, with coroutine methods.

        async with AsyncPromptReel() as client:
            run = await client.prompt_runs.execute(prompt_id, {"type": "index", "index_id": index_id})
            run = await client.prompt_runs.wait_for_completion(run.run_id)

    The arguments are those of `PromptReel`.
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
        settings = resolve_connection(
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
        """Close all connections. The client cannot be used afterwards."""
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
