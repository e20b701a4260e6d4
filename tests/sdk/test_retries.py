"""Which requests are retried, when, and what they send."""

import io
import os
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from promptreel import sdk
from promptreel.sdk.retry import retry_after_s
from tests.sdk.bodies import RUN, VIDEO, error_response
from tests.sdk.scripted_server import Clock, ScriptedServer


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_reads_are_retried_on_transient_errors(make_client, status):
    clock = Clock()
    with ScriptedServer(error_response(status), error_response(status), RUN) as server:
        run = make_client(base_url=server.base_url, clock=clock).prompt_runs.retrieve("run_1")
    assert run.run_id == "run_1"
    assert len(server.requests) == 3
    assert len(clock.sleeps) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 501])
def test_reads_are_not_retried_on_permanent_errors(make_client, status):
    clock = Clock()
    with ScriptedServer(error_response(status), RUN) as server, pytest.raises(sdk.ApiStatusError):
        make_client(base_url=server.base_url, clock=clock).prompt_runs.retrieve("run_1")
    assert (len(server.requests), clock.sleeps) == (1, [])


@pytest.mark.parametrize("failure", [error_response(503), error_response(429), "reset", "torn"])
def test_post_without_idempotency_key_is_never_retried(make_client, failure):
    clock = Clock()
    with ScriptedServer(failure, {"breakdown": {}}) as server, pytest.raises(sdk.PromptReelError):
        make_client(base_url=server.base_url, clock=clock).prompt_runs.estimate("prompt_1", {"type": "playground"})
    assert (len(server.requests), clock.sleeps) == (1, [])


@pytest.mark.parametrize("failure", ["reset", "torn"])
def test_retries_reuse_the_idempotency_key(make_client, failure):
    clock = Clock()
    with ScriptedServer(failure, error_response(503), RUN) as server:
        client = make_client(base_url=server.base_url, clock=clock)
        client.prompt_runs.execute("prompt_1", {"type": "playground"})
        client.prompt_runs.execute("prompt_1", {"type": "playground"})
        client.prompt_runs.execute("prompt_1", {"type": "playground"}, idempotency_key="mine")
    first, second, third, other, custom = [request.headers["Idempotency-Key"] for request in server.requests]
    assert first == second == third
    assert len({first, other, custom}) == 3
    assert custom == "mine"
    assert len({request.body for request in server.requests}) == 1


def test_delays_are_jittered_below_a_doubling_bounded_limit(make_client):
    clock, max_retries = Clock(), 12
    policy = sdk.RetryPolicy(max_retries=max_retries, first_delay_s=0.5, max_delay_s=8)
    with ScriptedServer(error_response(503)) as server, pytest.raises(sdk.ServerError):
        make_client(base_url=server.base_url, clock=clock, retries=policy).prompt_runs.retrieve("run_1")
    assert len(server.requests) == max_retries + 1
    limits = [0.5, 1, 2, 4] + [8] * (max_retries - 4)
    assert all(0 <= delay <= limit for delay, limit in zip(clock.sleeps, limits, strict=True))
    assert len({delay / limit for delay, limit in zip(clock.sleeps, limits, strict=True)}) > max_retries / 2
    assert max(clock.sleeps) > 2  # the delays grow; nine draws from 0 to 8 are all below 2 once in 260,000 times


@pytest.mark.parametrize("status", [429, 503])
def test_retry_waits_for_retry_after(make_client, status):
    clock = Clock()
    with ScriptedServer(error_response(status, headers={"Retry-After": "7"}), RUN) as server:
        make_client(base_url=server.base_url, clock=clock).prompt_runs.retrieve("run_1")
    assert 7 <= clock.sleeps[0] <= 7.5


def test_long_retry_after_raises_instead_of_waiting(make_client):
    clock = Clock()
    with (
        ScriptedServer(error_response(429, headers={"Retry-After": "3600"})) as server,
        pytest.raises(sdk.RateLimitError) as caught,
    ):
        make_client(base_url=server.base_url, clock=clock).prompt_runs.retrieve("run_1")
    assert (len(server.requests), clock.sleeps, caught.value.retry_after_s) == (1, [], 3600)
    assert "3600 s" in str(caught.value)


def test_retry_after_parses_seconds_and_dates():
    now = datetime(2026, 4, 20, 10, tzinfo=UTC)
    assert retry_after_s("12") == 12
    assert retry_after_s(format_datetime(now + timedelta(seconds=90), usegmt=True), now) == 90
    assert retry_after_s(format_datetime(now - timedelta(seconds=90), usegmt=True), now) == 0
    assert [retry_after_s(text, now) for text in (None, "", "soon", "-3", "1e9", "²")] == [None] * 6


def test_retried_upload_sends_the_complete_file(make_client, tmp_path):
    content = os.urandom(200_000)
    file = io.BytesIO(content)
    file.read(1000)
    (tmp_path / "a.mp4").write_bytes(content)
    stored = {**VIDEO, "video_id": "v", "message": "stored", "job_id": "job_v", "source_kind": "upload"}
    stored |= {"target_index_id": None, "progress": {}, "outputs": {}, "video_ids": ["v"]}
    for source, options in ((file, {"filename": "a.mp4"}), (str(tmp_path / "a.mp4"), {})):
        with ScriptedServer(error_response(503), "reset", stored) as server:
            make_client(base_url=server.base_url, clock=Clock()).videos.upload(source, title="A", **options)
        assert len(server.requests) == 3
        assert len({request.headers["Idempotency-Key"] for request in server.requests}) == 1
        for request in server.requests:
            assert content in request.body
            assert b'filename="a.mp4"' in request.body
    assert not file.closed
