"""The event stream: server-sent events, resumable with `Last-Event-ID`."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import func, select
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from promptreel.api.db.engine import Database
from promptreel.api.db.events import event_body
from promptreel.api.db.models import EventRecord
from promptreel.api.web.auth import Principal, Reader, check_scope, identify
from promptreel.api.web.dependencies import Db, part_of
from promptreel.api.web.errors import ApiError
from promptreel.api.web.route import ApiRoute

router = APIRouter(prefix="/processing/events", tags=["events"], route_class=ApiRoute)

HEARTBEAT_S = 15.0
MAX_STREAMS = 20  # per account
_RETRY_AFTER_S: Final = 30
_POLL_INTERVAL_S = 0.5


@router.get("/stream", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}})
async def stream_events(
    request: Request,
    caller: Reader,
    database: Db,
    run_id: str | None = None,
    index_id: str | None = None,
    video_ids: Annotated[list[str] | None, Query()] = None,
    event_types: Annotated[list[str] | None, Query()] = None,
    batch_size: Annotated[int, Query(ge=1, le=1000)] = 100,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> StreamingResponse:
    """Stream events of the caller's runs and media: new events, or those after `Last-Event-ID`."""
    open_streams: Counter[str] = part_of(request.app, "open_streams", Counter)
    if open_streams[caller.account_id] >= MAX_STREAMS:
        message = f"This account has {MAX_STREAMS} open streams, the maximum; close one or combine their event types."
        raise ApiError(429, "rate_limit_exceeded", message, {"category": "streams"}, _RETRY_AFTER_S)
    conditions = _conditions(caller, run_id, index_id, _split(video_ids), _split(event_types))
    after = int(last_event_id) if last_event_id and last_event_id.isdigit() and len(last_event_id) < 19 else None
    stream = _stream(request, database, conditions, after, batch_size)
    return _CountedStream(stream, open_streams, caller.account_id)


class _CountedStream(StreamingResponse):
    """A stream that counts as open from its creation until it ends, also by an error.

    Counting needs no lock: all streams are created and end in the event loop.
    """

    def __init__(self, content: AsyncIterator[str], open_streams: Counter[str], account_id: str) -> None:
        super().__init__(content, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self._open_streams, self._account_id = open_streams, account_id
        open_streams[account_id] += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._open_streams[self._account_id] -= 1
            if not self._open_streams[self._account_id]:
                del self._open_streams[self._account_id]


async def _stream(
    request: Request, database: Database, conditions: Sequence[Any], after: int | None, batch_size: int
) -> AsyncIterator[str]:
    clock = asyncio.get_running_loop().time
    if after is None:
        after = await run_in_threadpool(_newest_event, database)
    yield f"id: {after}\n: connected\n\n"  # a client cut off before the first event resumes here
    next_heartbeat = clock() + HEARTBEAT_S
    try:  # the data is ASCII, because some clients take other Unicode characters as line ends
        while not await request.is_disconnected() and not request.app.state.stopping.is_set():
            events = await run_in_threadpool(_read_events, database, conditions, after, batch_size)
            for event in events:
                after = int(event["event_id"])
                yield f"id: {after}\nevent: {event['event_type']}\ndata: {json.dumps(event)}\n\n"
            if clock() >= next_heartbeat:
                next_heartbeat = clock() + HEARTBEAT_S
                check_scope(await identify(request), "read")  # the key may have been revoked or have expired
                yield ": heartbeat\n\n"
            if len(events) < batch_size:
                await asyncio.sleep(_POLL_INTERVAL_S)
    except ApiError as error:
        yield f"event: processing.stream_error\ndata: {json.dumps({'code': error.code, 'message': error.message})}\n\n"
    except Exception:
        yield 'event: processing.stream_error\ndata: {"message": "The stream failed; resume it with Last-Event-ID."}\n\n'
        raise


def _conditions(
    caller: Principal, run_id: str | None, index_id: str | None, video_ids: list[str], event_types: list[str]
) -> list[Any]:
    conditions: list[Any] = [EventRecord.account_id == caller.account_id]
    if run_id:
        conditions.append(EventRecord.run_id == run_id)
    if index_id:
        conditions.append(EventRecord.index_id == index_id)
    if video_ids:
        conditions.append(EventRecord.video_id.in_(video_ids))
    if event_types:
        conditions.append(EventRecord.event_type.in_(event_types))
    return conditions


def _split(values: Sequence[str] | None) -> list[str]:
    """Split the values of a query parameter, which may be repeated, comma-separated or both."""
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


def _newest_event(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.max(EventRecord.number))) or 0


def _read_events(database: Database, conditions: Sequence[Any], after: int, limit: int) -> list[dict[str, Any]]:
    with database.read() as session:
        rows = (
            select(EventRecord).where(*conditions, EventRecord.number > after).order_by(EventRecord.number).limit(limit)
        )
        return [event_body(event) for event in session.scalars(rows)]
