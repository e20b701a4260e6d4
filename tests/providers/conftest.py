"""Fixtures of the Gemini tests: the fake service and analysed media."""

import pytest

from promptreel.providers import gemini
from tests.analysed_media import analyse, make_media
from tests.fake_gemini import FakeGemini
from tests.providers.gemini_calls import answer_with


@pytest.fixture(scope="module")
def gemini_server():
    with FakeGemini() as server:
        yield server


@pytest.fixture
def service(gemini_server, monkeypatch):
    """The fake service without state of earlier tests; `bodies` holds the request bodies."""
    monkeypatch.setenv("GEMINI_API_KEY", "made-up")
    monkeypatch.setattr(gemini, "UPLOAD_POLL_INTERVAL_S", 0.02)
    server = gemini_server
    server.set_faults()
    server.service.clear()
    server.service.files.processing_s, server.service.files.fails = 0.0, False
    server.bodies = []
    answer_with(server, {"n": 1})
    return server


@pytest.fixture(scope="session")
def film(tmp_path_factory):
    """(analysis, folder) of a 12 s video with a tone, sampled once per second."""
    folder = tmp_path_factory.mktemp("film")
    path = make_media(
        folder / "film.mp4", picture="testsrc2=size=320x180:rate=24", sound="sine=frequency=440", seconds=12
    )
    return analyse(path, folder / "analysis")


@pytest.fixture(scope="session")
def tone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tone")
    return analyse(make_media(folder / "tone.wav", sound="sine=frequency=440", seconds=8), folder / "analysis")


@pytest.fixture(scope="session")
def still(tmp_path_factory):
    folder = tmp_path_factory.mktemp("still")
    return analyse(make_media(folder / "still.png", picture="testsrc2=size=320x180"), folder / "analysis")
