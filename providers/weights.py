"""Find the weights of local models. Only an explicit pull downloads anything."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MODELS_VARIABLE: Final = "PROMPTREEL_MODELS"


@dataclass(frozen=True, slots=True)
class Weights:
    """One model's weights, available or not.

    Attributes:
        model: the model as written in settings, e.g. "base".
        path: file or folder on this machine; None if they are not available.
        source: where they were found: "path", "models folder", or the name of the package that includes them.
        reason: why they are not available; empty if they are.
        fix: the command or setting that makes them available; empty if they are.
    """

    model: str
    path: Path | None
    source: str = ""
    reason: str = ""
    fix: str = ""

    @property
    def available(self) -> bool:
        return self.path is not None

    @property
    def size_bytes(self) -> int:
        """Bytes on disk; 0 if not available."""
        if self.path is None:
            return 0
        if self.path.is_file():
            return self.path.stat().st_size
        return sum(part.stat().st_size for part in self.path.rglob("*") if part.is_file())


def as_path(name: str) -> Path | None:
    """Return the path that a model's name is, or None for a public name.

    A bare name is public even if the working directory has a file or folder of that name; a path contains a separator or
    starts with "." or "~". A public name may contain one too ("organisation/model"), so the path may not exist.
    """
    return Path(name).expanduser() if os.sep in name or name.startswith((".", "~")) else None


def is_explicit_path(path: Path, name: str) -> bool:
    """Return whether a path cannot be a public name: it is absolute, or starts with "." or "~"."""
    return path.is_absolute() or name.startswith((".", "~"))


def path_hint(name: str) -> str:
    """Return how to name a file or folder of the working directory that has a public name; empty if it has none."""
    if as_path(name) is not None or not os.path.exists(name):
        return ""
    return f"; for the {'folder' if os.path.isdir(name) else 'file'} {name} write ./{name}"


def models_folder() -> str | None:
    """Return the folder for pulled models; None means the default cache of the model hub's library."""
    folder = os.environ.get(MODELS_VARIABLE)
    return os.path.expanduser(folder) if folder else None


def is_installed(package: str) -> bool:
    """Return whether a Python package can be imported, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


@functools.cache  # the lookup reads the disk
def package_version(distribution: str) -> str:
    """Return the version of an installed distribution; empty if it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def file_identity(path: Path) -> str:
    """Return 12 hex digits of a file's SHA-256, the name of weights without a public name."""
    status = path.stat()
    return _file_identity(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _file_identity(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
