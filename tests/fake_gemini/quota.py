"""A limit of calls per second."""

import time


class Quota:
    """A token bucket of `rate` calls per second that holds the tokens of one second."""

    def __init__(self, rate):
        self.rate, self._tokens, self._last = rate, rate, time.monotonic()

    def acquire(self):
        """Return 0 if the call is accepted, otherwise the seconds until one would be."""
        now = time.monotonic()
        self._tokens = min(self.rate, self._tokens + (now - self._last) * self.rate)
        self._last = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self.rate
