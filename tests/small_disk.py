"""A separate, small file system for tests of a full disk."""

import contextlib
import os
import shutil
import subprocess

import pytest


@contextlib.contextmanager
def mounted(folder, megabytes):
    """Mount a file system of a few megabytes on an empty folder; the test is skipped where that is not possible."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("cannot mount a file system here, so a full disk is not tested")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(disk, free_bytes):
    """Fill the disk up to `free_bytes`; return the file that does."""
    ballast = disk / "ballast"
    stat = os.statvfs(disk)
    with ballast.open("wb") as file:
        file.write(b"x" * max(0, stat.f_bavail * stat.f_frsize - free_bytes))
    return ballast
