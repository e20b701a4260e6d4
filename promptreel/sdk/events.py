"""The event stream: server-sent events, resumed after a connection breaks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import replace
from typing import Any

import httpx2 as httpx
import pydantic
from pydantic import Field

from promptreel.schemas.wire.common import WireModel
from promptreel.sdk.errors import ConnectionFailed, PromptReelError
from promptreel.sdk.request import Request, omit_none
from promptreel.sdk.sender import AsyncSender, Sender

_STREAM_ERROR = "processing.stream_error"
# A connection that lasted this long resets the retry count.
_STABLE_AFTER_S = 30.0
# The service sends a heartbeat every 15 s; three missing ones mean that the connection is dead.
_HEARTBEAT_TIMEOUT_S = 45.0


class Event(WireModel):
    """An event of a run or a media item. Pass its `event_id` as `last_event_id` to resume a stream after it."""

    event_id: str
    event_type: str
    user_id: str | None = None
    run_id: str | None = None
    video_id: str | None = None
    segment_id: str | None = None
    index_id: str | None = None
    created_at: str
    payload: dict[str, Any] = Field(default_factory=dict)


def stream_request(
    run_id: str | None,
    index_id: str | None,
    video_ids: Sequence[str] | None,
    event_types: Sequence[str] | None,
    batch_size: int | None,
) -> Request:
    """Build the request for a stream."""
    params = omit_none(
        run_id=run_id,
        index_id=index_id,
        video_ids=None if video_ids is None else list(video_ids),
        event_types=None if event_types is None else list(event_types),
        batch_size=batch_size,
    )
    headers = {"Accept": "text/event-stream"}
    return Request("GET", "/processing/events/stream", params, headers=headers, min_timeout_s=_HEARTBEAT_TIMEOUT_S)


def stream_events(sender: Sender, request: Request, last_event_id: str | None) -> Generator[Event, None, None]:
    """Yield events indefinitely, starting now or after `last_event_id`.

    Raises:
        PromptReelError: the stream could not be opened or resumed.
    """
    position = _StreamPosition(last_event_id)
    while True:
        opened_at = sender.now()
        try:
            with sender.stream(_with_last_event_id(request, position)) as response:
                for message in httpx.EventSource(response):
                    if (event := position.advance(request, message)) is not None:
                        yield event
            failure: PromptReelError = _stream_ended(request)
        except PromptReelError as error:
            failure = error
        delay_s = sender.delay_s(request, failure, position.count_attempt(sender.now() - opened_at))
        if delay_s is None:
            raise failure
        sender.sleep(delay_s)


async def stream_events_async(
    sender: AsyncSender, request: Request, last_event_id: str | None
) -> AsyncGenerator[Event, None]:
    """See `stream_events`."""
    position = _StreamPosition(last_event_id)
    while True:
        opened_at = sender.now()
        try:
            async with sender.stream(_with_last_event_id(request, position)) as response:
                async for message in httpx.EventSource(response):
                    if (event := position.advance(request, message)) is not None:
                        yield event
            failure: PromptReelError = _stream_ended(request)
        except PromptReelError as error:
            failure = error
        delay_s = sender.delay_s(request, failure, position.count_attempt(sender.now() - opened_at))
        if delay_s is None:
            raise failure
        await sender.sleep(delay_s)


class _StreamPosition:
    """The last event id of a stream and the number of attempts since its last event."""

    def __init__(self, last_event_id: str | None) -> None:
        self.last_event_id = last_event_id
        self._attempts = 0

    def advance(self, request: Request, message: httpx.ServerSentEvent) -> Event | None:
        """Record the position of a message and return its event; None if it only moves the position.

        Raises:
            ConnectionFailed: the service ended the stream.
            PromptReelError: the data is not a valid event.
        """
        if message.event == _STREAM_ERROR:
            raise _stream_ended(request)
        self.last_event_id = message.id or self.last_event_id
        if not message.data:
            return None
        self._attempts = 0
        try:
            return Event.model_validate_json(message.data)
        except pydantic.ValidationError as error:
            raise PromptReelError(f"{request} sent an invalid event: {message.data[:200]!r}") from error

    def count_attempt(self, duration_s: float) -> int:
        """Count a connection that lasted `duration_s`; return the number of attempts before it since the last event."""
        if duration_s >= _STABLE_AFTER_S:
            self._attempts = 0
        self._attempts += 1
        return self._attempts - 1


def _with_last_event_id(request: Request, position: _StreamPosition) -> Request:
    if position.last_event_id is None:
        return request
    return replace(request, headers={**request.headers, "Last-Event-ID": position.last_event_id})


def _stream_ended(request: Request) -> ConnectionFailed:
    return ConnectionFailed(
        f"the event stream {request} ended; reopen it with the event_id of the last event as last_event_id"
    )
