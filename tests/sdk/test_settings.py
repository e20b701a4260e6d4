"""Settings and arguments that the client validates itself."""

import asyncio
import io
import os
import ssl

import pytest

from promptreel import AsyncPromptReel, PromptReel, sdk
from promptreel.schemas.wire.accounts import NewApiKey, RotatedApiKey
from promptreel.sdk.connection import resolve_connection
from promptreel.sdk.waiting import PollSettings
from tests.sdk.bodies import KEY, RUN, error_response
from tests.sdk.scripted_server import ScriptedServer


@pytest.mark.parametrize("bad", ["", ".", "..", None])
def test_ids_that_address_other_resources_are_rejected(make_client, bad):
    with ScriptedServer(RUN) as server:
        client = make_client(base_url=server.base_url)
        for call in (client.prompt_runs.retrieve, client.indexes.delete, client.prompt_runs.cancel):
            with pytest.raises(ValueError, match=repr(bad)):
                call(bad)
    assert server.requests == []


def test_id_is_encoded_as_one_path_segment(make_client):
    with ScriptedServer(error_response(404)) as server, pytest.raises(sdk.NotFoundError):
        make_client(base_url=server.base_url).prompt_runs.retrieve("../indexes?limit=1#é")
    assert server.requests[0].path == "/prompt-runs/..%2Findexes%3Flimit%3D1%23%C3%A9"
    assert server.requests[0].params == {}


def test_invalid_arguments_are_rejected_before_sending(make_client, tmp_path):
    with ScriptedServer(RUN) as server:
        client = make_client(base_url=server.base_url)
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
    assert server.requests == []


def test_key_and_base_url_default_to_the_environment(make_client, monkeypatch):
    with ScriptedServer(RUN) as server:
        monkeypatch.setenv("PROMPTREEL_API_KEY", KEY)
        monkeypatch.setenv("PROMPTREEL_BASE_URL", server.base_url + "/api/v2/")
        make_client(api_key=None).prompt_runs.retrieve("run_1")
        make_client(api_key="sk_live_given").prompt_runs.retrieve("run_1")
    assert [request.path for request in server.requests] == ["/prompt-runs/run_1"] * 2
    assert [request.headers["X-API-Key"] for request in server.requests] == [KEY, "sk_live_given"]


def test_missing_key_error_explains_how_to_create_one(make_client, monkeypatch):
    monkeypatch.delenv("PROMPTREEL_API_KEY", raising=False)
    with pytest.raises(sdk.PromptReelError, match="promptreel keys create"):
        make_client(api_key=None)


@pytest.mark.parametrize("bad", ["ftp://host", "host:80", "/api", "http://", "http://h/?a=1", "http://user:pw@host"])
def test_invalid_base_url_is_rejected(make_client, bad):
    with pytest.raises(sdk.PromptReelError, match="base_url") as caught:
        make_client(base_url=bad)
    assert "pw" not in str(caught.value)


def test_invalid_key_is_rejected_without_being_shown(make_client):
    for bad in ("sk_live_a\nb", "sk live", "sk_livé"):
        with pytest.raises(sdk.PromptReelError, match="characters") as caught:
            make_client(api_key=bad)
        assert bad not in str(caught.value)


def test_new_key_is_readable_but_not_in_repr():
    body = {"key_id": "k", "key_prefix": "sk_live_0123", "name": "n", "scopes": ["read"], "created_at": "2026-04-20"}
    created = NewApiKey.model_validate({**body, "is_active": True, "key": KEY})
    assert created.key == KEY
    assert KEY not in repr(RotatedApiKey(old_key_id="k", new_key=created)) + str(created)


def test_key_is_never_shown(make_client):
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


def test_settings_out_of_range_are_rejected(make_client):
    for options in ({"timeout_s": 0}, {"connect_timeout_s": -1}, {"timeout_s": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(options))):
            make_client(**options)
    for options in ({"max_retries": -1}, {"first_delay_s": 9}):
        with pytest.raises(ValueError, match=next(iter(options))):
            sdk.RetryPolicy(**options)
    with pytest.raises(ValueError, match="poll_interval_s"):
        PollSettings(1, 0)


def test_context_manager_closes_the_client():
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
