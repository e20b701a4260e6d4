"""A window of operations that ask the run's model, with a session that lives as long as the worker."""

from __future__ import annotations

from typing import Final, TypeVar

from promptreel.providers.registry import provider_of
from promptreel.schemas.settings import CallSettings
from promptreel.transforms.context import RunContext
from promptreel.transforms.model_session import ModelSession
from promptreel.transforms.sliding_window import SlidingWindowDoFn

In = TypeVar("In")
Out = TypeVar("Out")

# Beyond the calls in flight, one operation for so many of them is prepared or kept meanwhile: the service then waits for
# neither.
CALLS_FOR_ONE_MORE: Final = 4


def window_of(calls: CallSettings) -> int:
    """Operations under way at once, so that as many calls are in flight as the settings allow."""
    return calls.max_in_flight + max(1, calls.max_in_flight // CALLS_FOR_ONE_MORE)


class ModelDoFn(SlidingWindowDoFn[In, Out]):
    """Maps each element by a coroutine that may ask the run's model through `self._session`."""

    def __init__(self, context: RunContext) -> None:
        super().__init__(window_of(context.request.settings.calls))
        self._context = context

    async def open(self) -> None:
        self._session = ModelSession(self._context, provider_of(self._context.request.settings))
        await self._session.open()

    async def close(self) -> None:
        await self._session.close()
