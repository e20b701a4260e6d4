"""Files on a local disk or an object store, written whole or not at all.

`open_storage("./data")` is a folder; `open_storage("gs://bucket/data")` is any object store that fsspec knows. All names
are relative to that root, with forward slashes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import fsspec

from promptreel.schemas.errors import StorageError
from promptreel.tables import layout

PRIVATE_MODE: Final = 0o600
_TEMPORARY = "tmp"
# Two creates of one object at the same time: S3 rejects one with 409, which tells nothing about the object.
_CONFLICT_PAUSES_S = (0.1, 0.2, 0.4, 0.8)


class Storage(ABC):
    """A root under which files are read and written whole.

    Every method raises StorageError, naming the file and the cause, where the disk or the service refuses.
    """

    root: str

    @abstractmethod
    def read_bytes(self, name: str) -> bytes:
        """The whole file. Raises FileNotFoundError where there is none."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""

    @abstractmethod
    def list_names(self, folder: str) -> list[str]:
        """Names (last parts) of what lies in a folder, sorted; empty where there is no such folder."""

    @abstractmethod
    def write_atomic(self, name: str, content: bytes) -> None:
        """Writes a file so that a reader sees the old content or the new one whole, and the new one survives a crash."""

    @abstractmethod
    def create_exclusive(self, name: str, content: bytes) -> bool:
        """Creates a file whole, or returns False where one of that name exists."""

    @abstractmethod
    def append_line(self, name: str, line: bytes) -> None:
        """Adds one line to a log; it survives the death of the process, though not of the machine."""

    @abstractmethod
    def commit_file(self, local: Path, name: str) -> None:
        """Moves a finished local file to its name, durably."""

    @abstractmethod
    def commit_folder(self, local: Path, name: str, marker: str) -> None:
        """Moves a finished local folder to its name. `marker` is the file in it whose presence tells that all of it is
        there. Where the folder exists already, the local one is discarded."""

    @abstractmethod
    def local_file(self, name: str) -> Path:
        """A local path that holds the file's content; an object is fetched once. Raises FileNotFoundError."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Removes a file; no error where there is none."""

    @contextmanager
    def work_folder(self) -> Iterator[Path]:
        """A local folder to build files in, removed at the end with what is left in it."""
        folder = self._new_work_folder()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @abstractmethod
    def _new_work_folder(self) -> Path: ...


def open_storage(root: str | Path) -> Storage:
    """The storage for a local path or an fsspec URL."""
    text = str(root)
    if "://" in text and not text.startswith("file://"):
        return ObjectStorage(text)
    return LocalStorage(Path(text.removeprefix("file://")))


class LocalStorage(Storage):
    """A folder on a local disk. Written files are synced before they get their name. Private ones are never readable by
    others; the rest follows the umask."""

    def __init__(self, root: Path) -> None:
        self.path = root.absolute()
        self.root = str(self.path)

    def read_bytes(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _storage_error("read", self.path / name, error) from error

    def exists(self, name: str) -> bool:
        return (self.path / name).exists()

    def list_names(self, folder: str) -> list[str]:
        try:
            return sorted(os.listdir(self.path / folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _storage_error("list", self.path / folder, error) from error

    def write_atomic(self, name: str, content: bytes) -> None:
        target = self.path / name
        with storage_errors("write", target):
            temporary = _write_beside(target, content, is_private=layout.is_private(name))
            os.replace(temporary, target)
            _sync_folder(target.parent)

    def create_exclusive(self, name: str, content: bytes) -> bool:
        target = self.path / name
        with storage_errors("create", target):
            temporary = _write_beside(target, content, is_private=layout.is_private(name))
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(target.parent)
        return True

    def append_line(self, name: str, line: bytes) -> None:
        target = self.path / name
        with storage_errors("append to", target):
            descriptor = _open_to_append(target)
            try:
                _append_atomically(descriptor, line + b"\n")
            finally:
                os.close(descriptor)

    def commit_file(self, local: Path, name: str) -> None:
        target = self.path / name
        with storage_errors("write", target):
            _make_folder(target.parent)
            if layout.is_private(name):
                local.chmod(PRIVATE_MODE)
            with local.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(local, target)
            _sync_folder(target.parent)

    def commit_folder(self, local: Path, name: str, marker: str) -> None:
        target = self.path / name
        with storage_errors("write", target):
            _make_folder(target.parent)
            if target.exists() and not (target / marker).exists():
                shutil.rmtree(target)
            try:
                os.rename(local, target)
            except OSError:
                if not (target / marker).exists():
                    raise
            _sync_folder(target.parent)

    def local_file(self, name: str) -> Path:
        path = self.path / name
        if not path.exists():
            raise FileNotFoundError(path)
        return path

    def remove(self, name: str) -> None:
        with storage_errors("remove", self.path / name):
            (self.path / name).unlink(missing_ok=True)

    def _new_work_folder(self) -> Path:
        base = self.path / _TEMPORARY
        with storage_errors("write", base):
            _make_folder(base)
            return Path(tempfile.mkdtemp(dir=base))


class ObjectStorage(Storage):
    """An object store behind fsspec (gs://, s3://, memory://). One object is written whole by the service itself."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")
        try:
            self.files, self._base = fsspec.core.url_to_fs(self.root)
        except (ImportError, ValueError) as error:
            raise StorageError(
                f"{root}: no driver for this kind of storage ({error}); install it, e.g. gcsfs"
            ) from error
        self._fetched = tempfile.TemporaryDirectory(prefix="promptreel-")  # goes with this object

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["root"])  # type: ignore[misc]

    def _name(self, name: str) -> str:
        return f"{self._base}/{name}"

    def read_bytes(self, name: str) -> bytes:
        with storage_errors("read", name):
            return bytes(self.files.cat_file(self._name(name)))

    def exists(self, name: str) -> bool:
        return bool(self.files.exists(self._name(name)))

    def list_names(self, folder: str) -> list[str]:
        try:
            self.files.invalidate_cache()
            return sorted(
                path.rstrip("/").rsplit("/", 1)[-1] for path in self.files.ls(self._name(folder), detail=False)
            )
        except FileNotFoundError:
            return []

    def write_atomic(self, name: str, content: bytes) -> None:
        with storage_errors("write", name):
            self.files.pipe_file(self._name(name), content)

    def create_exclusive(self, name: str, content: bytes) -> bool:
        with storage_errors("create", name):
            for pause_s in (*_CONFLICT_PAUSES_S, None):
                try:
                    self.files.pipe_file(self._name(name), content, mode="create")
                    return True
                except FileExistsError:
                    return False
                except OSError as error:
                    status = _s3_status(error)
                    if status == HTTPStatus.PRECONDITION_FAILED:
                        return False
                    if status != HTTPStatus.CONFLICT or pause_s is None:
                        raise
                    time.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    def append_line(self, name: str, line: bytes) -> None:
        """Objects cannot grow: each line becomes an object of its own, in a folder of the log's name."""
        self.write_atomic(f"{name}/{uuid.uuid4().hex}", line + b"\n")

    def commit_file(self, local: Path, name: str) -> None:
        with storage_errors("write", name):
            self.files.put_file(str(local), self._name(name))

    def commit_folder(self, local: Path, name: str, marker: str) -> None:
        if self.exists(f"{name}/{marker}"):
            return
        files = sorted(path for path in local.rglob("*") if path.is_file())
        for path in sorted(files, key=lambda path: path.relative_to(local).as_posix() == marker):
            self.commit_file(path, f"{name}/{path.relative_to(local).as_posix()}")

    def local_file(self, name: str) -> Path:
        target = Path(self._fetched.name) / name
        if not target.exists():
            _make_folder(target.parent)
            partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
            partial.write_bytes(self.read_bytes(name))
            os.replace(partial, target)
        return target

    def remove(self, name: str) -> None:
        with storage_errors("remove", name):
            if self.files.exists(self._name(name)):
                self.files.rm_file(self._name(name))

    def _new_work_folder(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="promptreel-"))


def _s3_status(error: OSError) -> int | None:
    """The HTTP status of the S3 response behind an error; None if there is none. s3fs raises FileExistsError only if the
    response names the failed condition, as AWS does and MinIO does not."""
    response = getattr(error.__cause__, "response", None) or {}
    status: int | None = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def _open_to_append(target: Path) -> int:
    """A descriptor of a log. Its folder is made only where it is missing: a log is added to twice for every call."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    try:
        return os.open(target, flags, 0o644)
    except FileNotFoundError:
        _make_folder(target.parent)
        return os.open(target, flags, 0o644)


def _append_atomically(descriptor: int, content: bytes) -> None:
    """Appends all of it or nothing. A disk that fills takes a part first and refuses the next: a part that stayed would
    spoil the line after it, too."""
    before = os.fstat(descriptor).st_size
    written = 0
    try:
        while written < len(content):
            written += os.write(descriptor, content[written:])
    except OSError:
        if written:
            os.ftruncate(descriptor, before)
        raise


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:  # of a file system that makes no folders, such as /proc
        raise _storage_error("make the folder", folder, error) from error


def _write_beside(target: Path, content: bytes, *, is_private: bool) -> Path:
    _make_folder(target.parent)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE if is_private else 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def storage_errors(verb: str, target: Path | str) -> Iterator[None]:
    """Turns what the operating system raises inside the block into a StorageError that says what to do."""
    try:
        yield
    except (StorageError, FileNotFoundError):
        raise
    except OSError as error:
        raise _storage_error(verb, target, error) from error


def _storage_error(verb: str, target: Path | str, error: OSError) -> StorageError:
    return StorageError(
        f"cannot {verb} {target}: {error.strerror or error}; free space or fix permissions, then resume"
    )
