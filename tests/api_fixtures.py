"""Shared fixtures of the API tests; a file loads them with `pytest_plugins = ["tests.api_fixtures"]`.

`service` is one shared server that uses a fake Gemini service. `world` is an account with three finished runs, one of them
with a failed segment.
"""

import os
from dataclasses import dataclass, field

import pytest

from tests.api_server import DESCRIBE, MODEL, ApiServer, Caller, ok_json
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import make_audio, make_image, make_video
from tests.postgres_server import PostgresServer, find_binaries


@dataclass
class World:
    """An account with media and finished runs.

    Attributes:
        run_id: run of a video, an audio and an image with the fake service; one video segment has a retryable failure.
        measured_id: run of the same media with the built-in model.
        lost_id: run of a deleted file; everything failed.
    """

    service: ApiServer
    caller: Caller
    gemini: FakeGemini
    index_id: str = ""
    prompt_id: str = ""
    measure_id: str = ""
    video_id: str = ""
    audio_id: str = ""
    image_id: str = ""
    playground_id: str = ""
    lost_video_id: str = ""
    run_id: str = ""
    measured_id: str = ""
    lost_id: str = ""
    runs: dict = field(default_factory=dict)


@pytest.fixture(scope="session")
def api_media(tmp_path_factory):
    """A folder with 3 s of video with a tone (a.mp4), 2 s of audio (b.flac), and an image (c.png)."""
    folder = tmp_path_factory.mktemp("api-media")
    make_video(folder / "a.mp4", seconds=3)
    make_audio(folder / "b.flac", seconds=2)
    make_image(folder / "c.png")
    return folder


@pytest.fixture(scope="session")
def gemini():
    """The fake model service used by `service`.

    Its answers for 0:02 to 0:03 are not JSON; those for 0:01 to 0:02 of a video are JSON in a fence.
    """
    malformed = Fault(text="0:02.00 to 0:03.00", answer="malformed")
    fenced = Fault(text="0:01.00 to 0:02.00 of a video", answer="fenced")
    with FakeGemini(faults=[malformed, fenced]) as server:
        yield server


@pytest.fixture(scope="session")
def service(tmp_path_factory, gemini):
    """One server for all tests; each test uses its own account."""
    before = os.environ.get("GEMINI_API_KEY")
    os.environ["GEMINI_API_KEY"] = "any"
    folder = tmp_path_factory.mktemp("service")
    roots = (folder / "media",)
    roots[0].mkdir()
    with ApiServer(folder / "data", media_roots=roots, model_base_url=gemini.base_url, max_running=3) as server:
        yield server
    if before is None:
        del os.environ["GEMINI_API_KEY"]


@pytest.fixture(scope="session")
def world(service, gemini, api_media):
    """See `World`. Tests must not modify it."""
    world = World(service, service.caller(), gemini)
    caller = world.caller
    world.index_id = caller.index()
    world.prompt_id = caller.prompt(DESCRIBE)
    world.measure_id = caller.prompt()
    world.video_id = caller.video(api_media / "a.mp4", world.index_id)
    world.audio_id = caller.video(api_media / "b.flac", world.index_id)
    world.image_id = caller.video(api_media / "c.png", world.index_id)
    world.playground_id = caller.video(api_media / "c.png")
    lost = service.config.media_roots[0] / "lost.mp4"
    lost.write_bytes((api_media / "a.mp4").read_bytes())
    registered = caller.post("/videos", {"title": "lost", "video_uri": lost.as_uri()})
    world.lost_video_id = ok_json(registered, 201)["video_id"]
    lost.unlink()
    index = {"type": "index", "index_id": world.index_id}
    lost_target = {"type": "videos", "video_ids": [world.lost_video_id]}
    world.run_id = caller.start(world.prompt_id, index, processing_model=MODEL)
    world.measured_id = caller.start(world.measure_id, index)
    world.lost_id = caller.start(world.measure_id, lost_target)
    world.runs = {run_id: caller.wait(run_id) for run_id in (world.run_id, world.measured_id, world.lost_id)}
    return world


@pytest.fixture
def caller(service):
    """A caller with the only key of a new account."""
    return service.caller()


@pytest.fixture(scope="session")
def postgres():
    """A real PostgreSQL server; skips the test if none is installed."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server under /usr/lib/postgresql; install it: apt-get install postgresql")
    with PostgresServer(binaries) as server:
        yield server
