"""A DoFn that keeps a window of coroutines under way while the pipeline goes on feeding it.

One event loop in a thread for each DoFn instance. `process` gives out what is done and schedules; what finds the window
full waits in the loop, in a backlog, and only a full backlog holds `process` up. `finish_bundle` drains the tail. So
whatever is fused in front of it (decoding, say) goes on while calls are under way: an item is decoded in one piece and
comes as many segments at once, more than the window holds. Batches with a gather would wait for the slowest call of each.
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
    """Maps each element to one output by a coroutine, out of order, in the global window.

    Args:
        max_in_flight: coroutines under way at once.
        backlog: further elements that wait for their turn; they are small.
    """

    def __init__(self, max_in_flight: int, backlog: int = BACKLOG) -> None:
        self._max_in_flight = max_in_flight
        self._backlog = backlog

    @abstractmethod
    async def handle(self, element: In) -> Out:
        """Turns one element into its output; a failure is an output too. What it raises ends the pipeline."""

    async def open(self) -> None:
        """Acquires clients, in the event loop."""

    async def close(self) -> None:
        """Releases what `open` acquired."""

    def setup(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=type(self).__name__, daemon=True)
        self._thread.start()
        self._window = asyncio.Semaphore(self._max_in_flight)
        self._wait(self.open())
        self._begin_bundle()

    def start_bundle(self) -> None:
        self._begin_bundle()

    def process(self, element: In) -> Iterator[Out]:
        yield from self._done_now()
        while self._scheduled >= self._max_in_flight + self._backlog:
            yield self._take(self._finished.get())
        self._schedule(element)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        while self._scheduled:
            yield GlobalWindows.windowed_value(self._take(self._finished.get()))

    def teardown(self) -> None:
        if not hasattr(self, "_loop"):
            return
        self._wait(self._cancel_rest())
        self._wait(self.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        del self._loop

    def _begin_bundle(self) -> None:
        self._finished: queue.SimpleQueue[Future[Out]] = queue.SimpleQueue()
        self._scheduled = 0

    def _schedule(self, element: In) -> None:
        future = asyncio.run_coroutine_threadsafe(self._in_turn(element), self._loop)
        self._scheduled += 1
        future.add_done_callback(self._finished.put)

    def _done_now(self) -> Iterator[Out]:
        while True:
            try:
                future = self._finished.get_nowait()
            except queue.Empty:
                return
            yield self._take(future)

    async def _in_turn(self, element: In) -> Out:
        async with self._window:
            return await self.handle(element)

    def _take(self, future: Future[Out]) -> Out:
        self._scheduled -= 1
        return future.result()

    def _wait(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _cancel_rest(self) -> None:
        """Cancels what a failed bundle left under way."""
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
