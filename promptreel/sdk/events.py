"""The event stream: server-sent events, resumed where a connection breaks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import replace
from typing import Any

import httpx2 as httpx
import pydantic
from pydantic import Field

from promptreel.schemas.wire.common import WireModel
from promptreel.sdk.errors import ConnectionFailed, PromptReelError
from promptreel.sdk.request import Request, given
from promptreel.sdk.sender import AsyncSender, Sender

_STREAM_ERROR = "processing.stream_error"
# A connection that has lasted this long was a good one: the retries begin anew behind it.
_LASTED_S = 30.0
# The service sends a sign of life every 15 s; three that stay away mean that the connection is dead.
_SILENCE_S = 45.0


class Event(WireModel):
    """Something that happened to a run or a media item; `event_id` is what a stream is resumed behind."""

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
    """The request for a stream."""
    params = given(
        run_id=run_id,
        index_id=index_id,
        video_ids=None if video_ids is None else list(video_ids),
        event_types=None if event_types is None else list(event_types),
        batch_size=batch_size,
    )
    headers = {"Accept": "text/event-stream"}
    return Request("GET", "/processing/events/stream", params, headers=headers, patience_s=_SILENCE_S)


def stream_events(sender: Sender, request: Request, last_event_id: str | None) -> Generator[Event, None, None]:
    """Events as they happen, without end, from now on or from behind `last_event_id`.

    Raises:
        PromptReelError: the stream could not be opened, or resumed.
    """
    position = _StreamPosition(last_event_id)
    while True:
        opened = sender.now()
        try:
            with sender.stream(_resumed(request, position)) as response:
                for sent in httpx.EventSource(response):
                    if (event := position.took(request, sent)) is not None:
                        yield event
            failure: PromptReelError = _ended(request)
        except PromptReelError as error:
            failure = error
        delay_s = sender.delay_s(request, failure, position.retries_after(sender.now() - opened))
        if delay_s is None:
            raise failure
        sender.sleep(delay_s)


async def stream_events_async(
    sender: AsyncSender, request: Request, last_event_id: str | None
) -> AsyncGenerator[Event, None]:
    """See `stream_events`."""
    position = _StreamPosition(last_event_id)
    while True:
        opened = sender.now()
        try:
            async with sender.stream(_resumed(request, position)) as response:
                async for sent in httpx.EventSource(response):
                    if (event := position.took(request, sent)) is not None:
                        yield event
            failure: PromptReelError = _ended(request)
        except PromptReelError as error:
            failure = error
        delay_s = sender.delay_s(request, failure, position.retries_after(sender.now() - opened))
        if delay_s is None:
            raise failure
        await sender.sleep(delay_s)


class _StreamPosition:
    """Where a stream stands, and how often it was opened in vain since the last event."""

    def __init__(self, last_event_id: str | None) -> None:
        self.last_event_id = last_event_id
        self._in_vain = 0

    def took(self, request: Request, sent: httpx.ServerSentEvent) -> Event | None:
        """The event that was sent; None where only the position moved.

        Raises:
            ConnectionFailed: the service says that the stream ends.
            PromptReelError: it is no event.
        """
        if sent.event == _STREAM_ERROR:
            raise _ended(request)
        self.last_event_id = sent.id or self.last_event_id
        if not sent.data:
            return None
        self._in_vain = 0
        try:
            return Event.model_validate_json(sent.data)
        except pydantic.ValidationError as error:
            raise PromptReelError(f"{request} sent an event that cannot be read: {sent.data[:200]!r}") from error

    def retries_after(self, lasted_s: float) -> int:
        """How often it was opened in vain before this time, which counts now."""
        if lasted_s >= _LASTED_S:
            self._in_vain = 0
        self._in_vain += 1
        return self._in_vain - 1


def _resumed(request: Request, position: _StreamPosition) -> Request:
    if position.last_event_id is None:
        return request
    return replace(request, headers={**request.headers, "Last-Event-ID": position.last_event_id})


def _ended(request: Request) -> ConnectionFailed:
    return ConnectionFailed(f"{request} ended; open it again with the event_id of the last event as last_event_id")
