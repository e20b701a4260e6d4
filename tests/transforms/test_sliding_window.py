"""The sliding window of coroutines: complete output, bounded concurrency, upstream progress, and cleanup."""

import asyncio
import random
import threading

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from promptreel.transforms.sliding_window import SlidingWindowDoFn

# Counters of the pipeline's functions, which are pickled by reference to this module and run in this process.
counters = None


class Counters:
    """Counters of one pipeline."""

    def __init__(self):
        self.lock = threading.Lock()
        self.produced = self.started = self.finished = self.cancelled = 0
        self.in_flight = self.max_in_flight_seen = 0
        self.max_ahead = 0
        self.timed_out = False
        self.opened, self.closed = 0, 0


@pytest.fixture(autouse=True)
def _fresh():
    global counters
    counters = Counters()


def produce(number):
    """Simulate decoding, and record how far it is ahead of the finished calls."""
    with counters.lock:
        counters.produced += 1
        counters.max_ahead = max(counters.max_ahead, counters.produced - counters.finished)
    return number


class Squares(SlidingWindowDoFn):
    """Squares numbers after a short delay; the number `broken` raises an error."""

    def __init__(self, max_in_flight, *, broken=None, open_fails=False, **options):
        super().__init__(max_in_flight, **options)
        self._broken = broken
        self._open_fails = open_fails

    async def open(self):
        counters.opened += 1
        if self._open_fails:
            raise RuntimeError("no client")

    async def close(self):
        counters.closed += 1

    async def handle(self, number):
        with counters.lock:
            counters.started += 1
            counters.in_flight += 1
            counters.max_in_flight_seen = max(counters.max_in_flight_seen, counters.in_flight)
        try:
            if number == self._broken:
                raise ValueError(f"cannot square {number}")
            hang_s = 3600 if self._broken is not None and number > self._broken else 0
            await asyncio.sleep(hang_s or random.Random(number).uniform(0, 0.01))
            return number * number
        except asyncio.CancelledError:
            counters.cancelled += 1
            raise
        finally:
            with counters.lock:
                counters.in_flight -= 1
                counters.finished += 1


def run(numbers, do_fn):
    """Return the outputs of a pipeline over numbers, in order of arrival."""
    outputs = []
    global collect
    collect = outputs.append
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        _ = pipeline | beam.Create(numbers) | beam.Map(produce) | beam.ParDo(do_fn) | beam.Map(collect_output)
    return outputs


def collect_output(value):
    collect(value)


@pytest.mark.parametrize(("count", "window"), [(0, 4), (1, 4), (3, 4), (200, 1), (200, 7), (200, 1000)])
def test_outputs_equal_those_of_a_loop_in_any_order(count, window):
    assert sorted(run(range(count), Squares(window))) == [number * number for number in range(count)]
    assert counters.max_in_flight_seen <= window
    assert (counters.in_flight, counters.started, counters.finished) == (0, count, count)


class Waiting(SlidingWindowDoFn):
    """Blocks every call until the given numbers of calls are in flight and of elements are produced."""

    def __init__(self, max_in_flight, *, until_in_flight=0, until_produced=0, **options):
        super().__init__(max_in_flight, **options)
        self._until = (until_in_flight, until_produced)

    async def handle(self, number):
        with counters.lock:
            counters.in_flight += 1
            counters.max_in_flight_seen = max(counters.max_in_flight_seen, counters.in_flight)
        for _ in range(2000):
            if counters.timed_out or (
                counters.max_in_flight_seen >= self._until[0] and counters.produced >= self._until[1]
            ):
                break
            await asyncio.sleep(0.01)
        else:
            counters.timed_out = True
        with counters.lock:
            counters.in_flight -= 1
        return number


def test_window_fills():
    run(range(40), Waiting(8, until_in_flight=8))
    assert not counters.timed_out
    assert counters.max_in_flight_seen == 8


def test_producer_continues_while_the_window_is_full():
    run(range(100), Waiting(2, until_produced=100))
    assert not counters.timed_out
    assert counters.max_in_flight_seen <= 2


def test_full_backlog_blocks_the_producer():
    run(range(100), Squares(3, backlog=5))
    assert counters.max_ahead <= 3 + 5 + 1  # window, backlog, and the element blocked in `process`


def test_every_open_has_a_close():
    run(range(5), Squares(2))
    assert counters.opened == counters.closed >= 1


def test_exception_ends_the_pipeline_and_cancels_running_calls():
    threads = set(threading.enumerate())
    with pytest.raises(Exception, match="cannot square 3"):
        run(range(20), Squares(8, broken=3))
    assert counters.in_flight == 0
    assert counters.cancelled >= 1
    assert counters.opened == counters.closed
    assert not [thread for thread in set(threading.enumerate()) - threads if thread.name == "Squares"]


def test_error_in_open_ends_the_pipeline():
    with pytest.raises(Exception, match="no client"):
        run(range(3), Squares(2, open_fails=True))
    assert counters.started == 0


def test_setup_works_again_after_teardown():
    do_fn = Squares(2)
    for _ in range(2):
        do_fn.setup()
        do_fn.start_bundle()
        outputs = [value for number in range(5) for value in do_fn.process(number)]
        outputs += [windowed.value for windowed in do_fn.finish_bundle()]
        do_fn.teardown()
        do_fn.teardown()
        assert sorted(outputs) == [0, 1, 4, 9, 16]
    assert counters.opened == counters.closed == 2
