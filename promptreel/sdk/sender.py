"""Sending requests, and sending them again. The two senders differ only in how they wait."""

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

from promptreel.sdk.answer import answer_of, error_of_response, error_of_transport
from promptreel.sdk.connection import Connection
from promptreel.sdk.errors import PromptReelError
from promptreel.sdk.request import Call, Request, Upload

Answer = TypeVar("Answer")


class Sender:
    """Sends requests from the calling thread.

    Args:
        now: seconds of a clock that never goes back.
        sleep: waits so many seconds.
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

    def send(self, call: Call[Answer], deadline: float = math.inf) -> Answer:
        """Sends a call's request, again where that may help, and reads its answer.

        Args:
            deadline: the moment of `now` after which nothing is waited for.

        Raises:
            PromptReelError: see its tree.
        """
        retries = 0
        while True:
            outcome = self._once(call.request, deadline)
            if isinstance(outcome, httpx.Response):
                return answer_of(call, outcome)
            delay_s = self.delay_s(call.request, outcome, retries)
            if delay_s is None or self.now() + delay_s >= deadline:
                raise outcome
            self.sleep(delay_s)
            retries += 1

    def delay_s(self, request: Request, failure: PromptReelError, retries: int) -> float | None:
        """Seconds after which a failed request is sent again; None where it is not."""
        return self.connection.retries.delay_s(request, failure, retries, random.uniform)

    @contextmanager
    def stream(self, request: Request) -> Iterator[httpx.Response]:
        """A response whose body is still to come.

        Raises:
            PromptReelError: there is none, or it is an error.
        """
        try:
            with self._http.stream(**_arguments(self.connection, request, math.inf)) as response:
                if not response.is_success:
                    response.read()
                    raise error_of_response(request, response)
                yield response
        except httpx.RequestError as error:
            raise error_of_transport(request, error, self.connection.base_url) from error

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def _once(self, request: Request, deadline: float) -> httpx.Response | PromptReelError:
        arguments = _arguments(self.connection, request, deadline - self.now())
        try:
            with _opened(request.file) as file:
                response = self._http.request(**arguments, **_files(request, file))
        except httpx.RequestError as error:
            return error_of_transport(request, error, self.connection.base_url)
        return response if response.is_success else error_of_response(request, response)


class AsyncSender:
    """Sends requests from the running event loop; see `Sender`."""

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

    async def send(self, call: Call[Answer], deadline: float = math.inf) -> Answer:
        """See `Sender.send`."""
        retries = 0
        while True:
            outcome = await self._once(call.request, deadline)
            if isinstance(outcome, httpx.Response):
                return answer_of(call, outcome)
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
            async with self._http.stream(**_arguments(self.connection, request, math.inf)) as response:
                if not response.is_success:
                    await response.aread()
                    raise error_of_response(request, response)
                yield response
        except httpx.RequestError as error:
            raise error_of_transport(request, error, self.connection.base_url) from error

    async def close(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def _once(self, request: Request, deadline: float) -> httpx.Response | PromptReelError:
        arguments = _arguments(self.connection, request, deadline - self.now())
        try:
            with _opened(request.file) as file:
                response = await self._http.request(**arguments, **_files(request, file))
        except httpx.RequestError as error:
            return error_of_transport(request, error, self.connection.base_url)
        return response if response.is_success else error_of_response(request, response)


def _arguments(connection: Connection, request: Request, left_s: float) -> dict[str, Any]:
    """What httpx is told of a request, but for its file."""
    headers = dict(request.headers)
    if request.idempotency is not None:
        headers["Idempotency-Key"] = request.idempotency
    arguments: dict[str, Any] = {
        "method": request.method,
        "url": request.path,
        "params": request.params,
        "headers": headers,
        "timeout": connection.timeout(request.patience_s, max(left_s, 0.001)),
    }
    return arguments if request.json is None else {**arguments, "json": request.json}


def _files(request: Request, file: io.IOBase | None) -> dict[str, Any]:
    if request.file is None:
        return {}
    return {"data": request.form, "files": {"file": (request.file.name, file)}}


def _opened(upload: Upload | None) -> AbstractContextManager[Any]:
    """The file that is sent; one that the caller gave stays open."""
    if upload is None:
        return nullcontext()
    return upload.source.open("rb") if isinstance(upload.source, Path) else nullcontext(upload.source)
