"""Request ids, request logs and metrics. Plain ASGI, because it runs on every request."""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_log = logging.getLogger("promptreel.request")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Metrics:
    """Prometheus metrics of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "promptreel_requests_total", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "promptreel_request_seconds",
            "Time to the end of the response",
            ["method", "route"],
            buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
            registry=self.registry,
        )
        self.running = Gauge("promptreel_runs_running", "Runs executed by this process", registry=self.registry)
        self.ended = Counter("promptreel_runs_ended_total", "Runs ended", ["status"], registry=self.registry)
        self.cost = Counter(
            "promptreel_model_cost_total", "Cost of model calls", ["model", "currency"], registry=self.registry
        )
        self.unpriced = Counter(
            "promptreel_unpriced_calls_total",
            "Model calls whose cost is unknown, because the price of their model is",
            ["model"],
            registry=self.registry,
        )
        self.restarts = Counter("promptreel_runner_restarts_total", "Runners restarted", registry=self.registry)

    def count_cost(self, model: str, before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> None:
        """Count what the cost of a run has grown by.

        Args:
            before, now: `CostSoFar` as JSON values.
        """
        old, new = before or {}, now or {}
        if (grown := (new.get("amount") or 0.0) - (old.get("amount") or 0.0)) > 0:
            self.cost.labels(model, new["currency"]).inc(grown)
        if (grown := new.get("unpriced_calls", 0) - old.get("unpriced_calls", 0)) > 0:
            self.unpriced.labels(model).inc(grown)


class RequestMiddleware:
    """Assigns each request an id (the client's `X-Request-ID` if it is valid), logs and counts it."""

    def __init__(self, app: Any, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _client_request_id(scope) or new_request_id()
        scope["request_id"] = request_id
        started = time.perf_counter()
        status = 500

        async def send_with_id(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            self._record(scope, request_id, status, time.perf_counter() - started)

    def _record(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.requests.labels(scope["method"], route, status).inc()
        self._metrics.seconds.labels(scope["method"], route).observe(seconds)
        if _log.isEnabledFor(logging.INFO):
            _log.info(
                "request",
                extra={
                    "request_id": request_id,
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "duration_ms": round(seconds * 1000, 2),
                    "account_id": scope.get("account_id"),
                },
            )


class JsonFormatter(logging.Formatter):
    """Formats log records as one JSON object per line."""

    _EXTRA_FIELDS = ("request_id", "method", "path", "status", "duration_ms", "account_id", "run_id", "retry_id")

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {name: value for name in self._EXTRA_FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def new_request_id() -> str:
    """Create a request id."""
    return f"req_{secrets.token_hex(8)}"


def _client_request_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            return text if _REQUEST_ID.fullmatch(text) else None
    return None
