"""Send requests and retry them. The two senders differ only in how they wait."""

from __future__ import annotations

import asyncio
import io
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import httpx2 as httpx

from promptreel.sdk.connection import Connection
from promptreel.sdk.errors import PromptReelError
from promptreel.sdk.request import Call, Request, Upload
from promptreel.sdk.response import error_from_response, error_from_transport, parse_response

Result = TypeVar("Result")


class Sender:
    """Send requests from the calling thread.

    Args:
        now: monotonic clock in seconds.
        sleep: sleeps for a number of seconds.
    """

    def __init__(
        self,
        connection: Connection,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.connection = connection
        self.now = now
        self.sleep = sleep
        self._http = httpx.Client(**connection.client_options())

    def send(self, call: Call[Result], deadline: float = math.inf) -> Result:
        """Send a request, retry it by the policy, and parse the result.

        Args:
            deadline: `now()` time that limits request timeouts and retries.

        Raises:
            PromptReelError: see `promptreel.sdk.errors`.
        """
        retries = 0
        while True:
            outcome = self._send_once(call.request, deadline)
            if isinstance(outcome, httpx.Response):
                return parse_response(call, outcome)
            delay_s = self.delay_s(call.request, outcome, retries)
            if delay_s is None or self.now() + delay_s >= deadline:
                raise outcome
            self.sleep(delay_s)
            retries += 1

    def delay_s(self, request: Request, failure: PromptReelError, retries: int) -> float | None:
        """Return the delay in seconds before the next retry; None if the request is not retried."""
        return self.connection.retries.delay_s(request, failure, retries, random.uniform)

    @contextmanager
    def stream(self, request: Request) -> Iterator[httpx.Response]:
        """Open a response whose body is read by the caller.

        Raises:
            PromptReelError: the request failed or returned an error.
        """
        try:
            with self._http.stream(**_request_options(self.connection, request, math.inf)) as response:
                if not response.is_success:
                    response.read()
                    raise error_from_response(request, response)
                yield response
        except httpx.RequestError as error:
            raise error_from_transport(request, error, self.connection.base_url) from error

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def _send_once(self, request: Request, deadline: float) -> httpx.Response | PromptReelError:
        options = _request_options(self.connection, request, deadline - self.now())
        try:
            with _open_upload(request.file) as file:
                response = self._http.request(**options, **_multipart(request, file))
        except httpx.RequestError as error:
            return error_from_transport(request, error, self.connection.base_url)
        return response if response.is_success else error_from_response(request, response)


class AsyncSender:
    """Send requests from the running event loop; see `Sender`."""

    def __init__(
        self,
        connection: Connection,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.connection = connection
        self.now = now
        self.sleep = sleep
        self._http = httpx.AsyncClient(**connection.client_options())

    async def send(self, call: Call[Result], deadline: float = math.inf) -> Result:
        """See `Sender.send`."""
        retries = 0
        while True:
            outcome = await self._send_once(call.request, deadline)
            if isinstance(outcome, httpx.Response):
                return parse_response(call, outcome)
            delay_s = self.delay_s(call.request, outcome, retries)
            if delay_s is None or self.now() + delay_s >= deadline:
                raise outcome
            await self.sleep(delay_s)
            retries += 1

    def delay_s(self, request: Request, failure: PromptReelError, retries: int) -> float | None:
        """See `Sender.delay_s`."""
        return self.connection.retries.delay_s(request, failure, retries, random.uniform)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[httpx.Response]:
        """See `Sender.stream`."""
        try:
            async with self._http.stream(**_request_options(self.connection, request, math.inf)) as response:
                if not response.is_success:
                    await response.aread()
                    raise error_from_response(request, response)
                yield response
        except httpx.RequestError as error:
            raise error_from_transport(request, error, self.connection.base_url) from error

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def _send_once(self, request: Request, deadline: float) -> httpx.Response | PromptReelError:
        options = _request_options(self.connection, request, deadline - self.now())
        try:
            with _open_upload(request.file) as file:
                response = await self._http.request(**options, **_multipart(request, file))
        except httpx.RequestError as error:
            return error_from_transport(request, error, self.connection.base_url)
        return response if response.is_success else error_from_response(request, response)


def _request_options(connection: Connection, request: Request, remaining_s: float) -> dict[str, Any]:
    """Return the httpx arguments of a request, without its file."""
    headers = dict(request.headers)
    if request.idempotency is not None:
        headers["Idempotency-Key"] = request.idempotency
    options: dict[str, Any] = {
        "method": request.method,
        "url": request.path,
        "params": request.params,
        "headers": headers,
        "timeout": connection.timeout(request.min_timeout_s, max(remaining_s, 0.001)),
    }
    return options if request.json is None else {**options, "json": request.json}


def _multipart(request: Request, file: io.IOBase | None) -> dict[str, Any]:
    if request.file is None:
        return {}
    return {"data": request.form, "files": {"file": (request.file.name, file)}}


def _open_upload(upload: Upload | None) -> AbstractContextManager[Any]:
    """Open the file to upload. A file object of the caller stays open."""
    if upload is None:
        return nullcontext()
    return upload.source.open("rb") if isinstance(upload.source, Path) else nullcontext(upload.source)
