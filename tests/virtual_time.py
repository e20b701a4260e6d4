"""An event loop whose clock jumps to the next timer: minutes of waiting pass at once, and exactly."""

import asyncio


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` stands still while callbacks run and jumps when all of them wait."""

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
    """Runs a coroutine in virtual time; returns its result."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
