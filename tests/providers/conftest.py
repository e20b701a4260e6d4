"""Fixtures of the Gemini tests (the fake service, analysed media) and of the Whisper tests."""

import socket

import numpy as np
import pytest

from promptreel.providers import gemini, local_models, whisper
from tests.analysed_media import analyse, make_media
from tests.fake_gemini import FakeGemini
from tests.media_files import RATE, write_sound
from tests.providers.gemini_calls import answer_with
from tests.tiny_models import make_whisper


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


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_whisper(tmp_path_factory.mktemp("whisper") / "tiny")


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """A file with 90 s of noise; the tiny model outputs its words for any sound."""
    samples = np.random.default_rng(1).normal(0, 2000, 90 * RATE).astype(np.int16)
    return write_sound(tmp_path_factory.mktemp("noise") / "noise.flac", samples)


@pytest.fixture
def offline(monkeypatch):
    """Fail the test on any connection or name lookup."""

    def reject(*arguments):
        pytest.fail(f"network access: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", reject)
    monkeypatch.setattr(socket.socket, "connect_ex", reject)
    monkeypatch.setattr(socket, "getaddrinfo", reject)


@pytest.fixture
def loads(monkeypatch):
    """Names of the Whisper models loaded during the test, which starts with no model loaded."""
    monkeypatch.setattr(local_models, "_models", {})
    found = []
    load = whisper._load
    monkeypatch.setattr(whisper, "_load", lambda *arguments: found.append(arguments[0].model) or load(*arguments))
    return found
