"""Fixtures that several files share."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from promptreel.media.ffmpeg import find_ffmpeg
from tests.media_files import plain, tone, write_film

# Where real files are kept on some machines; set it to try one's own.
REAL_MEDIA_VARIABLE = "PROMPTREEL_TEST_MEDIA"
_LEFT_BEHIND_S = 10.0
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
    """Fails the test if it leaves a child process, a zombie among them, or an open file or pipe behind. What a service of
    other tests opens and closes in this process meanwhile does not stay."""
    find_ffmpeg()
    before = _open_files() | _children()
    yield
    until = time.monotonic() + _LEFT_BEHIND_S
    while left := (_open_files() | _children()) - before:
        assert time.monotonic() < until, f"left behind: {sorted(left)}"
        time.sleep(0.05)


def _open_files() -> set[str]:
    """What the descriptors of this process lead to; each pipe and socket has a name of its own."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            pass  # closed meanwhile
    return found


def _children() -> set[str]:
    found: set[str] = set()
    for thread in threading.enumerate():
        try:
            found |= set(Path(f"/proc/self/task/{thread.native_id}/children").read_text().split())
        except OSError:
            pass  # the thread has just ended
    return found
