"""A low-overhead HTTP/1.1 load generator: each keep-alive connection sends its next request on receiving a response."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Load:
    """The responses of a service under load.

    Attributes:
        seconds: time from the first request to the last response.
        latencies: seconds per response, unordered.
        statuses: number of responses per status.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Responses per second."""
        return len(self.latencies) / self.seconds

    def quantile_ms(self, share: float) -> float:
        """Return a quantile of the latency, in milliseconds."""
        return statistics.quantiles(self.latencies, n=1000, method="inclusive")[round(share * 1000) - 1] * 1000


def put_under_load(port: int, request: Callable[[int], bytes], connections: int, seconds: float) -> Load:
    """Send requests to a local service for a number of seconds.

    Args:
        request: returns the bytes of request number n, counted from 0 over all connections.
    """
    return asyncio.run(_load(port, request, connections, seconds))


def request_bytes(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """Encode a request with its body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    if body or method != "GET":
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def _load(port: int, request: Callable[[int], bytes], connections: int, seconds: float) -> Load:
    load, number = Load(), 0
    start = time.perf_counter()

    async def send_requests() -> None:
        nonlocal number
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() - start < seconds:
            content, number = request(number), number + 1
            sent_at = time.perf_counter()
            writer.write(content)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(_body_length(head))
            load.latencies.append(time.perf_counter() - sent_at)
            status = int(head[9:12])
            load.statuses[status] = load.statuses.get(status, 0) + 1
        writer.close()

    await asyncio.gather(*(send_requests() for _ in range(connections)))
    load.seconds = time.perf_counter() - start
    return load


def _body_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":", 1)[1])
    raise ValueError(f"response without Content-Length: {head[:200]!r}")
