"""The event stream: everything that happens to the caller's runs and media, in order, once, and to be taken up again."""

import json
import threading
import time

import pytest

import promptreel.api.routes.events
from promptreel.api.db.events import record_event
from tests.api_server import ApiServer, Caller, assert_error, ok_json
from tests.pipeline_runs import wait_for

pytest_plugins = ["tests.api_fixtures"]

STREAM = "/processing/events/stream"


class Follower:
    """Reads a stream line by line until enough has come."""

    def __init__(self, caller, last=None, **filters):
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        self._opened = caller.http.stream("GET", STREAM, params=filters, headers=headers, timeout=30)
        self._response = self._opened.__enter__()
        assert self._response.status_code == 200
        assert self._response.headers["Content-Type"].startswith("text/event-stream")
        self._lines = self._response.iter_lines()
        begin, connected = self.block()
        assert connected == ": connected"
        assert begin.startswith("id: ")
        self.begin = begin.removeprefix("id: ")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._opened.__exit__(None, None, None)

    def comment(self):
        """The next comment; events before it are an error."""
        line = self.block()[0]
        assert line.startswith(": "), line
        return line[2:]

    def take(self, count):
        """The next events, their fields checked against each other; comments are passed over."""
        found = []
        while len(found) < count:
            block = self.block()
            if block[0].startswith(":"):
                continue
            fields = dict(line.split(": ", 1) for line in block)
            event = json.loads(fields["data"])
            assert (fields["id"], fields["event"]) == (event["event_id"], event["event_type"])
            found.append(event)
        return found

    def block(self):
        lines = []
        for line in self._lines:
            if line:
                lines.append(line)
            elif lines:
                return lines
        raise AssertionError(f"the stream has ended after {lines}")


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """A server in which nothing happens but what a test records."""
    with ApiServer(tmp_path_factory.mktemp("quiet") / "data", supervise=False) as server:
        yield server


@pytest.fixture
def someone(quiet):
    return quiet.caller()


def happen(server, caller, *events):
    """Records events in one transaction; each is its type, or (type, what it is about)."""
    with server.app.state.database.write() as session:
        for event in events:
            kind, about = event if isinstance(event, tuple) else (event, {})
            record_event(session, caller.account_id, kind, **about)


def test_the_events_of_a_run_come_in_order(world):
    with Follower(world.caller, last=0, run_id=world.run_id) as stream:
        events = [*stream.take(1)]
        while not events[-1]["event_type"].startswith("prompt_run.partial"):
            events += stream.take(1)
    kinds = [event["event_type"] for event in events]
    assert kinds[0] == "prompt_run.started"
    assert kinds[-1] == "prompt_run.partial_completed"
    assert set(kinds[1:-1]) <= {"prompt_run.progress"}
    numbers = [int(event["event_id"]) for event in events]
    assert numbers == sorted(set(numbers))
    assert {event["run_id"] for event in events} == {world.run_id}
    assert {event["user_id"] for event in events} == {world.caller.account_id}
    assert set(events[0]) == {
        "event_id", "event_type", "user_id", "run_id", "video_id", "segment_id", "index_id", "created_at", "payload",
    }  # fmt: skip


def test_a_stream_begins_now_and_is_taken_up_behind_the_last_event_that_was_seen(quiet, someone):
    happen(quiet, someone, "media.created")
    with Follower(someone) as stream:
        happen(quiet, someone, "prompt_run.started", "prompt_run.progress")
        first = stream.take(2)
    assert [event["event_type"] for event in first] == ["prompt_run.started", "prompt_run.progress"]
    happen(quiet, someone, "prompt_run.completed")
    with Follower(someone, last=first[0]["event_id"]) as stream:
        assert [event["event_type"] for event in stream.take(2)] == ["prompt_run.progress", "prompt_run.completed"]
    with Follower(someone, last="nonsense") as stream:
        happen(quiet, someone, "media.created")
        assert [event["event_type"] for event in stream.take(1)] == ["media.created"]


def test_a_stream_says_first_where_it_begins_so_that_nothing_is_missed_before_its_first_event(quiet, someone):
    happen(quiet, someone, "media.created")
    with Follower(someone) as stream:
        begin = stream.begin
    happen(quiet, someone, "prompt_run.started", "prompt_run.progress")
    with Follower(someone, last=begin) as stream:
        assert stream.begin == begin
        assert [event["event_type"] for event in stream.take(2)] == ["prompt_run.started", "prompt_run.progress"]


def test_more_events_than_one_batch_come_all(quiet, someone):
    happen(quiet, someone, *(("media.created", {"payload": {"n": number}}) for number in range(25)))
    with Follower(someone, last=0, batch_size=4) as stream:
        assert [event["payload"]["n"] for event in stream.take(25)] == list(range(25))


def test_filters_are_repeated_or_separated_by_commas(quiet, someone):
    happen(
        quiet,
        someone,
        ("prompt_run.started", {"run_id": "run_1", "index_id": "idx_1"}),
        ("media.created", {"video_id": "vid_1", "index_id": "idx_2"}),
        ("media.created", {"video_id": "vid_2"}),
        ("prompt_run.completed", {"run_id": "run_2", "index_id": "idx_1"}),
        "prompt_run.failed",
    )
    last = ("prompt_run.failed", {"run_id": "run_1", "video_id": "vid_1", "index_id": "idx_1"})
    cases = [
        ({"run_id": "run_1"}, ["prompt_run.started"]),
        ({"index_id": "idx_1"}, ["prompt_run.started", "prompt_run.completed"]),
        ({"video_ids": "vid_1,vid_2"}, ["media.created", "media.created"]),
        ({"video_ids": ["vid_1", "vid_2"]}, ["media.created", "media.created"]),
        ({"event_types": "prompt_run.started,prompt_run.failed"}, ["prompt_run.started", "prompt_run.failed"]),
        ({"event_types": ["media.created", "prompt_run.failed"], "video_ids": "vid_1"}, ["media.created"]),
    ]
    happen(quiet, someone, last)
    for filters, expected in cases:
        with Follower(someone, last=0, **filters) as stream:
            assert [event["event_type"] for event in stream.take(len(expected) + 1)] == [*expected, "prompt_run.failed"]


def test_nothing_of_another_account_is_streamed(quiet, someone):
    other = quiet.caller()
    happen(quiet, other, ("prompt_run.started", {"run_id": "run_9"}))
    happen(quiet, someone, "media.created")
    happen(quiet, other, "prompt_run.completed")
    for filters in ({}, {"run_id": "run_9"}):
        with Follower(someone, last=0, **filters) as stream:
            happen(quiet, someone, ("prompt_run.failed", {"run_id": "run_9"}))
            events = stream.take(1 if filters else 2)
            assert {event["user_id"] for event in events} == {someone.account_id}


def test_a_silent_stream_shows_that_it_lives(someone, monkeypatch):
    monkeypatch.setattr(promptreel.api.routes.events, "HEARTBEAT_S", 0.2)
    with Follower(someone) as stream:
        assert [stream.comment(), stream.comment()] == ["heartbeat", "heartbeat"]


def test_a_title_with_line_breaks_stays_one_event(quiet, someone):
    title = "a\nb\r\nc\u2028d\u0085e"
    happen(quiet, someone, ("media.created", {"payload": {"title": title}}))
    with Follower(someone, last=0) as stream:
        assert stream.take(1)[0]["payload"] == {"title": title}


def test_a_stream_needs_a_key_and_sound_limits(quiet, someone):
    assert_error(quiet.stranger().get(STREAM), 401, "authentication_required")
    assert_error(someone.get(f"{STREAM}?batch_size=0"), 422, "validation_failed")
    searcher = quiet.caller("search", account_id=someone.account_id)
    assert_error(searcher.get(STREAM), 403, "authorization_insufficient_scope")


def test_an_open_stream_does_not_keep_the_service_from_stopping(tmp_path):
    with ApiServer(tmp_path / "data", supervise=False) as server:
        stream = Follower(server.caller())
        ended = threading.Event()

        def follow():
            try:
                stream.take(1)
            except Exception:
                ended.set()

        threading.Thread(target=follow, daemon=True).start()
        time.sleep(0.1)
    assert ended.wait(20)


def test_a_stream_ends_when_its_key_is_revoked(quiet, someone, monkeypatch):
    monkeypatch.setattr(promptreel.api.routes.events, "HEARTBEAT_S", 0.1)
    made = ok_json(someone.post("/api-keys", {"name": "second", "scopes": ["read"]}), 201)
    with Follower(Caller(quiet.base_url, made["key"])) as stream, Follower(someone) as other:
        stream.comment()
        ok_json(someone.post(f"/api-keys/{made['key_id']}/revoke"))
        blocks = (stream.block() for _ in range(50))
        block = next(block for block in blocks if not block[0].startswith(":"))
        assert block[0] == "event: processing.stream_error"
        assert json.loads(block[1].removeprefix("data: "))["code"] == "invalid_api_key"
        with pytest.raises(AssertionError, match="the stream has ended"):
            stream.block()
        other.comment()


def test_streams_of_an_account_are_bounded_and_those_that_have_ended_do_not_count(quiet, someone, monkeypatch):
    monkeypatch.setattr(promptreel.api.routes.events, "MAX_STREAMS", 2)
    with Follower(someone), Follower(quiet.caller()):
        with Follower(someone):
            answer = someone.get(STREAM)
            assert_error(answer, 429, "rate_limit_exceeded")
            assert int(answer.headers["Retry-After"]) >= 1
        wait_for(lambda: quiet.app.state.open_streams[someone.account_id] == 1, 30)
        with Follower(someone):
            assert_error(someone.get(STREAM), 429, "rate_limit_exceeded")
    wait_for(lambda: not quiet.app.state.open_streams, 30)
