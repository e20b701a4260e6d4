"""Base class of DoFns that call the run's model in a sliding window, with one session per worker."""

from __future__ import annotations

from typing import Final, TypeVar

from promptreel.providers.registry import provider_of
from promptreel.providers.tiers import tier_of
from promptreel.schemas.settings import CallSettings, RunSettings
from promptreel.transforms.context import RunContext
from promptreel.transforms.model_session import ModelSession
from promptreel.transforms.sliding_window import SlidingWindowDoFn

In = TypeVar("In")
Out = TypeVar("Out")

# One extra operation for each this many calls in flight builds its request or stores its result meanwhile, so that the
# service never waits for either.
CALLS_PER_EXTRA_OPERATION: Final = 4


# Operations that wait for batch jobs at the same time; each needs little memory.
BATCH_WINDOW: Final = 5000


def window_of_run(settings: RunSettings) -> int:
    """Return the number of concurrent operations of a run."""
    is_batch = tier_of(provider_of(settings), settings) == "batch"
    return BATCH_WINDOW if is_batch else window_of(settings.calls)


def window_of(calls: CallSettings) -> int:
    """Return the number of concurrent operations that keeps as many calls in flight as the settings allow."""
    return calls.max_in_flight + max(1, calls.max_in_flight // CALLS_PER_EXTRA_OPERATION)


class ModelDoFn(SlidingWindowDoFn[In, Out]):
    """Maps each element with a coroutine that may call the run's model through `self._session`."""

    def __init__(self, context: RunContext) -> None:
        super().__init__(window_of_run(context.request.settings))
        self._context = context

    async def open(self) -> None:
        self._session = ModelSession(self._context, provider_of(self._context.request.settings))
        await self._session.open()
        self._log = self._context.outcome_log(self._session.storage)

    def expect_more(self, is_expected: bool) -> None:
        self._session.expect_more(is_expected)

    async def close(self) -> None:
        await self._session.close()
