"""Storage on a local disk and on an object store: atomic files and folders, full disks."""

import errno
import os
import subprocess
import sys

import pytest

from promptreel.schemas.errors import StorageError
from promptreel.tables.storage import open_storage


def test_files_are_written_atomically(storage):
    storage.write_atomic("a/b.json", b"one")
    storage.write_atomic("a/b.json", b"two")
    assert storage.read_bytes("a/b.json") == b"two"
    assert storage.list_names("a") == ["b.json"]
    assert storage.create_exclusive("a/c", b"mine")
    assert not storage.create_exclusive("a/c", b"other")
    assert storage.read_bytes("a/c") == b"mine"
    assert storage.local_file("a/c").read_bytes() == b"mine"
    storage.remove("a/c")
    storage.remove("a/c")
    assert not storage.exists("a/c")
    assert storage.list_names("nowhere") == []
    with pytest.raises(FileNotFoundError):
        storage.read_bytes("a/none")


def test_folder_is_committed_once(storage, tmp_path):
    for number in range(2):
        with storage.work_folder() as work:
            (work / "f").mkdir()
            (work / "f" / "x.jpg").write_bytes(b"%d" % number)
            (work / "f" / "done.json").write_bytes(b"{}")
            storage.commit_folder(work / "f", "cache/f", "done.json")
            assert not (work / "f" / "x.jpg").exists() or storage.root.startswith("memory") or number == 1
    assert storage.read_bytes("cache/f/x.jpg") == b"0"
    assert not work.exists()


def test_full_disk_is_reported_and_leaves_old_content(tmp_path, monkeypatch):
    storage = open_storage(tmp_path)
    storage.write_atomic("a.json", b"old")

    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match=r"cannot write .*a\.json: No space left"):
        storage.write_atomic("a.json", b"new")
    monkeypatch.undo()
    assert storage.read_bytes("a.json") == b"old"
    assert storage.list_names("") == ["a.json"]


SHORT_WRITE = """
import resource, sys
from promptreel.schemas.errors import StorageError
from promptreel.tables.storage import open_storage

storage = open_storage(sys.argv[1])
storage.append_line("log.jsonl", b"first")
resource.setrlimit(resource.RLIMIT_FSIZE, (20, resource.RLIM_INFINITY))  # simulates a full disk
try:
    storage.append_line("log.jsonl", b"x" * 100)
except StorageError:
    print("rejected")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
storage.append_line("log.jsonl", b"third")
"""


def test_failed_append_leaves_log_unchanged(tmp_path):
    command = [sys.executable, "-c", SHORT_WRITE, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "rejected\n"
    assert (tmp_path / "log.jsonl").read_bytes() == b"first\nthird\n"
