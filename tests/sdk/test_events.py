"""The event stream and how it resumes."""

import json
import threading

import httpx2 as httpx
import pytest

from promptreel import sdk
from promptreel.api.db.events import record_event
from tests.sdk.bodies import error_response
from tests.sdk.scripted_server import Clock, ScriptedServer

EVENT_STREAM = {"Content-Type": "text/event-stream; charset=utf-8"}


def event_stream(*numbers, title="a"):
    """Return a response with events in the format of the service."""
    text = ": connected\n\n"
    for number in numbers:
        event = {"event_id": str(number), "event_type": "media.created", "created_at": "2026-04-20T10:00:00Z"}
        event["payload"] = {"title": title}
        text += f"id: {number}\nevent: media.created\ndata: {json.dumps(event, ensure_ascii=False)}\n\n"
    return (200, text.encode(), EVENT_STREAM)


def test_stream_resumes_after_its_last_event(make_client):
    clock = Clock()
    stream_error = (
        200,
        event_stream(4)[1] + b'event: processing.stream_error\ndata: {"message": "over"}\n\n',
        EVENT_STREAM,
    )
    with ScriptedServer(
        event_stream(1, 2), "reset", error_response(503), event_stream(3), stream_error, event_stream(5)
    ) as server:
        events = make_client(base_url=server.base_url, clock=clock).events.stream(
            run_id="run_1", event_types=["media.created"], last_event_id="0"
        )
        assert [next(events).event_id for _ in range(5)] == ["1", "2", "3", "4", "5"]
        events.close()
    assert [request.headers["Last-Event-ID"] for request in server.requests] == ["0", "2", "2", "2", "3", "4"]
    assert all(request.params == {"run_id": "run_1", "event_types": "media.created"} for request in server.requests)


def test_event_data_may_contain_unicode_line_separators(make_client):
    title = "a\u2028b\x85c\u2029d"
    with ScriptedServer(event_stream(1, title=title)) as server:
        events = make_client(base_url=server.base_url).events.stream()
        assert next(events).payload["title"] == title
        events.close()


def test_id_without_event_moves_the_position(make_client):
    with ScriptedServer((200, b"id: 41\n\n", EVENT_STREAM), event_stream(42)) as server:
        events = make_client(base_url=server.base_url, clock=Clock()).events.stream()
        assert next(events).event_id == "42"
        events.close()
    assert [request.headers["Last-Event-ID"] for request in server.requests] == [None, "41"]


def test_stream_that_cannot_stay_open_raises(make_client):
    with (
        ScriptedServer((200, b": connected\n\n", EVENT_STREAM)) as server,
        pytest.raises(sdk.ConnectionFailed, match="ended"),
    ):
        next(make_client(base_url=server.base_url, clock=Clock()).events.stream())
    assert len(server.requests) == 4
    with ScriptedServer(error_response(401)) as server, pytest.raises(sdk.AuthenticationError):
        next(make_client(base_url=server.base_url, clock=Clock()).events.stream())
    assert len(server.requests) == 1


def test_stream_broken_before_its_first_event_misses_nothing(client, real_service, monkeypatch):
    account_id = client.rate_limits.status().user_id
    opened = []

    class BrokenAtFirst(httpx.EventSource):
        """Break the first connection after the service has sent the start position, and record an event meanwhile."""

        def __init__(self, response):
            super().__init__(response)
            self._is_first = not opened
            opened.append(response.request.headers.get("Last-Event-ID"))

        def __iter__(self):
            for event in super().__iter__():
                yield event
                self._break()

        async def __aiter__(self):
            async for event in super().__aiter__():
                yield event
                self._break()

        def _break(self):
            if self._is_first:
                record("media.created")
                raise httpx.ReadError("cut off")

    def record(event_type):
        with real_service.app.state.database.write() as session:
            record_event(session, account_id, event_type)

    monkeypatch.setattr(httpx, "EventSource", BrokenAtFirst)
    fallback = threading.Timer(20, record, ["prompt_run.failed"])  # received first if the other event is missed
    fallback.start()
    events = client.events.stream()
    assert next(events).event_type == "media.created"
    events.close()
    fallback.cancel()
    assert opened[0] is None
    assert opened[1].isdigit()
