"""Fixtures that several files share."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from promptreel.media.ffmpeg import find_ffmpeg
from tests.media_files import plain, tone, write_film

# Where real files are kept on some machines; set it to try one's own.
REAL_MEDIA_VARIABLE = "PROMPTREEL_TEST_MEDIA"
COLOUR_FILM = ("red", "green", "blue", "yellow")  # a second each


@pytest.fixture(scope="session")
def colour_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 s of H.264 and AAC, 160x90 at 25 frames a second: red, green, blue, yellow, a second each, with a tone of 440 Hz."""
    path = tmp_path_factory.mktemp("film") / "colours.mp4"
    return write_film(path, plain(COLOUR_FILM, 25), 25, sound=[tone(440, 4)])


@pytest.fixture
def real_media() -> Callable[[str], Path]:
    """Gives the path of a real file by its name; skips the test where it is absent."""
    folder = Path(os.environ.get(REAL_MEDIA_VARIABLE) or Path(__file__).parents[2] / "shared" / "media")

    def path_of(name: str) -> Path:
        if not (folder / name).is_file():
            pytest.skip(f"{name} is not in {folder}; put it there, or name its folder in {REAL_MEDIA_VARIABLE}")
        return folder / name

    return path_of


@pytest.fixture
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of this test and of the processes that it starts; other programs put nothing there."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)  # what this process looked up before
    return folder


@pytest.fixture
def leaves_nothing() -> Iterator[None]:
    """Fails the test if it leaves a child process, a zombie among them, or an open file descriptor behind."""
    find_ffmpeg()
    before = _descriptors(), _children()
    yield
    assert (_descriptors(), _children()) == before


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _children() -> set[str]:
    found: set[str] = set()
    for thread in threading.enumerate():
        try:
            found |= set(Path(f"/proc/self/task/{thread.native_id}/children").read_text().split())
        except OSError:
            pass  # the thread has just ended
    return found
