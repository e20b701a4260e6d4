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
    blocks = max(0, stat.f_bavail - free_bytes // stat.f_frsize)
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):  # what else was written counts too
        for _ in range(blocks):
            file.write(b"x" * stat.f_frsize)
    return ballast
