"""A load over HTTP/1.1 that costs little itself: kept-alive connections, each asking again as soon as it is answered."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Load:
    """What a service answered while it was under load.

    Attributes:
        seconds: from the first request to the last answer.
        latencies: seconds of each answer, in no order.
        statuses: how many answers had each status.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def quantile_ms(self, share: float) -> float:
        """The latency that this share of the answers does not exceed, in milliseconds."""
        return statistics.quantiles(self.latencies, n=1000, method="inclusive")[round(share * 1000) - 1] * 1000


def put_under_load(port: int, request: Callable[[int], bytes], connections: int, seconds: float) -> Load:
    """Asks a service on this machine for so many seconds.

    Args:
        request: the bytes of request number n, counted over all connections from 0.
    """
    return asyncio.run(_load(port, request, connections, seconds))


def request_bytes(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """A request with its body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    if body or method != "GET":
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def _load(port: int, request: Callable[[int], bytes], connections: int, seconds: float) -> Load:
    load, number = Load(), 0
    begun = time.perf_counter()

    async def keep_asking() -> None:
        nonlocal number
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() - begun < seconds:
            asked, number = request(number), number + 1
            sent = time.perf_counter()
            writer.write(asked)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(_body_length(head))
            load.latencies.append(time.perf_counter() - sent)
            status = int(head[9:12])
            load.statuses[status] = load.statuses.get(status, 0) + 1
        writer.close()

    await asyncio.gather(*(keep_asking() for _ in range(connections)))
    load.seconds = time.perf_counter() - begun
    return load


def _body_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":", 1)[1])
    raise ValueError(f"an answer without Content-Length: {head[:200]!r}")
