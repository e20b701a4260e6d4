"""An event loop with virtual time: the clock jumps to the next timer, so waits are instant and exact."""

import asyncio


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` is constant while callbacks run, and jumps to the next timer when all are waiting."""

    def __init__(self):
        self._now = 0.0
        super().__init__()

    def time(self):
        return self._now

    def _run_once(self):
        if not self._ready and self._scheduled:
            self._now = max(self._now, self._scheduled[0]._when)
        super()._run_once()


def run_virtual(coroutine):
    """Run a coroutine in virtual time; return its result."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
