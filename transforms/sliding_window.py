"""A DoFn that runs a bounded window of coroutines while the pipeline continues to feed it.

Each DoFn instance has one event loop in a thread. `process` emits finished outputs and schedules the new element. While
the window is full, elements wait in a backlog inside the loop; `process` blocks only while the backlog is full.
`finish_bundle` waits for the rest. So the stages fused before it (such as decoding) continue while calls are in flight:
decoding an item yields many segments at once, more than the window holds. Batches with a gather would wait for the
slowest call of each batch.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from abc import abstractmethod
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, Final, Generic, TypeVar

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

In = TypeVar("In")
Out = TypeVar("Out")

BACKLOG: Final = 1000


class SlidingWindowDoFn(beam.DoFn, Generic[In, Out]):
    """Maps each element to one output with a coroutine, out of order, in the global window.

    Args:
        max_in_flight: maximum number of coroutines that run concurrently.
        backlog: maximum number of further elements that wait; elements are small.
    """

    def __init__(self, max_in_flight: int, backlog: int = BACKLOG) -> None:
        self._max_in_flight = max_in_flight
        self._backlog = backlog

    @abstractmethod
    async def handle(self, element: In) -> Out:
        """Map one element to its output, which may describe a failure. An exception ends the pipeline."""

    async def open(self) -> None:
        """Open clients, in the event loop."""

    async def close(self) -> None:
        """Close what `open` opened."""

    def expect_more(self, is_expected: bool) -> None:
        """Note whether further elements arrive in this bundle; called at its start and its end, in Beam's thread."""

    def setup(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=type(self).__name__, daemon=True)
        self._thread.start()
        self._window = asyncio.Semaphore(self._max_in_flight)
        self._wait(self.open())
        self._reset_bundle()

    def start_bundle(self) -> None:
        self._reset_bundle()
        self.expect_more(True)

    def process(self, element: In) -> Iterator[Out]:
        yield from self._finished_outputs()
        while self._scheduled >= self._max_in_flight + self._backlog:
            yield self._take(self._finished.get())
        self._schedule(element)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        self.expect_more(False)
        while self._scheduled:
            yield GlobalWindows.windowed_value(self._take(self._finished.get()))

    def teardown(self) -> None:
        if not hasattr(self, "_loop"):
            return
        self._wait(self._cancel_pending())
        self._wait(self.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        del self._loop

    def _reset_bundle(self) -> None:
        self._finished: queue.SimpleQueue[Future[Out]] = queue.SimpleQueue()
        self._scheduled = 0

    def _schedule(self, element: In) -> None:
        future = asyncio.run_coroutine_threadsafe(self._handle_in_window(element), self._loop)
        self._scheduled += 1
        future.add_done_callback(self._finished.put)

    def _finished_outputs(self) -> Iterator[Out]:
        while True:
            try:
                future = self._finished.get_nowait()
            except queue.Empty:
                return
            yield self._take(future)

    async def _handle_in_window(self, element: In) -> Out:
        async with self._window:
            return await self.handle(element)

    def _take(self, future: Future[Out]) -> Out:
        self._scheduled -= 1
        return future.result()

    def _wait(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _cancel_pending(self) -> None:
        """Cancel the coroutines that a failed bundle left running."""
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
