"""Files on a local disk or an object store, written atomically.

`open_storage("./data")` opens a folder, `open_storage("gs://bucket/data")` an object store that fsspec supports. File names
are relative to that root, with forward slashes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import fsspec

from promptreel.schemas.errors import StorageError
from promptreel.schemas.uris import is_remote, local_path_of, scheme_of
from promptreel.tables import layout
from promptreel.tables.log_append import append_atomically

PRIVATE_MODE: Final = 0o600
_WORK_FOLDER = "tmp"
# When two creates of an object race, S3 rejects one with 409; that does not say whether the object exists.
_CONFLICT_RETRY_DELAYS_S = (0.1, 0.2, 0.4, 0.8)


class Storage(ABC):
    """A root folder for atomic reads and writes.

    Every method raises StorageError with the file and the cause if the disk or the service fails.
    """

    root: str

    @abstractmethod
    def read_bytes(self, name: str) -> bytes:
        """Return the content of a file. Raises FileNotFoundError."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether the file exists."""

    @abstractmethod
    def list_names(self, folder: str) -> list[str]:
        """List the base names in a folder, sorted; empty if the folder does not exist."""

    @abstractmethod
    def write_atomic(self, name: str, content: bytes, *, is_durable: bool = True) -> None:
        """Write a file atomically: readers see either the old or the new content.

        Args:
            is_durable: the file survives a crash of the machine; False is faster on a local disk.
        """

    @abstractmethod
    def create_exclusive(self, name: str, content: bytes, *, is_durable: bool = True) -> bool:
        """Create a file atomically; return False if it exists. For `is_durable` see `write_atomic`."""

    @abstractmethod
    def append_line(self, name: str, line: bytes) -> None:
        """Append a line to a log. It survives a crash of the process, but not of the machine."""

    @abstractmethod
    def commit_file(self, local: Path, name: str) -> None:
        """Move a finished local file to its final name, durably."""

    @abstractmethod
    def commit_folder(self, local: Path, name: str, marker: str) -> None:
        """Move a finished local folder to its final name; discard it if that folder is already complete.

        Args:
            marker: file whose presence means that the folder is complete.
        """

    @abstractmethod
    def local_file(self, name: str) -> Path:
        """Return a local path with the file's content; an object is downloaded once. Raises FileNotFoundError."""

    @abstractmethod
    def link_files(self, names: Mapping[str, str]) -> None:
        """Give immutable files second names: hard links on a local disk, copies in an object store. Not durable.

        Args:
            names: new name by the name of the file. Missing files and existing new names are skipped.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file if it exists."""

    @contextmanager
    def work_folder(self) -> Iterator[Path]:
        """A temporary local folder to build files in, removed at the end."""
        folder = self._new_work_folder()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @abstractmethod
    def _new_work_folder(self) -> Path: ...


def open_storage(root: str | Path) -> Storage:
    """Open the storage at a local path or an fsspec URL."""
    text = str(root)
    if is_remote(text):
        return ObjectStorage(text)
    return LocalStorage(Path(text if scheme_of(text) is None else local_path_of(text)))


class LocalStorage(Storage):
    """A folder on a local disk. Files are synced before they get their final name.

    Private files are never readable by others; the rest follow the umask.
    """

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

    def write_atomic(self, name: str, content: bytes, *, is_durable: bool = True) -> None:
        target = self.path / name
        with storage_errors("write", target):
            temporary = _write_temporary(target, content, layout.is_private(name), is_durable)
            os.replace(temporary, target)
            if is_durable:
                _sync_folder(target.parent)

    def create_exclusive(self, name: str, content: bytes, *, is_durable: bool = True) -> bool:
        target = self.path / name
        with storage_errors("create", target):
            temporary = _write_temporary(target, content, layout.is_private(name), is_durable)
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
            finally:
                temporary.unlink(missing_ok=True)
            if is_durable:
                _sync_folder(target.parent)
        return True

    def append_line(self, name: str, line: bytes) -> None:
        target = self.path / name
        with storage_errors("append to", target):
            descriptor = _open_to_append(target)
            try:
                append_atomically(descriptor, line + b"\n")
            finally:
                os.close(descriptor)

    def commit_file(self, local: Path, name: str) -> None:
        target = self.path / name
        with storage_errors("write", target):
            _create_folder(target.parent)
            if layout.is_private(name):
                local.chmod(PRIVATE_MODE)
            with local.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(local, target)
            _sync_folder(target.parent)

    def commit_folder(self, local: Path, name: str, marker: str) -> None:
        target = self.path / name
        with storage_errors("write", target):
            _create_folder(target.parent)
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

    def link_files(self, names: Mapping[str, str]) -> None:
        for name, new_name in names.items():
            target = self.path / new_name
            with storage_errors("write", target), suppress(FileExistsError, FileNotFoundError):
                _create_folder(target.parent)
                os.link(self.path / name, target)

    def remove(self, name: str) -> None:
        with storage_errors("remove", self.path / name):
            (self.path / name).unlink(missing_ok=True)

    def _new_work_folder(self) -> Path:
        base = self.path / _WORK_FOLDER
        with storage_errors("write", base):
            _create_folder(base)
            return Path(tempfile.mkdtemp(dir=base))


class ObjectStorage(Storage):
    """An object store behind fsspec (gs://, s3://, memory://). The service writes an object atomically."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")
        try:
            self.files, self._base = fsspec.core.url_to_fs(self.root)
        except (ImportError, ValueError) as error:
            raise StorageError(
                f"{root}: no driver for this type of storage ({error}); install one, e.g. gcsfs"
            ) from error
        self._fetched = tempfile.TemporaryDirectory(prefix="promptreel-")  # removed with this object

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

    def write_atomic(self, name: str, content: bytes, *, is_durable: bool = True) -> None:
        with storage_errors("write", name):
            self.files.pipe_file(self._name(name), content)

    def create_exclusive(self, name: str, content: bytes, *, is_durable: bool = True) -> bool:
        with storage_errors("create", name):
            for delay_s in (*_CONFLICT_RETRY_DELAYS_S, None):
                try:
                    self.files.pipe_file(self._name(name), content, mode="create")
                    return True
                except FileExistsError:
                    return False
                except OSError as error:
                    status = _s3_status(error)
                    if status == HTTPStatus.PRECONDITION_FAILED:
                        return False
                    if status != HTTPStatus.CONFLICT or delay_s is None:
                        raise
                    time.sleep(delay_s)
        raise AssertionError("the last attempt returns or raises")

    def append_line(self, name: str, line: bytes) -> None:
        """Store each line as an object in a folder with the log's name, because objects cannot be appended to."""
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
            _create_folder(target.parent)
            partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
            partial.write_bytes(self.read_bytes(name))
            os.replace(partial, target)
        return target

    def link_files(self, names: Mapping[str, str]) -> None:
        sources, targets = [self._name(name) for name in names], [self._name(name) for name in names.values()]
        with storage_errors("copy", ", ".join(names)):
            self.files.copy(sources, targets, on_error="ignore")

    def remove(self, name: str) -> None:
        with storage_errors("remove", name):
            if self.files.exists(self._name(name)):
                self.files.rm_file(self._name(name))

    def _new_work_folder(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="promptreel-"))


def _s3_status(error: OSError) -> int | None:
    """The HTTP status of the S3 response that caused an error; None if there is no response.

    s3fs raises FileExistsError only if the response names the failed condition; AWS does, MinIO does not.
    """
    response = getattr(error.__cause__, "response", None) or {}
    status: int | None = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def _open_to_append(target: Path) -> int:
    """Open a log for appending. Creates the folder only on failure, because this runs twice for every model call."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    try:
        return os.open(target, flags, 0o644)
    except FileNotFoundError:
        _create_folder(target.parent)
        return os.open(target, flags, 0o644)


def _create_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:  # a file system that cannot create folders, e.g. /proc
        raise _storage_error("create the folder", folder, error) from error


def _write_temporary(target: Path, content: bytes, is_private: bool, is_durable: bool) -> Path:
    _create_folder(target.parent)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE if is_private else 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if is_durable:
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
    """Convert an OSError in the block to a StorageError that says how to fix it."""
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
