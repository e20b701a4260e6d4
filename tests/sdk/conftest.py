"""Fixtures of the SDK tests: clients of both kinds and a real service."""

import asyncio
import socket
import ssl
import threading
import time
from types import SimpleNamespace

import pytest
import uvicorn

from promptreel import AsyncPromptReel, PromptReel
from promptreel.api.app import create_app
from promptreel.api.config import ApiConfig
from promptreel.api.web.auth import create_account, create_key
from tests.media_files import plain, tone, write_film
from tests.sdk.bodies import KEY
from tests.sdk.client_methods import SyncAdapter

CERTIFICATES = ssl.create_default_context()  # loaded once, because loading takes longer than most of these tests


@pytest.fixture(params=["sync", "async"])
def make_client(request):
    """A factory of sync or async clients, which closes them after the test."""
    with asyncio.Runner() as runner:
        clients = []

        def create(api_key=KEY, base_url=None, clock=None, **options):
            options = {"verify": CERTIFICATES, **options}
            if request.param == "sync":
                timing = {"now": clock.now, "sleep": clock.sleep} if clock else {}
                clients.append(PromptReel(api_key, base_url, **timing, **options))
            else:
                timing = {"now": clock.now, "sleep": clock.sleep_async} if clock else {}
                clients.append(SyncAdapter(AsyncPromptReel(api_key, base_url, **timing, **options), runner))
            return clients[-1]

        yield create
        for client in clients:
            client.close()


@pytest.fixture(scope="package")
def real_service(tmp_path_factory):
    """The service with its supervisor and the built-in model, over HTTP; `new_key()` creates an account and its key."""
    folder = tmp_path_factory.mktemp("service")
    data, media = folder / "data", folder / "media"
    data.mkdir()
    media.mkdir()
    app = create_app(ApiConfig(data_dir=str(data), media_roots=(media,), default_model="signals", heartbeat_s=0.5))

    def new_key():
        with app.state.database.write() as session:
            return create_key(session, create_account(session, "t").account_id, "k", ["admin"])[1]

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="critical", access_log=False, timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive(), "the service did not start"
            assert time.monotonic() < deadline, "the service did not start"
            time.sleep(0.01)
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        yield SimpleNamespace(app=app, base_url=base_url, media=media, new_key=new_key)
        server.should_exit = True
        thread.join(timeout=30)


@pytest.fixture
def client(make_client, real_service):
    """A client of the real service, with a new account."""
    return make_client(real_service.new_key(), real_service.base_url)


@pytest.fixture(scope="package")
def clip(tmp_path_factory):
    """3 s of video with a tone."""
    return write_film(
        tmp_path_factory.mktemp("clip") / "clip.mp4", plain(["red", "green", "blue"], 10), 10, sound=[tone(440, 3)]
    )
