"""Errors of the service and of the connection."""

import pickle
import re
import socket

import httpx2 as httpx
import pytest

from promptreel import sdk
from promptreel.sdk.errors import error_type_for_status
from tests.sdk.bodies import RUN, error_response
from tests.sdk.scripted_server import Clock, ScriptedServer


@pytest.mark.parametrize(
    ("status", "error_type"),
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
def test_error_contains_everything_the_service_sent(make_client, status, error_type):
    client_options = {"retries": sdk.RetryPolicy(max_retries=0)}
    with (
        ScriptedServer(error_response(status, "some_code", run_id="run_1")) as server,
        pytest.raises(sdk.ApiStatusError) as caught,
    ):
        make_client(base_url=server.base_url, **client_options).prompt_runs.retrieve("run_1")
    error = caught.value
    assert type(error) is error_type
    assert (error.status, error.code, error.message) == (status, "some_code", "It went wrong.")
    assert (error.details, error.request_id) == ({"run_id": "run_1"}, "req_7")
    assert all(word in str(error) for word in ("It went wrong.", str(status), "some_code", "req_7"))


def test_errors_survive_pickling():
    for error in (
        error_type_for_status(429)(429, "slow_down", "Too many.", {"a": 1}, "req_1", 5.0),
        sdk.RunFailed("run run_1 failed", {"run_id": "run_1"}),
    ):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b'{"detail": "Not Found"}', b'{"error": "text"}'])
def test_foreign_response_is_an_error_naming_base_url(make_client, body):
    for status in (502, 404, 200):
        with ScriptedServer((status, body, {})) as server:
            client = make_client(base_url=server.base_url, retries=sdk.RetryPolicy(max_retries=0))
            with pytest.raises(sdk.PromptReelError, match="base_url") as caught:
                client.prompt_runs.retrieve("run_1")
        assert isinstance(caught.value, sdk.ApiStatusError) == (status != 200)


def test_redirect_target_does_not_receive_the_api_key(make_client):
    with (
        ScriptedServer(RUN) as elsewhere,
        ScriptedServer((307, b"", {"Location": elsewhere.base_url + "/api/v2/x"})) as server,
    ):
        with pytest.raises(sdk.ApiStatusError, match=re.escape(elsewhere.base_url)):
            make_client(base_url=server.base_url).prompt_runs.retrieve("run_1")
        assert (len(server.requests), elsewhere.requests) == (1, [])


def test_unreachable_service_is_named_in_the_error(make_client):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        client = make_client(base_url=base_url, clock=(clock := Clock()))
        with pytest.raises(sdk.ConnectionFailed, match=re.escape(base_url)) as caught:
            client.indexes.list()
    assert isinstance(caught.value.__cause__, httpx.ConnectError)
    assert len(clock.sleeps) == 3


def test_silent_service_times_out(make_client):
    clock, policy = Clock(), sdk.RetryPolicy(max_retries=1)
    with ScriptedServer("hang") as server:
        client = make_client(base_url=server.base_url, timeout_s=0.1, retries=policy, clock=clock)
        with pytest.raises(sdk.RequestTimedOut, match="timeout_s"):
            client.indexes.retrieve("idx_1")
    assert len(clock.sleeps) == 1
