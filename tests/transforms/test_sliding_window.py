"""The window of coroutines: every element once, never too many at once, fed while calls run, and closed whatever happens."""

import asyncio
import random
import threading

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from promptreel.transforms.sliding_window import SlidingWindowDoFn

# What the functions of a pipeline saw; they are pickled by reference to this module and run in this process.
seen = None


class Seen:
    """Counts of one pipeline."""

    def __init__(self):
        self.lock = threading.Lock()
        self.produced = self.begun = self.ended = self.cancelled = 0
        self.in_flight = self.most_in_flight = 0
        self.most_ahead = 0
        self.gave_up = False
        self.opened, self.closed = 0, 0


@pytest.fixture(autouse=True)
def _fresh():
    global seen
    seen = Seen()


def produce(number):
    """Stands for decoding: notes how far it is ahead."""
    with seen.lock:
        seen.produced += 1
        seen.most_ahead = max(seen.most_ahead, seen.produced - seen.ended)
    return number


class Squares(SlidingWindowDoFn):
    """Squares numbers after a while; one number may break."""

    def __init__(self, max_in_flight, *, broken=None, open_fails=False, **options):
        super().__init__(max_in_flight, **options)
        self._broken = broken
        self._open_fails = open_fails

    async def open(self):
        seen.opened += 1
        if self._open_fails:
            raise RuntimeError("no client")

    async def close(self):
        seen.closed += 1

    async def handle(self, number):
        with seen.lock:
            seen.begun += 1
            seen.in_flight += 1
            seen.most_in_flight = max(seen.most_in_flight, seen.in_flight)
        try:
            if number == self._broken:
                raise ValueError(f"cannot square {number}")
            forever = 3600 if self._broken is not None and number > self._broken else 0
            await asyncio.sleep(forever or random.Random(number).uniform(0, 0.01))
            return number * number
        except asyncio.CancelledError:
            seen.cancelled += 1
            raise
        finally:
            with seen.lock:
                seen.in_flight -= 1
                seen.ended += 1


def run(numbers, do_fn):
    """The outputs of a pipeline over numbers, in the order in which they came."""
    found = []
    global collect
    collect = found.append
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        _ = pipeline | beam.Create(numbers) | beam.Map(produce) | beam.ParDo(do_fn) | beam.Map(keep)
    return found


def keep(value):
    collect(value)


@pytest.mark.parametrize(("count", "window"), [(0, 4), (1, 4), (3, 4), (200, 1), (200, 7), (200, 1000)])
def test_the_outputs_are_those_of_a_plain_loop_in_any_order(count, window):
    assert sorted(run(range(count), Squares(window))) == [number * number for number in range(count)]
    assert seen.most_in_flight <= window
    assert (seen.in_flight, seen.begun, seen.ended) == (0, count, count)


class Waiting(SlidingWindowDoFn):
    """Ends no call before so many are under way, and so many elements were produced."""

    def __init__(self, max_in_flight, *, until_in_flight=0, until_produced=0, **options):
        super().__init__(max_in_flight, **options)
        self._until = (until_in_flight, until_produced)

    async def handle(self, number):
        with seen.lock:
            seen.in_flight += 1
            seen.most_in_flight = max(seen.most_in_flight, seen.in_flight)
        for _ in range(2000):
            if seen.gave_up or (seen.most_in_flight >= self._until[0] and seen.produced >= self._until[1]):
                break
            await asyncio.sleep(0.01)
        else:
            seen.gave_up = True
        with seen.lock:
            seen.in_flight -= 1
        return number


def test_the_window_fills():
    run(range(40), Waiting(8, until_in_flight=8))
    assert not seen.gave_up
    assert seen.most_in_flight == 8


def test_the_producer_goes_on_while_the_window_is_full():
    run(range(100), Waiting(2, until_produced=100))
    assert not seen.gave_up
    assert seen.most_in_flight <= 2


def test_a_full_backlog_holds_the_producer_up():
    run(range(100), Squares(3, backlog=5))
    assert seen.most_ahead <= 3 + 5 + 1  # and the one that waits at the door


def test_what_opens_is_closed():
    run(range(5), Squares(2))
    assert seen.opened == seen.closed >= 1


def test_an_exception_ends_the_pipeline_and_cancels_what_is_under_way():
    threads = set(threading.enumerate())
    with pytest.raises(Exception, match="cannot square 3"):
        run(range(20), Squares(8, broken=3))
    assert seen.in_flight == 0
    assert seen.cancelled >= 1
    assert seen.opened == seen.closed
    assert not [thread for thread in set(threading.enumerate()) - threads if thread.name == "Squares"]


def test_a_client_that_cannot_be_had_ends_the_pipeline_with_its_error():
    with pytest.raises(Exception, match="no client"):
        run(range(3), Squares(2, open_fails=True))
    assert seen.begun == 0


def test_it_can_be_set_up_again_after_it_was_torn_down():
    do_fn = Squares(2)
    for _ in range(2):
        do_fn.setup()
        do_fn.start_bundle()
        outputs = [value for number in range(5) for value in do_fn.process(number)]
        outputs += [windowed.value for windowed in do_fn.finish_bundle()]
        do_fn.teardown()
        do_fn.teardown()
        assert sorted(outputs) == [0, 1, 4, 9, 16]
    assert seen.opened == seen.closed == 2
