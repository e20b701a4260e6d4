"""The event stream: events of the caller's runs and media, in order, once, and resumable."""

import json
import threading
import time

import pytest

import promptreel.api.routes.events
from tests.api.event_stream import STREAM, Follower, record_events
from tests.api_server import ApiServer, Caller, assert_error, ok_json
from tests.pipeline_runs import wait_for

pytest_plugins = ["tests.api_fixtures"]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """A server with no events except those that a test records."""
    with ApiServer(tmp_path_factory.mktemp("quiet") / "data", supervise=False) as server:
        yield server


@pytest.fixture
def someone(quiet):
    return quiet.caller()


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


def test_a_stream_starts_now_or_after_the_last_event(quiet, someone):
    record_events(quiet, someone, "media.created")
    with Follower(someone) as stream:
        record_events(quiet, someone, "prompt_run.started", "prompt_run.progress")
        first = stream.take(2)
    assert [event["event_type"] for event in first] == ["prompt_run.started", "prompt_run.progress"]
    record_events(quiet, someone, "prompt_run.completed")
    with Follower(someone, last=first[0]["event_id"]) as stream:
        assert [event["event_type"] for event in stream.take(2)] == ["prompt_run.progress", "prompt_run.completed"]
    with Follower(someone, last="nonsense") as stream:
        record_events(quiet, someone, "media.created")
        assert [event["event_type"] for event in stream.take(1)] == ["media.created"]


def test_a_stream_first_sends_its_start_id(quiet, someone):
    record_events(quiet, someone, "media.created")
    with Follower(someone) as stream:
        start_id = stream.start_id
    record_events(quiet, someone, "prompt_run.started", "prompt_run.progress")
    with Follower(someone, last=start_id) as stream:
        assert stream.start_id == start_id
        assert [event["event_type"] for event in stream.take(2)] == ["prompt_run.started", "prompt_run.progress"]


def test_events_of_several_batches_all_arrive(quiet, someone):
    record_events(quiet, someone, *(("media.created", {"payload": {"n": number}}) for number in range(25)))
    with Follower(someone, last=0, batch_size=4) as stream:
        assert [event["payload"]["n"] for event in stream.take(25)] == list(range(25))


def test_filters_can_be_repeated_or_comma_separated(quiet, someone):
    record_events(
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
    record_events(quiet, someone, last)
    for filters, expected in cases:
        with Follower(someone, last=0, **filters) as stream:
            assert [event["event_type"] for event in stream.take(len(expected) + 1)] == [*expected, "prompt_run.failed"]


def test_events_of_other_accounts_are_not_streamed(quiet, someone):
    other = quiet.caller()
    record_events(quiet, other, ("prompt_run.started", {"run_id": "run_9"}))
    record_events(quiet, someone, "media.created")
    record_events(quiet, other, "prompt_run.completed")
    for filters in ({}, {"run_id": "run_9"}):
        with Follower(someone, last=0, **filters) as stream:
            record_events(quiet, someone, ("prompt_run.failed", {"run_id": "run_9"}))
            events = stream.take(1 if filters else 2)
            assert {event["user_id"] for event in events} == {someone.account_id}


def test_an_idle_stream_sends_heartbeats(someone, monkeypatch):
    monkeypatch.setattr(promptreel.api.routes.events, "HEARTBEAT_S", 0.2)
    with Follower(someone) as stream:
        assert [stream.comment(), stream.comment()] == ["heartbeat", "heartbeat"]


def test_a_payload_with_line_breaks_is_one_event(quiet, someone):
    title = "a\nb\r\nc\u2028d\u0085e"
    record_events(quiet, someone, ("media.created", {"payload": {"title": title}}))
    with Follower(someone, last=0) as stream:
        assert stream.take(1)[0]["payload"] == {"title": title}


def test_a_stream_needs_a_key_and_valid_limits(quiet, someone):
    assert_error(quiet.stranger().get(STREAM), 401, "authentication_required")
    assert_error(someone.get(f"{STREAM}?batch_size=0"), 422, "validation_failed")
    searcher = quiet.caller("search", account_id=someone.account_id)
    assert_error(searcher.get(STREAM), 403, "authorization_insufficient_scope")


def test_an_open_stream_does_not_block_a_shutdown(tmp_path):
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
    created = ok_json(someone.post("/api-keys", {"name": "second", "scopes": ["read"]}), 201)
    with Follower(Caller(quiet.base_url, created["key"])) as stream, Follower(someone) as other:
        stream.comment()
        ok_json(someone.post(f"/api-keys/{created['key_id']}/revoke"))
        blocks = (stream.block() for _ in range(50))
        block = next(block for block in blocks if not block[0].startswith(":"))
        assert block[0] == "event: processing.stream_error"
        assert json.loads(block[1].removeprefix("data: "))["code"] == "invalid_api_key"
        with pytest.raises(AssertionError, match="the stream ended"):
            stream.block()
        other.comment()


def test_only_open_streams_count_towards_the_limit(quiet, someone, monkeypatch):
    monkeypatch.setattr(promptreel.api.routes.events, "MAX_STREAMS", 2)
    with Follower(someone), Follower(quiet.caller()):
        with Follower(someone):
            response = someone.get(STREAM)
            assert_error(response, 429, "rate_limit_exceeded")
            assert int(response.headers["Retry-After"]) >= 1
        wait_for(lambda: quiet.app.state.open_streams[someone.account_id] == 1, 30)
        with Follower(someone):
            assert_error(someone.get(STREAM), 429, "rate_limit_exceeded")
    wait_for(lambda: not quiet.app.state.open_streams, 30)
