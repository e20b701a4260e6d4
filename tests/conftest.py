"""Shared fixtures."""

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

# Folder with real media files; tests that need them are skipped without it.
REAL_MEDIA_VARIABLE = "PROMPTREEL_TEST_MEDIA"
_CLEANUP_TIMEOUT_S = 10.0
COLOUR_FILM = ("red", "green", "blue", "yellow")  # one second each


@pytest.fixture(scope="session")
def colour_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 s of H.264 and AAC, 160x90 at 25 fps: red, green, blue and yellow for one second each, with a 440 Hz tone."""
    path = tmp_path_factory.mktemp("film") / "colours.mp4"
    return write_film(path, plain(COLOUR_FILM, 25), 25, sound=[tone(440, 4)])


@pytest.fixture
def real_media() -> Callable[[str], Path]:
    """Return a function from file name to path of real media; it skips the test if the file is missing."""
    folder = Path(os.environ.get(REAL_MEDIA_VARIABLE) or Path(__file__).parents[2] / "shared" / "media")

    def path_of(name: str) -> Path:
        if not (folder / name).is_file():
            pytest.skip(f"{name} is not in {folder}; add it, or set {REAL_MEDIA_VARIABLE} to its folder")
        return folder / name

    return path_of


@pytest.fixture
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A separate temporary folder for this test and its child processes, which no other program uses."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)  # drop the cached value
    return folder


@pytest.fixture
def leaves_nothing() -> Iterator[None]:
    """Fail the test if it leaves behind a child process (or zombie) or an open file or pipe.

    Polls for a while, because a service of other tests in this process may open and close files.
    """
    find_ffmpeg()
    before = _open_files() | _children()
    yield
    deadline = time.monotonic() + _CLEANUP_TIMEOUT_S
    while left := (_open_files() | _children()) - before:
        assert time.monotonic() < deadline, f"left behind: {sorted(left)}"
        time.sleep(0.05)


def _open_files() -> set[str]:
    """Return the targets of this process's file descriptors; each pipe and socket has a unique name."""
    targets = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            targets.add(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            pass  # closed in the meantime
    return targets


def _children() -> set[str]:
    pids: set[str] = set()
    for thread in threading.enumerate():
        try:
            pids |= set(Path(f"/proc/self/task/{thread.native_id}/children").read_text().split())
        except OSError:
            pass  # the thread has ended
    return pids
