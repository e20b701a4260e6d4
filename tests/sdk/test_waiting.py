"""Waiting for runs, retries and deletions."""

import asyncio
import json

import pytest

from promptreel import AsyncPromptReel, sdk
from tests.sdk.bodies import KEY, RETRY, error_response, run_body
from tests.sdk.scripted_server import Clock, ScriptedServer


def test_wait_reports_every_state_and_returns_the_last(make_client):
    clock, reported = Clock(), []
    states = [
        run_body("pending"),
        run_body(completed_segments=3),
        run_body("completed_with_failures", completed_segments=9),
    ]
    with ScriptedServer(*states) as server:
        client = make_client(base_url=server.base_url, clock=clock)
        final = client.prompt_runs.wait_for_completion("run_1", on_progress=lambda run: reported.append(run.status))
    assert (final.status, final.completed_segments) == ("completed_with_failures", 9)
    assert reported == ["pending", "processing", "completed_with_failures"]
    assert clock.sleeps == [1, 1.5]


def test_poll_interval_grows_to_a_limit(make_client):
    clock = Clock()
    with ScriptedServer(*[run_body()] * 12, run_body("cancelled")) as server:
        client = make_client(base_url=server.base_url, clock=clock)
        assert client.prompt_runs.wait_for_completion("run_1", poll_interval_s=0.5).status == "cancelled"
    assert clock.sleeps[0] == 0.5
    assert clock.sleeps == sorted(clock.sleeps)
    assert clock.sleeps[-1] == 5
    clock = Clock()
    with ScriptedServer(*[run_body()] * 3, run_body("completed")) as server:
        make_client(base_url=server.base_url, clock=clock).prompt_runs.wait_for_completion("run_1", poll_interval_s=60)
    assert clock.sleeps == [60] * 3


def test_wait_ends_at_its_deadline(make_client):
    clock = Clock()
    with ScriptedServer(run_body(completed_segments=12, total_segments=40)) as server:
        client = make_client(base_url=server.base_url, clock=clock)
        with pytest.raises(sdk.WaitTimedOut, match=r"run run_1 .* 30 s .*12 of 40") as caught:
            client.prompt_runs.wait_for_completion("run_1", timeout_s=30)
    assert clock.seconds == pytest.approx(30)
    assert caught.value.state.completed_segments == 12


@pytest.mark.parametrize("failure", [error_response(503), error_response(429), "reset", "hang"])
def test_wait_ends_at_its_deadline_during_an_outage(make_client, failure):
    clock = Clock()
    with ScriptedServer(run_body(), failure) as server:
        client = make_client(base_url=server.base_url, clock=clock, retries=sdk.RetryPolicy(max_retries=0))
        with pytest.raises(sdk.WaitTimedOut) as caught:
            client.prompt_runs.wait_for_completion("run_1", timeout_s=20, poll_interval_s=20)
    assert clock.seconds == pytest.approx(20)
    assert isinstance(caught.value.__cause__, sdk.PromptReelError)


def test_retries_inside_a_wait_respect_its_deadline(make_client):
    clock = Clock()
    policy = sdk.RetryPolicy(max_retries=1000, first_delay_s=4, max_delay_s=4)
    with ScriptedServer(run_body(), error_response(503)) as server:
        client = make_client(base_url=server.base_url, clock=clock, retries=policy)
        with pytest.raises(sdk.WaitTimedOut):
            client.prompt_runs.wait_for_completion("run_1", timeout_s=20)
    assert 20 <= clock.seconds <= 22


def test_wait_survives_an_outage(make_client):
    clock = Clock()
    with ScriptedServer(run_body(), *["reset"] * 9, error_response(502), run_body("completed")) as server:
        final = make_client(base_url=server.base_url, clock=clock).prompt_runs.wait_for_completion("run_1")
    assert final.status == "completed"


def test_failed_first_poll_and_permanent_errors_end_a_wait(make_client):
    clock = Clock()
    with ScriptedServer(error_response(503)) as server, pytest.raises(sdk.ServerError):
        make_client(base_url=server.base_url, clock=clock).prompt_runs.wait_for_completion("run_1")
    assert len(server.requests) == 4
    with ScriptedServer(run_body(), error_response(404)) as server, pytest.raises(sdk.NotFoundError):
        make_client(base_url=server.base_url, clock=clock).prompt_runs.wait_for_completion("run_1")


def test_failed_run_raises_unless_disabled(make_client):
    with ScriptedServer(run_body("failed", error_message="quota exhausted")) as server:
        client = make_client(base_url=server.base_url)
        with pytest.raises(sdk.RunFailed, match=r"quota exhausted.*get_failed_segments") as caught:
            client.prompt_runs.wait_for_completion("run_1")
        assert caught.value.state.error_message == "quota exhausted"
        final = client.prompt_runs.wait_for_completion("run_1", raise_on_failure=False)
    assert final.status == "failed"


def test_retry_of_failures_starts_and_finishes(make_client):
    clock, reported = Clock(), []
    states = [{**RETRY, "status": status} for status in ("pending", "processing", "completed", "failed")]
    with ScriptedServer(*states) as server:
        client = make_client(base_url=server.base_url, clock=clock)
        started = client.prompt_runs.retry_failures("run_1", operations=["transcription"], codes=["model_timeout"])
        done = client.prompt_runs.wait_for_retry(
            "run_1", started.retry_id, on_progress=lambda retry: reported.append(retry.status)
        )
        with pytest.raises(sdk.RunFailed, match="retry retry_1 of run run_1"):
            client.prompt_runs.wait_for_retry("run_1", "retry_1")
    assert (done.status, reported) == ("completed", ["processing", "completed"])
    assert json.loads(server.requests[0].body) == {"operations": ["transcription"], "codes": ["model_timeout"]}
    assert server.requests[0].headers["Idempotency-Key"]


def test_deletion_polls_honour_retry_after_seconds(make_client):
    clock = Clock()
    states = [
        {"deletion_id": "d", "status": "draining", "retry_after_seconds": 9},
        {"deletion_id": "d", "status": "deleting", "retry_after_seconds": None},
        {"deletion_id": "d", "status": "deleted"},
    ]
    with ScriptedServer(*states) as server:
        client = make_client(base_url=server.base_url, clock=clock)
        assert client.indexes.wait_for_deletion("idx_1").status == "deleted"
    assert clock.sleeps == [9, 1.5]


def test_progress_callback_may_be_a_coroutine_function():
    reported = []

    async def report(run):
        await asyncio.sleep(0)
        reported.append(run.status)

    async def wait(base_url):
        async with AsyncPromptReel(KEY, base_url) as client:
            await client.prompt_runs.wait_for_completion("run_1", poll_interval_s=0.01, on_progress=report)

    with ScriptedServer(run_body(), run_body("completed")) as server:
        asyncio.run(wait(server.base_url))
    assert reported == ["processing", "completed"]
