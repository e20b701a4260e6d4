"""The SDK, sync and async through one suite: against a server that plays a script, and against the real service."""

import asyncio
import functools
import inspect
import io
import json
import os
import pickle
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import typing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2 as httpx
import pytest
import uvicorn

from promptreel import AsyncPromptReel, PromptReel, sdk
from promptreel.api.app import create_app
from promptreel.api.config import ApiConfig
from promptreel.api.db.events import record_event
from promptreel.api.web.auth import create_account, create_key
from promptreel.schemas.wire.accounts import NewApiKey, RotatedApiKey
from promptreel.schemas.wire.prompt_runs import ExecuteRun, VideosTarget
from promptreel.schemas.wire.videos import SegmentTarget
from promptreel.sdk import resources
from promptreel.sdk.calls import api_keys, indexes, playground, prompt_runs, prompts, search, service, sql, videos
from promptreel.sdk.connection import resolve_connection
from promptreel.sdk.errors import error_type_for_status
from promptreel.sdk.events import stream_request
from promptreel.sdk.request import Listing
from promptreel.sdk.retry import retry_after_s
from promptreel.sdk.waiting import PollSettings
from tests.made_runs import Catalogue
from tests.media_files import plain, tone, write_film
from tests.pipeline_runs import make_image

KEY = "sk_live_" + "0123456789ab" * 4
CERTIFICATES = ssl.create_default_context()  # read once: it takes longer than most of these tests
PROMPT_TEXT = "Measure the length of the segment."
SCHEMA = {"type": "object", "properties": {"duration_seconds": {"type": "number"}}, "required": ["duration_seconds"]}
SYNTHESIS = {"instructions_text": "Sum up.", "included_segment_fields": ["duration_seconds"], "json_schema": SCHEMA}
RUN = {
    "run_id": "run_1",
    "prompt_id": "prompt_1",
    "prompt_name": "p",
    "executed_at": "2026-04-20T10:00:00Z",
    "executed_by": "user_1",
    "status": "processing",
    "run_context": {"type": "playground"},
}
VIDEO = {
    "title": "a",
    "video_uri": "media://a",
    "status": "processed",
    "created_at": "2026-04-20T10:00:00Z",
    "updated_at": "2026-04-20T10:00:00Z",
    "media_type": "video",
}
HIT = {
    **dict.fromkeys(("video_id", "run_id", "source_run_id", "prompt_run_id", "prompt_id"), "x"),
    **dict.fromkeys(("text_content", "content_preview", "metadata_text"), "t"),
    "result_type": "segment",
    "result_id": "segment:s:r",
    "segment_id": "s",
    "start_time": 0.0,
    "end_time": 1.0,
    "metadata": {},
    "extracted_metadata": {},
    "matched_field_paths": [],
}
RETRY = {"run_id": "run_1", "retry_id": "retry_1", "video_id": "v", "segment_id": "s", "created_at": "2026-04-20"}


# ------------------------------------------------------------------------------------------------ one suite for both


class InLoop:
    """An async client, page or resource that is driven like the other kind: each coroutine is run to its end."""

    def __init__(self, thing, runner):
        self._thing, self._runner = thing, runner

    def __getattr__(self, name):
        value = getattr(self._thing, name)
        if callable(value):
            return lambda *args, **kwargs: self._done(value(*args, **kwargs))
        return InLoop(value, self._runner) if isinstance(value, resources.AsyncResource) else value

    def __iter__(self):
        return self._items(aiter(self._thing))

    def __repr__(self):
        return repr(self._thing)

    def _done(self, value):
        if inspect.isasyncgen(value):
            return self._items(value)
        if inspect.iscoroutine(value):
            value = self._runner.run(value)
        return InLoop(value, self._runner) if isinstance(value, sdk.AsyncPage) else value

    def _items(self, generator):
        async def following():
            return await anext(generator)

        try:
            while True:
                try:
                    item = self._runner.run(following())
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self._runner.run(generator.aclose())


class Clock:
    """Time that passes by sleeping alone; keeps every sleep."""

    def __init__(self):
        self.seconds, self.slept = 0.0, []

    def now(self):
        return self.seconds

    def sleep(self, seconds):
        assert len(self.slept) < 1000, "this goes on for ever"
        self.slept.append(seconds)
        self.seconds += seconds

    async def sleep_async(self, seconds):
        self.sleep(seconds)


@pytest.fixture(params=["sync", "async"])
def make_client(request):
    """Makes clients of either kind, and closes them."""
    with asyncio.Runner() as runner:
        made = []

        def make(api_key=KEY, base_url=None, clock=None, **options):
            options = {"verify": CERTIFICATES, **options}
            if request.param == "sync":
                times = {"now": clock.now, "sleep": clock.sleep} if clock else {}
                made.append(PromptReel(api_key, base_url, **times, **options))
            else:
                times = {"now": clock.now, "sleep": clock.sleep_async} if clock else {}
                made.append(InLoop(AsyncPromptReel(api_key, base_url, **times, **options), runner))
            return made[-1]

        yield make
        for client in made:
            client.close()


# ------------------------------------------------------------------------------------------------ a scripted server


class Script:
    """An HTTP server on this machine that answers from a list; the last answer repeats. `asked` is what it was sent.

    An answer is (status, body, headers), a body alone for 200, "reset" to break the connection instead, "torn" to break it
    within the body, or "hang" to say nothing.
    """

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []
        self._over = threading.Event()
        script = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                size = int(self.headers.get("Content-Length") or 0)
                path, _, query = self.path.partition("?")
                asked = SimpleNamespace(
                    method=self.command,
                    path=path.removeprefix("/api/v2"),
                    params=dict(httpx.QueryParams(query).multi_items()),
                    headers=self.headers,
                    body=self.rfile.read(size),
                )
                script.asked.append(asked)
                script._play(self, script.answers.pop(0) if len(script.answers) > 1 else script.answers[0])

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *words):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def _play(self, handler, answer):
        if answer == "hang":
            self._over.wait(20)
        if answer in ("hang", "reset"):
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        if answer == "torn":
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            handler.wfile.write(b'{"run_id":')
            return
        status, body, headers = answer if isinstance(answer, tuple) else (200, answer, {})
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def failing(status, code="made_up", headers=None, **details):
    body = {"error": {"code": code, "message": "It went wrong.", "details": details or None, "request_id": "req_7"}}
    return (status, body, headers or {})


def page(items, cursor=None):
    return {"data": items, "pagination": {"limit": 2, "has_more": cursor is not None, "next_cursor": cursor}}


def run(status="processing", **changes):
    return {**RUN, "status": status, **changes}


# ------------------------------------------------------------------------------------------------ retries


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_read_is_repeated_on_what_passes_by_itself(make_client, status):
    clock = Clock()
    with Script(failing(status), failing(status), RUN) as script:
        found = make_client(base_url=script.base_url, clock=clock).prompt_runs.retrieve("run_1")
    assert found.run_id == "run_1"
    assert len(script.asked) == 3
    assert len(clock.slept) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 501])
def test_a_read_is_not_repeated_on_what_does_not_pass(make_client, status):
    clock = Clock()
    with Script(failing(status), RUN) as script, pytest.raises(sdk.ApiStatusError):
        make_client(base_url=script.base_url, clock=clock).prompt_runs.retrieve("run_1")
    assert (len(script.asked), clock.slept) == (1, [])


@pytest.mark.parametrize("trouble", [failing(503), failing(429), "reset", "torn"])
def test_a_post_without_a_key_is_never_repeated(make_client, trouble):
    clock = Clock()
    with Script(trouble, {"breakdown": {}}) as script, pytest.raises(sdk.PromptReelError):
        make_client(base_url=script.base_url, clock=clock).prompt_runs.estimate("prompt_1", {"type": "playground"})
    assert (len(script.asked), clock.slept) == (1, [])


@pytest.mark.parametrize("trouble", ["reset", "torn"])
def test_a_broken_connection_is_tried_again_with_the_same_idempotency_key(make_client, trouble):
    clock = Clock()
    with Script(trouble, failing(503), RUN) as script:
        client = make_client(base_url=script.base_url, clock=clock)
        client.prompt_runs.execute("prompt_1", {"type": "playground"})
        client.prompt_runs.execute("prompt_1", {"type": "playground"})
        client.prompt_runs.execute("prompt_1", {"type": "playground"}, idempotency_key="mine")
    first, second, third, other, own = [asked.headers["Idempotency-Key"] for asked in script.asked]
    assert first == second == third
    assert len({first, other, own}) == 3
    assert own == "mine"
    assert len({asked.body for asked in script.asked}) == 1


def test_delays_are_drawn_below_a_doubling_and_bounded_limit(make_client):
    clock, tries = Clock(), 12
    policy = sdk.RetryPolicy(max_retries=tries, first_delay_s=0.5, max_delay_s=8)
    with Script(failing(503)) as script, pytest.raises(sdk.ServerError):
        make_client(base_url=script.base_url, clock=clock, retries=policy).prompt_runs.retrieve("run_1")
    assert len(script.asked) == tries + 1
    limits = [0.5, 1, 2, 4] + [8] * (tries - 4)
    assert all(0 <= slept <= limit for slept, limit in zip(clock.slept, limits, strict=True))
    assert len({slept / limit for slept, limit in zip(clock.slept, limits, strict=True)}) > tries / 2
    assert max(clock.slept) > 2  # they do grow: all nine draws from 0 to 8 below 2 would be one case in 260,000


@pytest.mark.parametrize("status", [429, 503])
def test_what_the_service_asks_to_wait_is_waited(make_client, status):
    clock = Clock()
    with Script(failing(status, headers={"Retry-After": "7"}), RUN) as script:
        make_client(base_url=script.base_url, clock=clock).prompt_runs.retrieve("run_1")
    assert 7 <= clock.slept[0] <= 7.5


def test_a_wait_that_is_too_long_is_left_to_the_caller(make_client):
    clock = Clock()
    with Script(failing(429, headers={"Retry-After": "3600"})) as script, pytest.raises(sdk.RateLimitError) as caught:
        make_client(base_url=script.base_url, clock=clock).prompt_runs.retrieve("run_1")
    assert (len(script.asked), clock.slept, caught.value.retry_after_s) == (1, [], 3600)
    assert "3600 s" in str(caught.value)


def test_retry_after_is_read_as_seconds_and_as_a_date():
    now = datetime(2026, 4, 20, 10, tzinfo=UTC)
    assert retry_after_s("12") == 12
    assert retry_after_s(format_datetime(now + timedelta(seconds=90), usegmt=True), now) == 90
    assert retry_after_s(format_datetime(now - timedelta(seconds=90), usegmt=True), now) == 0
    assert [retry_after_s(text, now) for text in (None, "", "soon", "-3", "1e9", "²")] == [None] * 6


def test_an_upload_is_sent_whole_again(make_client, tmp_path):
    content = os.urandom(200_000)
    file = io.BytesIO(content)
    file.read(1000)
    (tmp_path / "a.mp4").write_bytes(content)
    added = {**VIDEO, "video_id": "v", "message": "stored", "job_id": "job_v", "source_kind": "upload"}
    added |= {"target_index_id": None, "progress": {}, "outputs": {}, "video_ids": ["v"]}
    for sent, options in ((file, {"filename": "a.mp4"}), (str(tmp_path / "a.mp4"), {})):
        with Script(failing(503), "reset", added) as script:
            make_client(base_url=script.base_url, clock=Clock()).videos.upload(sent, title="A", **options)
        assert len(script.asked) == 3
        assert len({asked.headers["Idempotency-Key"] for asked in script.asked}) == 1
        for asked in script.asked:
            assert content in asked.body
            assert b'filename="a.mp4"' in asked.body
    assert not file.closed


# ------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, sdk.BadRequestError),
        (401, sdk.AuthenticationError),
        (403, sdk.PermissionDeniedError),
        (404, sdk.NotFoundError),
        (409, sdk.ConflictError),
        (413, sdk.ApiStatusError),
        (422, sdk.ValidationError),
        (429, sdk.RateLimitError),
        (500, sdk.ServerError),
        (503, sdk.ServerError),
    ],
)
def test_an_error_says_all_that_the_service_said(make_client, status, kind):
    client_options = {"retries": sdk.RetryPolicy(max_retries=0)}
    with Script(failing(status, "some_code", run_id="run_1")) as script, pytest.raises(sdk.ApiStatusError) as caught:
        make_client(base_url=script.base_url, **client_options).prompt_runs.retrieve("run_1")
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.message) == (status, "some_code", "It went wrong.")
    assert (error.details, error.request_id) == ({"run_id": "run_1"}, "req_7")
    assert all(word in str(error) for word in ("It went wrong.", str(status), "some_code", "req_7"))


def test_errors_survive_being_sent_to_another_process():
    for error in (
        error_type_for_status(429)(429, "slow_down", "Too many.", {"a": 1}, "req_1", 5.0),
        sdk.RunFailed("run run_1 failed", {"run_id": "run_1"}),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b'{"detail": "Not Found"}', b'{"error": "text"}'])
def test_an_answer_of_something_else_is_an_error_that_doubts_the_address(make_client, body):
    for status in (502, 404, 200):
        with Script((status, body, {})) as script:
            client = make_client(base_url=script.base_url, retries=sdk.RetryPolicy(max_retries=0))
            with pytest.raises(sdk.PromptReelError, match="base_url") as caught:
                client.prompt_runs.retrieve("run_1")
        assert isinstance(caught.value, sdk.ApiStatusError) == (status != 200)


def test_the_key_is_not_carried_to_where_a_redirect_leads(make_client):
    with Script(RUN) as elsewhere, Script((307, b"", {"Location": elsewhere.base_url + "/api/v2/x"})) as script:
        with pytest.raises(sdk.ApiStatusError, match=re.escape(elsewhere.base_url)):
            make_client(base_url=script.base_url).prompt_runs.retrieve("run_1")
        assert (len(script.asked), elsewhere.asked) == (1, [])


def test_a_service_that_is_not_there_is_named(make_client):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        client = make_client(base_url=base_url, clock=(clock := Clock()))
        with pytest.raises(sdk.ConnectionFailed, match=re.escape(base_url)) as caught:
            client.indexes.list()
    assert isinstance(caught.value.__cause__, httpx.ConnectError)
    assert len(clock.slept) == 3


def test_a_silent_service_is_given_up(make_client):
    clock, policy = Clock(), sdk.RetryPolicy(max_retries=1)
    with Script("hang") as script:
        client = make_client(base_url=script.base_url, timeout_s=0.1, retries=policy, clock=clock)
        with pytest.raises(sdk.RequestTimedOut, match="timeout_s"):
            client.indexes.retrieve("idx_1")
    assert len(clock.slept) == 1


@pytest.mark.parametrize("bad", ["", ".", "..", None])
def test_an_id_that_would_name_something_else_is_refused_before_it_is_sent(make_client, bad):
    with Script(RUN) as script:
        client = make_client(base_url=script.base_url)
        for call in (client.prompt_runs.retrieve, client.indexes.delete, client.prompt_runs.cancel):
            with pytest.raises(ValueError, match=repr(bad)):
                call(bad)
    assert script.asked == []


def test_an_id_stays_one_part_of_the_path(make_client):
    with Script(failing(404)) as script, pytest.raises(sdk.NotFoundError):
        make_client(base_url=script.base_url).prompt_runs.retrieve("../indexes?limit=1#é")
    assert script.asked[0].path == "/prompt-runs/..%2Findexes%3Flimit%3D1%23%C3%A9"
    assert script.asked[0].params == {}


def test_arguments_that_cannot_be_sent_are_refused(make_client, tmp_path):
    with Script(RUN) as script:
        client = make_client(base_url=script.base_url)
        (tmp_path / "a.txt").write_text("a")
        with open(tmp_path / "a.txt") as text, pytest.raises(TypeError, match="binary"):
            client.videos.upload(text)
        with pytest.raises(FileNotFoundError, match="gone"):
            client.videos.upload(tmp_path / "gone.mp4")
        with pytest.raises(ValueError, match="filename"):
            client.videos.upload(io.BytesIO(b"a"))
        reading, writing = os.pipe()
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe, pytest.raises(ValueError, match="seekable"):
            client.videos.upload(pipe, filename="a.mp4")
        with pytest.raises(ValueError, match="to change"):
            client.prompts.update("prompt_1")
        with pytest.raises(ValueError, match="exactly one"):
            client.videos.batch_segments()
        with pytest.raises(ValueError, match="text_query"):
            client.search.multimodal("idx_1")
        with pytest.raises(ValueError, match="timeout_s"):
            client.prompt_runs.wait_for_completion("run_1", timeout_s=0)
    assert script.asked == []


# ------------------------------------------------------------------------------------------------ settings


def test_key_and_address_come_from_the_environment(make_client, monkeypatch):
    with Script(RUN) as script:
        monkeypatch.setenv("PROMPTREEL_API_KEY", KEY)
        monkeypatch.setenv("PROMPTREEL_BASE_URL", script.base_url + "/api/v2/")
        make_client(api_key=None).prompt_runs.retrieve("run_1")
        make_client(api_key="sk_live_given").prompt_runs.retrieve("run_1")
    assert [asked.path for asked in script.asked] == ["/prompt-runs/run_1"] * 2
    assert [asked.headers["X-API-Key"] for asked in script.asked] == [KEY, "sk_live_given"]


def test_without_a_key_it_says_how_to_get_one(make_client, monkeypatch):
    monkeypatch.delenv("PROMPTREEL_API_KEY", raising=False)
    with pytest.raises(sdk.PromptReelError, match="promptreel keys create"):
        make_client(api_key=None)


@pytest.mark.parametrize("bad", ["ftp://host", "host:80", "/api", "http://", "http://h/?a=1", "http://user:pw@host"])
def test_an_address_that_is_none_is_refused(make_client, bad):
    with pytest.raises(sdk.PromptReelError, match="base_url") as caught:
        make_client(base_url=bad)
    assert "pw" not in str(caught.value)


def test_a_key_that_is_none_is_refused_without_being_shown(make_client):
    for bad in ("sk_live_a\nb", "sk live", "sk_livé"):
        with pytest.raises(sdk.PromptReelError, match="characters") as caught:
            make_client(api_key=bad)
        assert bad not in str(caught.value)


def test_the_key_of_a_new_key_is_read_and_never_shown():
    body = {"key_id": "k", "key_prefix": "sk_live_0123", "name": "n", "scopes": ["read"], "created_at": "2026-04-20"}
    made = NewApiKey.model_validate({**body, "is_active": True, "key": KEY})
    assert made.key == KEY
    assert KEY not in repr(RotatedApiKey(old_key_id="k", new_key=made)) + str(made)


def test_the_key_is_never_shown(make_client):
    client = make_client(base_url="http://127.0.0.1:1", retries=sdk.RetryPolicy(max_retries=0))
    with pytest.raises(sdk.ConnectionFailed) as caught:
        client.indexes.list()
    settings = resolve_connection(
        KEY, None, timeout_s=1, connect_timeout_s=1, retries=sdk.RetryPolicy(), verify=True, trust_env=False
    )
    for shown in (repr(client), repr(settings), str(caught.value), repr(caught.value)):
        assert KEY[8:] not in shown
        assert KEY[-8:] not in shown
    assert "http://127.0.0.1:1" in repr(client)


def test_settings_out_of_range_are_refused(make_client):
    for options in ({"timeout_s": 0}, {"connect_timeout_s": -1}, {"timeout_s": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(options))):
            make_client(**options)
    for options in ({"max_retries": -1}, {"first_delay_s": 9}):
        with pytest.raises(ValueError, match=next(iter(options))):
            sdk.RetryPolicy(**options)
    with pytest.raises(ValueError, match="poll_interval_s"):
        PollSettings(1, 0)


def test_a_client_closes_with_its_block():
    with PromptReel(KEY) as client:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        client.indexes.list()

    async def use():
        async with AsyncPromptReel(KEY, verify=ssl.create_default_context()) as client:
            pass
        with pytest.raises(RuntimeError, match="closed"):
            await client.indexes.list()

    asyncio.run(use())


# ------------------------------------------------------------------------------------------------ pages


def test_iterating_over_a_page_goes_through_all_pages(make_client):
    answers = [page([{**VIDEO, "video_id": f"v{n}"} for n in part], cursor) for part, cursor in (
        ([0, 1], "c/1"), ([], "c 2"), ([2], None)
    )]  # fmt: skip
    with Script(*answers) as script:
        first = make_client(base_url=script.base_url).indexes.list_videos("idx_1", limit=2)
        assert [video.video_id for video in first.data] == ["v0", "v1"]
        assert (first.has_more, first.next_cursor, len(script.asked)) == (True, "c/1", 1)
        assert [video.video_id for video in first] == ["v0", "v1", "v2"]
    assert [asked.params for asked in script.asked] == [
        {"limit": "2"},
        {"limit": "2", "cursor": "c/1"},
        {"limit": "2", "cursor": "c 2"},
    ]


def test_the_last_page_has_no_next(make_client):
    with Script(page([], "c1"), page([])) as script:
        first = make_client(base_url=script.base_url).playground.list_videos()
        last = first.next_page()
        assert (last.data, last.has_more, last.next_page()) == ([], False, None)
        assert "last" in repr(last)


@pytest.mark.parametrize("cursors", [["c1", "c1"], [""]])
def test_a_cursor_that_leads_nowhere_new_ends_the_list(make_client, cursors):
    with Script(*[page([], cursor) for cursor in cursors], page([])) as script:
        client = make_client(base_url=script.base_url)
        with pytest.raises(sdk.PromptReelError, match="missing or repeated"):
            list(client.indexes.list_prompt_runs("idx_1"))
    assert len(script.asked) == len(cursors)


def test_a_filter_sends_its_cursor_in_its_body(make_client):
    hit = {**HIT, "a_field_of_a_newer_service": 1}
    condition = {"field": "a", "operator": "is_empty", "type": "string"}
    with Script({**page([hit], "c1"), "results": [hit], "total_shown": 1}, page([hit])) as script:
        found = make_client(base_url=script.base_url).search.filter("playground", [condition], page_size=1)
        hits = list(found)
    assert [(hit.segment_id, hit.similarity_score) for hit in hits] == [("s", None)] * 2
    bodies = [json.loads(asked.body) for asked in script.asked]
    assert bodies == [
        {"conditions": [condition], "page_size": 1},
        {"conditions": [condition], "page_size": 1, "cursor": "c1"},
    ]
    assert {asked.path for asked in script.asked} == {"/search/filter/playground"}


# ------------------------------------------------------------------------------------------------ waiting


def test_a_wait_tells_every_state_and_gives_the_last(make_client):
    clock, told = Clock(), []
    states = [run("pending"), run(completed_segments=3), run("completed_with_failures", completed_segments=9)]
    with Script(*states) as script:
        client = make_client(base_url=script.base_url, clock=clock)
        found = client.prompt_runs.wait_for_completion("run_1", on_progress=lambda run: told.append(run.status))
    assert (found.status, found.completed_segments) == ("completed_with_failures", 9)
    assert told == ["pending", "processing", "completed_with_failures"]
    assert clock.slept == [1, 1.5]


def test_looks_become_rarer_up_to_a_few_seconds(make_client):
    clock = Clock()
    with Script(*[run()] * 12, run("cancelled")) as script:
        client = make_client(base_url=script.base_url, clock=clock)
        assert client.prompt_runs.wait_for_completion("run_1", poll_interval_s=0.5).status == "cancelled"
    assert clock.slept[0] == 0.5
    assert clock.slept == sorted(clock.slept)
    assert clock.slept[-1] == 5
    clock = Clock()
    with Script(*[run()] * 3, run("completed")) as script:
        make_client(base_url=script.base_url, clock=clock).prompt_runs.wait_for_completion("run_1", poll_interval_s=60)
    assert clock.slept == [60] * 3


def test_a_wait_ends_at_its_deadline(make_client):
    clock = Clock()
    with Script(run(completed_segments=12, total_segments=40)) as script:
        client = make_client(base_url=script.base_url, clock=clock)
        with pytest.raises(sdk.WaitTimedOut, match=r"run run_1 .* 30 s .*12 of 40") as caught:
            client.prompt_runs.wait_for_completion("run_1", timeout_s=30)
    assert clock.seconds == pytest.approx(30)
    assert caught.value.state.completed_segments == 12


@pytest.mark.parametrize("trouble", [failing(503), failing(429), "reset", "hang"])
def test_a_wait_ends_at_its_deadline_though_the_service_is_gone(make_client, trouble):
    clock = Clock()
    with Script(run(), trouble) as script:
        client = make_client(base_url=script.base_url, clock=clock, retries=sdk.RetryPolicy(max_retries=0))
        with pytest.raises(sdk.WaitTimedOut) as caught:
            client.prompt_runs.wait_for_completion("run_1", timeout_s=20, poll_interval_s=20)
    assert clock.seconds == pytest.approx(20)
    assert isinstance(caught.value.__cause__, sdk.PromptReelError)


def test_retries_inside_a_wait_do_not_go_beyond_its_deadline(make_client):
    clock = Clock()
    policy = sdk.RetryPolicy(max_retries=1000, first_delay_s=4, max_delay_s=4)
    with Script(run(), failing(503)) as script:
        client = make_client(base_url=script.base_url, clock=clock, retries=policy)
        with pytest.raises(sdk.WaitTimedOut):
            client.prompt_runs.wait_for_completion("run_1", timeout_s=20)
    assert 20 <= clock.seconds <= 22


def test_an_outage_during_a_wait_is_waited_out(make_client):
    clock = Clock()
    with Script(run(), *["reset"] * 9, failing(502), run("completed")) as script:
        found = make_client(base_url=script.base_url, clock=clock).prompt_runs.wait_for_completion("run_1")
    assert found.status == "completed"


def test_a_wait_does_not_begin_without_a_service(make_client):
    clock = Clock()
    with Script(failing(503)) as script, pytest.raises(sdk.ServerError):
        make_client(base_url=script.base_url, clock=clock).prompt_runs.wait_for_completion("run_1")
    assert len(script.asked) == 4
    with Script(run(), failing(404)) as script, pytest.raises(sdk.NotFoundError):
        make_client(base_url=script.base_url, clock=clock).prompt_runs.wait_for_completion("run_1")


def test_a_failed_run_raises_unless_told_otherwise(make_client):
    with Script(run("failed", error_message="quota spent")) as script:
        client = make_client(base_url=script.base_url)
        with pytest.raises(sdk.RunFailed, match=r"quota spent.*get_failed_segments") as caught:
            client.prompt_runs.wait_for_completion("run_1")
        assert caught.value.state.error_message == "quota spent"
        found = client.prompt_runs.wait_for_completion("run_1", raise_on_failure=False)
    assert found.status == "failed"


def test_a_retry_of_failures_is_started_and_waited_for(make_client):
    clock, told = Clock(), []
    states = [{**RETRY, "status": status} for status in ("pending", "processing", "completed", "failed")]
    with Script(*states) as script:
        client = make_client(base_url=script.base_url, clock=clock)
        started = client.prompt_runs.retry_failures("run_1", operations=["transcription"], codes=["model_timeout"])
        done = client.prompt_runs.wait_for_retry("run_1", started.retry_id, on_progress=lambda s: told.append(s.status))
        with pytest.raises(sdk.RunFailed, match="retry retry_1 of run run_1"):
            client.prompt_runs.wait_for_retry("run_1", "retry_1")
    assert (done.status, told) == ("completed", ["processing", "completed"])
    assert json.loads(script.asked[0].body) == {"operations": ["transcription"], "codes": ["model_timeout"]}
    assert script.asked[0].headers["Idempotency-Key"]


def test_a_deletion_is_asked_for_as_often_as_the_service_wants(make_client):
    clock = Clock()
    states = [
        {"deletion_id": "d", "status": "draining", "retry_after_seconds": 9},
        {"deletion_id": "d", "status": "deleting", "retry_after_seconds": None},
        {"deletion_id": "d", "status": "deleted"},
    ]
    with Script(*states) as script:
        client = make_client(base_url=script.base_url, clock=clock)
        assert client.indexes.wait_for_deletion("idx_1").status == "deleted"
    assert clock.slept == [9, 1.5]


def test_progress_may_be_told_to_a_coroutine():
    told = []

    async def tell(run):
        await asyncio.sleep(0)
        told.append(run.status)

    async def wait(base_url):
        async with AsyncPromptReel(KEY, base_url) as client:
            await client.prompt_runs.wait_for_completion("run_1", poll_interval_s=0.01, on_progress=tell)

    with Script(run(), run("completed")) as script:
        asyncio.run(wait(script.base_url))
    assert told == ["processing", "completed"]


# ------------------------------------------------------------------------------------------------ events

EVENT_STREAM = {"Content-Type": "text/event-stream; charset=utf-8"}


def sent(*numbers, title="a"):
    """Events as the service sends them."""
    text = ": connected\n\n"
    for number in numbers:
        event = {"event_id": str(number), "event_type": "media.created", "created_at": "2026-04-20T10:00:00Z"}
        event["payload"] = {"title": title}
        text += f"id: {number}\nevent: media.created\ndata: {json.dumps(event, ensure_ascii=False)}\n\n"
    return (200, text.encode(), EVENT_STREAM)


def test_a_stream_is_resumed_behind_its_last_event(make_client):
    clock = Clock()
    stream_error = (200, sent(4)[1] + b'event: processing.stream_error\ndata: {"message": "over"}\n\n', EVENT_STREAM)
    with Script(sent(1, 2), "reset", failing(503), sent(3), stream_error, sent(5)) as script:
        events = make_client(base_url=script.base_url, clock=clock).events.stream(
            run_id="run_1", event_types=["media.created"], last_event_id="0"
        )
        assert [next(events).event_id for _ in range(5)] == ["1", "2", "3", "4", "5"]
        events.close()
    assert [asked.headers["Last-Event-ID"] for asked in script.asked] == ["0", "2", "2", "2", "3", "4"]
    assert all(asked.params == {"run_id": "run_1", "event_types": "media.created"} for asked in script.asked)


def test_a_title_with_a_line_separator_stays_whole(make_client):
    title = "a\u2028b\x85c\u2029d"
    with Script(sent(1, title=title)) as script:
        events = make_client(base_url=script.base_url).events.stream()
        assert next(events).payload["title"] == title
        events.close()


def test_an_id_without_an_event_moves_the_place(make_client):
    with Script((200, b"id: 41\n\n", EVENT_STREAM), sent(42)) as script:
        events = make_client(base_url=script.base_url, clock=Clock()).events.stream()
        assert next(events).event_id == "42"
        events.close()
    assert [asked.headers["Last-Event-ID"] for asked in script.asked] == [None, "41"]


def test_a_stream_that_cannot_be_kept_open_ends(make_client):
    with Script((200, b": connected\n\n", EVENT_STREAM)) as script, pytest.raises(sdk.ConnectionFailed, match="ended"):
        next(make_client(base_url=script.base_url, clock=Clock()).events.stream())
    assert len(script.asked) == 4
    with Script(failing(401)) as script, pytest.raises(sdk.AuthenticationError):
        next(make_client(base_url=script.base_url, clock=Clock()).events.stream())
    assert len(script.asked) == 1


# ------------------------------------------------------------------------------------------------ both clients, one shape


def public_methods(client):
    """(path of names) to signature, of every method of every resource."""
    found = {}
    for name, resource in vars(client).items():
        if isinstance(resource, resources.Resource | resources.AsyncResource) and not name.startswith("_"):
            found |= {f"{name}.{path}": signature for path, signature in public_methods(resource).items()}
    for name, method in inspect.getmembers(client, inspect.ismethod):
        if not name.startswith("_"):
            found[name] = [(p.name, p.kind, p.default) for p in inspect.signature(method).parameters.values()]
    return found


def test_both_clients_have_the_same_methods_with_the_same_arguments_and_words():
    with PromptReel(KEY) as client:
        other = AsyncPromptReel(KEY)
        ours, theirs = public_methods(client), public_methods(other)
        assert ours == theirs
        assert len(ours) > 60
        for path in ours:
            method, twin = client, other
            for name in path.split("."):
                method, twin = getattr(method, name), getattr(twin, name)
            assert method.__doc__, path
            assert inspect.iscoroutinefunction(twin) or path == "events.stream", path
        asyncio.run(other.close())


def test_every_method_is_a_plain_one_whose_types_an_editor_can_read():
    with PromptReel(KEY) as client:
        other = AsyncPromptReel(KEY)
        for root in (client, other):
            for path in public_methods(root):
                method = functools.reduce(getattr, path.split("."), root)
                assert method.__code__.co_name == method.__name__ == path.rsplit(".", 1)[-1], path
                assert inspect.getsourcefile(method) == inspect.getsourcefile(type(method.__self__)), path
                types = typing.get_type_hints(method)
                assert {"return", *inspect.signature(method).parameters} == set(types), path
                assert Any not in types.values() or path == "prompts.test_schema", path
                assert not inspect.signature(method).parameters.keys() & {"args", "kwargs"}, path
        asyncio.run(other.close())


def test_the_command_line_does_not_load_the_client():
    code = (
        "import sys, promptreel, promptreel.cli.main; print('httpx2' in sys.modules, 'promptreel.sdk' in sys.modules)"
    )
    code += "; print(promptreel.PromptReel.__module__, hasattr(promptreel, 'Nothing'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "promptreel.sdk.client", "False"]


def test_the_client_loads_nothing_that_is_slow_to_import():
    code = "import sys; from promptreel import PromptReel; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.removeprefix("promptreel.").split(".")[0] for name in done.stdout.split()}
    assert {"promptreel", "schemas", "pydantic"} <= loaded
    heavy = {
        "api",
        "tables",
        "media",
        "providers",
        "pyarrow",
        "duckdb",
        "numpy",
        "torch",
        "apache_beam",
        "google",
        "av",
    }
    assert not heavy & loaded


SEARCHES = [
    (
        search.text("idx_1", "a dog", top_k=3, search_fields=["a"], run_ids=["r"], index_ids=["i"]),
        "/indexes/idx_1/search",
        {"query": "a dog", "top_k": 3, "search_fields": ["a"], "run_ids": ["r"], "index_ids": ["i"]},
    ),
    (search.image("idx_1", b"\xff\xd8"), "/indexes/idx_1/image-search", {"image_data": "/9g="}),
    (
        search.multimodal("idx_1", text_query="a", image=b"\xff\xd8", text_weight=0.25, image_weight=0.75),
        "/indexes/idx_1/multimodal-search",
        {"text_query": "a", "image_data": "/9g=", "text_weight": 0.25, "image_weight": 0.75},
    ),
    (
        search.multi_run("a", run_ids=["r1", "r2"], aggregation="weighted", top_k=5),
        "/search/multi-run",
        {"query": "a", "run_ids": ["r1", "r2"], "aggregation": "weighted", "top_k": 5},
    ),
    (playground.search("a", run_id="r", top_k=9), "/playground/search", {"query": "a", "top_k": 9}),
    (sql.catalog("idx_1"), "/search/sql/idx_1/catalog", {}),
    (
        sql.execute("idx_1", "SELECT 1", result_limit=5, run_ids=["r"]),
        "/search/sql/idx_1",
        {"query": "SELECT 1", "result_limit": 5, "run_ids": ["r"]},
    ),
    (
        sql.generate("idx_1", "count", existing_query="SELECT 1"),
        "/search/sql/idx_1/generate",
        {"instruction": "count", "existing_query": "SELECT 1"},
    ),
]


@pytest.mark.parametrize(("call", "path", "body"), SEARCHES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_search_is_asked_as_the_contract_words_it(call, path, body):
    assert (call.request.method, call.request.path, call.request.json) == ("POST", path, body)
    assert not call.request.is_repeatable


def test_search_answers_are_typed(make_client):
    match = {"field_path": "people[].name", "field_instance_key": "k", "field_instance_path": "people[0].name"}
    hit = {
        **HIT,
        "matched_field_instances": [{**match, "score": 0.5, "value_preview": "Ada"}],
        "similarity_score": 0.25,
    }
    hit |= {"field_scores": {}, "field_instance_scores": {}, "fused_score": 0.5, "match_type": "both"}
    limits = {"default_result_limit": 1, "max_result_limit": 1, "timeout_seconds": 1, "max_query_chars": 1}
    limits |= {"max_answer_bytes": 1, "max_runs": 1}
    scope = {"run_ids": ["run_1"], "runs_left_out": 0}
    tables = {"tables": [{"name": "run_1", "row_count": 1, "columns": []}], "limits": limits, "examples": [], **scope}
    rows = {"rows": [{"n": 1}], "row_context": [None], "columns": [], "truncated": False, **scope}
    rows |= {"applied_result_limit": 1, "duration_ms": 1.5}
    with Script([hit], [hit], [hit], tables, rows, {"query": "SELECT", "model": "m"}) as script:
        client = make_client(base_url=script.base_url)
        assert client.search.text("idx_1", "a")[0].matched_field_instances[0].field_path == "people[].name"
        assert client.search.image("idx_1", b"a")[0].similarity_score == 0.25
        assert client.search.multimodal("idx_1", text_query="a")[0].match_type == "both"
        assert client.search.sql.catalog("idx_1").tables[0].name == "run_1"
        assert client.search.sql.execute("idx_1", "SELECT 1").rows == [{"n": 1}]
        assert client.search.sql.generate("idx_1", "a").query == "SELECT"


# ------------------------------------------------------------------------------------------------ the real service


@pytest.fixture(scope="module")
def real_service(tmp_path_factory):
    """The service with its supervisor and the built-in model, over HTTP; `new_key()` gives the key of a new account."""
    folder = tmp_path_factory.mktemp("service")
    data, media = folder / "data", folder / "media"
    data.mkdir()
    media.mkdir()
    app = create_app(ApiConfig(data_dir=str(data), media_roots=(media,), default_model="signals", heartbeat_s=0.5))

    def new_key():
        with app.state.database.write() as session:
            return create_key(session, create_account(session, "t").account_id, "k", ["admin"])[1]

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="critical", access_log=False, timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        until = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive(), "the service did not start"
            assert time.monotonic() < until, "the service did not start"
            time.sleep(0.01)
        base_url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        yield SimpleNamespace(app=app, base_url=base_url, media=media, new_key=new_key)
        server.should_exit = True
        thread.join(timeout=30)


@pytest.fixture
def client(make_client, real_service):
    """A client of the real service, with an account of its own."""
    return make_client(real_service.new_key(), real_service.base_url)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """3 s of video with a tone."""
    return write_film(
        tmp_path_factory.mktemp("clip") / "clip.mp4", plain(["red", "green", "blue"], 10), 10, sound=[tone(440, 3)]
    )


def test_a_run_from_the_upload_to_the_retry_of_what_failed(client, real_service, clip, tmp_path):
    stamp = os.urandom(4).hex()
    index = client.indexes.create(f"films {stamp}")
    prompt = client.prompts.create(f"length {stamp}", PROMPT_TEXT, SCHEMA, video_level=SYNTHESIS)
    good = client.videos.upload(clip, index_id=index.index_id)
    lost_file = real_service.media / f"{stamp}.mp4"
    lost_file.write_bytes(clip.read_bytes())
    lost = client.videos.register("lost", lost_file.as_uri(), index_id=index.index_id)
    target = {"type": "index", "index_id": index.index_id}
    settings = {"video_segmentation_type": "fixed", "video_segment_duration": 1}
    settings |= {"enable_transcription": False, "enable_image_embedding": False}

    foreseen = client.prompt_runs.estimate(prompt.prompt_id, target, **settings)
    assert foreseen.breakdown["prompt_run_estimate"]["eligible_item_count"] == 2

    lost_file.rename(tmp_path / "kept.mp4")
    started = client.prompt_runs.execute(prompt.prompt_id, target, **settings, idempotency_key="once")
    assert client.prompt_runs.execute(prompt.prompt_id, target, **settings, idempotency_key="once") == started
    told = []
    done = client.prompt_runs.wait_for_completion(
        started.run_id, timeout_s=90, poll_interval_s=0.1, on_progress=told.append
    )
    assert (done.status, done.completed_videos, done.failed_videos) == ("completed_with_failures", 1, 1)
    assert told[-1] == done
    assert len(told) > 1
    assert [run.run_id for run in client.prompt_runs.list(limit=5)] == [done.run_id]
    assert [run.run_id for run in client.indexes.list_prompt_runs(index.index_id)] == [done.run_id]
    assert [run.run_id for run in client.videos.list_prompt_runs(good.video_id)] == [done.run_id]

    results = client.prompt_runs.list_results(done.run_id, good.video_id, limit=2)
    assert (len(results.data), results.has_more) == (2, True)
    assert [(row.start_time, row.end_time) for row in results] == [(0, 1), (1, 2), (2, 3)]
    assert all(row.metadata["duration_seconds"] == pytest.approx(1, abs=0.1) for row in results)
    whole = client.prompt_runs.get_video_result(done.run_id, good.video_id)
    assert whole.metadata["duration_seconds"] == pytest.approx(3, abs=0.2)
    assert len(list(client.videos.list_segments(good.video_id, run_id=done.run_id, limit=1))) == 3
    assert isinstance(client.prompt_runs.get_llm_calls(done.run_id), list)
    assert [row.video_id for row in client.videos.batch_status([good.video_id, lost.video_id])] == [
        good.video_id,
        lost.video_id,
    ]
    through_run = client.videos.batch_segments(targets=[SegmentTarget(video_id=good.video_id, run_id=done.run_id)])
    through_newest = client.videos.batch_segments(video_ids=[good.video_id])
    assert [len(rows[0].segments) for rows in (through_run, through_newest)] == [3, 3]

    failures = client.prompt_runs.get_failed_segments(done.run_id)
    assert (failures.failed_segments, failures.videos[0].video_id) == (1, lost.video_id)
    with pytest.raises(
        sdk.ConflictError, match="nothing_to_retry"
    ):  # a file that is not there is not retryable by itself
        client.prompt_runs.retry_failures(done.run_id)
    (tmp_path / "kept.mp4").rename(lost_file)
    segment_id = failures.videos[0].segments[0].segment_id
    retry = client.prompt_runs.retry_segment(done.run_id, lost.video_id, segment_id)
    ended = client.prompt_runs.wait_for_retry(done.run_id, retry.retry_id, timeout_s=90, poll_interval_s=0.1)
    assert ended.status == "completed"
    assert client.prompt_runs.get_segment_retry_status(done.run_id, lost.video_id, segment_id, retry.retry_id) == ended
    assert client.prompt_runs.get_failed_segments(done.run_id).failed_segments == 0
    assert len(list(client.prompt_runs.list_results(done.run_id, lost.video_id))) == 3

    seen = []
    events = client.events.stream(run_id=done.run_id, last_event_id="0")
    while not seen or seen[-1] != "prompt_run.partial_completed":
        seen.append(next(events).event_type)
    events.close()
    assert seen[0] == "prompt_run.started"


def test_a_stream_that_breaks_before_its_first_event_misses_nothing(client, real_service, monkeypatch):
    account_id = client.rate_limits.status().user_id
    opened = []

    class BrokenAtFirst(httpx.EventSource):
        """Breaks the first connection once the service has said where the stream begins; something happens meanwhile."""

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
                happen("media.created")
                raise httpx.ReadError("cut off")

    def happen(kind):
        with real_service.app.state.database.write() as session:
            record_event(session, account_id, kind)

    monkeypatch.setattr(httpx, "EventSource", BrokenAtFirst)
    last = threading.Timer(20, happen, ["prompt_run.failed"])  # comes first where the other is missed
    last.start()
    events = client.events.stream()
    assert next(events).event_type == "media.created"
    events.close()
    last.cancel()
    assert opened[0] is None
    assert opened[1].isdigit()


def test_what_differs_between_two_runs_comes_with_a_summary_and_in_pages(client, real_service):
    made = Catalogue(real_service, client.rate_limits.status().user_id)
    index_id = made.index()
    videos = [made.video(index_id) for _ in range(3)]
    before, after = (
        made.run({video: [{"summary": f"{side} {n}"}, {"summary": "kept"}] for n, video in enumerate(videos)},
                 index_id=index_id)
        for side in ("old", "new")
    )  # fmt: skip
    page = client.prompt_runs.diff(before, after, limit=2)
    assert (page.summary.items, page.summary.changed_segments) == (3, 3)
    assert page.summary.fields["summary"] == {"added": 0, "removed": 0, "changed": 3, "same": 3}
    assert (len(page.data), page.has_more, client.prompt_runs.diff(before, after).has_more) == (2, True, False)
    found = {(row.video_id, row.field, row.before, row.after, row.change) for row in page}
    assert found == {(video, "summary", f"old {n}", f"new {n}", "changed") for n, video in enumerate(videos)}
    every = list(client.prompt_runs.diff(before, after, include_same=True, limit=5))
    assert sorted(row.change for row in every) == ["changed"] * 3 + ["same"] * 3
    with pytest.raises(sdk.NotFoundError, match="run_none"):
        client.prompt_runs.diff(before, "run_none")


def test_a_run_over_nothing_readable_fails_and_a_waiting_run_is_cancelled(client, real_service, clip):
    prompt = client.prompts.create("length", PROMPT_TEXT, SCHEMA)
    file = real_service.media / f"{os.urandom(4).hex()}.mp4"
    file.write_bytes(clip.read_bytes())
    video = client.videos.register("lost", file.as_uri())
    file.unlink()
    run = client.prompt_runs.execute(prompt.prompt_id, {"type": "videos", "video_ids": [video.video_id]})
    with pytest.raises(sdk.RunFailed, match="media_not_found") as caught:
        client.prompt_runs.wait_for_completion(run.run_id, timeout_s=90, poll_interval_s=0.1)
    assert caught.value.state.failed_videos == 1

    client.videos.upload(clip, title="found")
    run = client.prompt_runs.execute(prompt.prompt_id, {"type": "playground"})
    client.prompt_runs.cancel(run.run_id)
    ended = client.prompt_runs.wait_for_completion(run.run_id, timeout_s=90, poll_interval_s=0.1)
    # Where the runner was started already, it has found out about the lost file.
    assert (ended.status, ended.cancelled_videos + ended.failed_videos) == ("cancelled", 2)


def test_prompts_are_made_changed_and_deleted(client):
    made = client.prompts.create("first", PROMPT_TEXT, SCHEMA, description="d", video_level=SYNTHESIS)
    assert client.prompts.retrieve(made.prompt_id) == made
    changed = client.prompts.update(made.prompt_id, name="second", description="", clear_video_level=True)
    assert (changed.name, changed.description, changed.video_level) == ("second", "", None)
    assert (changed.prompt_text, changed.json_schema) == (PROMPT_TEXT, SCHEMA)
    listed = client.prompts.list(active_only=False)
    assert ([prompt.prompt_id for prompt in listed.prompts], listed.total_count) == ([made.prompt_id], 1)
    assert client.prompts.usage(made.prompt_id).is_in_use is False
    assert client.prompts.test_schema(SCHEMA, {"duration_seconds": 1}).valid is True
    assert client.prompts.test_schema(SCHEMA, {}).valid is False
    assert made.prompt_id in client.prompts.delete(made.prompt_id).message
    with pytest.raises(sdk.NotFoundError) as caught:
        client.prompts.retrieve(made.prompt_id)
    assert caught.value.code == "resource_prompt_not_found"
    assert caught.value.request_id
    with pytest.raises(sdk.ValidationError, match="name"):
        client.prompts.create("", PROMPT_TEXT, SCHEMA)


def test_media_come_from_paths_and_file_objects_and_go(client, tmp_path):
    picture = make_image(tmp_path / "picture.png")
    index = client.indexes.create("pictures", description="d")
    assert client.indexes.retrieve(index.index_id) == index
    assert client.indexes.list() == [index]
    client.indexes.create("one", idempotency_key="same")
    with pytest.raises(sdk.ConflictError) as caught:
        client.indexes.create("other", idempotency_key="same")
    assert caught.value.code == "idempotency_request_mismatch"

    by_path = client.videos.upload(picture, title="by path", index_id=index.index_id)
    with picture.open("rb") as file:
        by_file = client.videos.upload(file, index_id=index.index_id)
    by_bytes = client.videos.upload(io.BytesIO(picture.read_bytes()), filename="x.png", index_id=index.index_id)
    assert [video.title for video in (by_path, by_file, by_bytes)] == ["by path", "picture.png", "x.png"]
    uploaded = [video.video_id for video in (by_bytes, by_file, by_path)]
    assert [video.video_id for video in client.indexes.list_videos(index.index_id, limit=1)] == uploaded
    assert [video.video_id for video in client.videos.batch(uploaded)] == uploaded
    assert client.videos.retrieve(by_path.video_id).media_type == "image"
    link = client.videos.signed_url(by_file.video_uri)
    assert httpx.get(link.signed_url, trust_env=False).content == picture.read_bytes()

    loose = client.videos.upload(picture)
    assert [video.video_id for video in client.playground.list_videos()] == [loose.video_id]
    assert client.videos.delete(loose.video_id).status == "deleted"
    assert client.videos.wait_for_deletion(loose.video_id).video_id == loose.video_id
    assert client.playground.list_videos().data == []
    with pytest.raises(sdk.NotFoundError):
        client.indexes.wait_for_deletion(index.index_id)
    client.indexes.delete(index.index_id)
    assert client.indexes.wait_for_deletion(index.index_id).status == "deleted"
    with pytest.raises(sdk.NotFoundError):
        client.videos.retrieve(by_path.video_id)
    text = tmp_path / "text.mp4"
    text.write_text("no film")
    with pytest.raises(sdk.ValidationError):
        client.videos.upload(text)


def test_keys_are_made_used_and_revoked(client, make_client, real_service):
    made = client.api_keys.create("reader", scopes=["read"], expires_in_days=1)
    reader = make_client(made.key, real_service.base_url)
    reader.auth.validate()
    with pytest.raises(sdk.PermissionDeniedError, match="write"):
        reader.indexes.create("films")
    assert client.api_keys.retrieve(made.key_id).is_active
    rotated = client.api_keys.rotate(made.key_id)
    with pytest.raises(sdk.AuthenticationError, match="promptreel keys create"):
        reader.auth.validate()
    assert rotated.old_key_id == made.key_id
    assert client.api_keys.revoke(rotated.new_key.key_id).is_active is False
    client.api_keys.delete(made.key_id)
    assert made.key_id not in [key.key_id for key in client.api_keys.list()]
    assert client.rate_limits.status().categories["write"].minute_used > 0


def test_what_the_service_does_not_know_is_one_plain_error(client):
    with pytest.raises(sdk.ApiStatusError) as caught:
        client.search.sql.generate("idx_1", "count")
    assert caught.value.status < 500
    assert caught.value.code != "unreadable_error"


BUILDERS = [
    prompt_runs.execute("p", {"type": "playground"}, video_segmentation_type="smart"),
    prompt_runs.estimate("p", {"type": "playground"}),
    prompt_runs.retrieve("r"),
    prompt_runs.list_runs(limit=1),
    prompt_runs.list_results("r", "v", limit=1).after("c"),
    prompt_runs.diff("r", "o", include_same=True, limit=1).after("c"),
    prompt_runs.get_video_result("r", "v"),
    prompt_runs.get_failed_segments("r"),
    prompt_runs.get_llm_calls("r"),
    prompt_runs.cancel("r"),
    prompt_runs.retry_segment("r", "v", "s"),
    prompt_runs.get_segment_retry_status("r", "v", "s", "t"),
    prompt_runs.retry_failures("r", operations=["processing"], codes=["c"], video_ids=["v"]),
    prompt_runs.get_retry_status("r", "t"),
    prompts.create("n", "t", {}, description="d", video_level={}, semantic_indexing={}),
    prompts.retrieve("p"),
    prompts.list_prompts(),
    prompts.update("p", name="n", clear_video_level=True, is_active=True),
    prompts.delete("p", force=True),
    prompts.usage("p"),
    prompts.test_schema({}, {}),
    indexes.create("n", description="d"),
    indexes.retrieve("i"),
    indexes.list_indexes(),
    indexes.list_videos("i", limit=1).after("c"),
    indexes.list_prompt_runs("i", limit=1).after("c"),
    indexes.delete("i"),
    indexes.deletion("i"),
    videos.upload(io.BytesIO(b"a"), filename="a.mp4"),
    videos.register("t", "u", index_id="i"),
    videos.retrieve("v"),
    videos.delete("v"),
    videos.deletion("v"),
    videos.list_segments("v", run_id="r", latest_run=True, limit=1).after("c"),
    videos.list_prompt_runs("v", limit=1),
    videos.batch(["v"]),
    videos.batch_status(["v"]),
    videos.batch_segments(video_ids=["v"]),
    videos.signed_url("u", force_refresh=True),
    playground.list_videos(limit=1).after("c"),
    api_keys.create("n", scopes=["read"], expires_in_days=1),
    api_keys.retrieve("k"),
    api_keys.list_keys(),
    api_keys.delete("k"),
    api_keys.revoke("k"),
    api_keys.rotate("k"),
    service.validate(),
    service.rate_limit_status(),
    SimpleNamespace(request=stream_request("r", "i", ["v"], ["t"], 1)),
]


@pytest.mark.parametrize("call", BUILDERS, ids=lambda call: str(call.request))
def test_what_the_client_sends_is_what_the_service_describes(real_service, call):
    request = call.request
    described = real_service.app.openapi()
    fitting = [
        operations[request.method.lower()]
        for path, operations in described["paths"].items()
        if re.fullmatch(re.sub(r"\{\w+\}", "[a-z]", path), "/api/v2" + request.path)
        and request.method.lower() in operations
    ]
    assert len(fitting) == 1, request
    parameters = fitting[0].get("parameters", [])
    assert set(request.params) <= {entry["name"] for entry in parameters if entry["in"] == "query"}
    takes_key = any(entry["name"] == "Idempotency-Key" for entry in parameters)
    assert (request.idempotency is not None) == takes_key
    content = fitting[0].get("requestBody", {}).get("content", {})
    if request.json is not None:
        body = content["application/json"]["schema"]["$ref"].split("/")[-1]
        assert set(request.json) <= set(described["components"]["schemas"][body]["properties"])
    else:
        assert not content or request.file is not None
    if isinstance(call, Listing):
        assert "cursor" in request.params


def test_the_settings_of_a_run_are_those_of_the_wire():
    offered = {*prompt_runs.ExecuteOptions.__annotations__, "prompt_id", "target"}
    assert offered == set(ExecuteRun.model_fields)
    for method in (resources.PromptRuns.execute, resources.PromptRuns.estimate):
        assert set(inspect.signature(method).parameters) - {"self", "idempotency_key"} == offered


def test_execute_and_estimate_send_the_same_settings():
    target, settings = VideosTarget(type="videos", video_ids=["v"]), {"video_segmentation_type": "fixed"}
    started = prompt_runs.execute("p", target, video_segment_duration=5, processing_model=None, **settings)
    estimated = prompt_runs.estimate("p", target, video_segment_duration=5, processing_model=None, **settings)
    sent = {"prompt_id": "p", "target": {"type": "videos", "video_ids": ["v"]}, "video_segment_duration": 5, **settings}
    assert started.request.json == estimated.request.json == sent
    assert ExecuteRun.model_validate(sent).model_dump(mode="json", exclude_unset=True) == sent


def test_every_builder_is_held_against_the_description():
    modules = (prompt_runs, prompts, indexes, videos, playground, api_keys, service)
    named = {
        (module.__name__, name)
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and (module, name) != (playground, "search")
    }
    assert len(named) == len(BUILDERS) - 1  # the stream is built elsewhere


DOCUMENT = Path(__file__).parents[2] / "docs" / "sdk.md"


def test_the_documented_run_runs_as_it_is_written(real_service, clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PROMPTREEL_API_KEY", real_service.new_key())
    monkeypatch.setenv("PROMPTREEL_BASE_URL", real_service.base_url)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dock.mp4").write_bytes(clip.read_bytes())
    ten_lines, asynchronous = [
        code for code in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL) if "dock.mp4" in code
    ]
    exec(compile(ten_lines, "sdk.md", "exec"), {})
    exec(compile(asynchronous, "sdk.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 2
    assert all(re.match(r"\d+\.\d+ \d+\.\d+ \{'duration_seconds': ", line) for line in lines)


def test_every_documented_name_exists():
    text = DOCUMENT.read_text()
    with PromptReel(KEY) as client:
        methods = public_methods(client)
        for group, names in re.findall(r"^\| `client\.([\w.]+)` \| (.+?) \|$", text, re.MULTILINE):
            written = re.findall(r"`(\w+)`", names)
            existing = [path.rsplit(".", 1)[1] for path in methods if path.rsplit(".", 1)[0] == group]
            assert sorted(written) == sorted(existing), group
    errors = {name for name in sdk.__all__ if name.endswith(("Error", "Failed", "TimedOut"))}
    assert set(re.findall(r"`(\w+(?:Error|Failed|TimedOut))`", text)) == errors | {"ValueError", "TypeError"}


def test_the_documented_errors_are_those_that_exist():
    tree = Path(sdk.errors.__file__).read_text().split('"""')[1]
    drawn = set(re.findall(r"── (\w+)", tree)) | {"PromptReelError"}
    kinds = {name for name, kind in vars(sdk).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert drawn == kinds
    depth = {
        name: len(kind.__mro__) - len(sdk.PromptReelError.__mro__) for name, kind in vars(sdk).items() if name in kinds
    }
    for line in tree.splitlines():
        if match := re.match(r"^(.*?)(?:[├└]── )?(\w+) {2,}", line):
            assert depth[match[2]] == (line.index(match[2]) - 4) // 4, line
