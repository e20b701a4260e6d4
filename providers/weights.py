"""Where the weights of local models lie. Looking never downloads; only a pull that a user asked for does."""

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
    """What is known of one model's weights.

    Attributes:
        model: the model as it is written in settings, e.g. "base".
        path: file or folder on this machine; None where they cannot be had.
        source: where they were found: "path", "models folder", or the name of the package that carries them.
        fix: the command or setting that makes them available; empty where they are.
        reason: why they are not available; empty where they are.
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
        """Bytes on disk; 0 where there are none."""
        if self.path is None:
            return 0
        if self.path.is_file():
            return self.path.stat().st_size
        return sum(part.stat().st_size for part in self.path.rglob("*") if part.is_file())


def models_folder() -> str | None:
    """The folder for pulled models; None is the model hub library's own cache."""
    named = os.environ.get(MODELS_VARIABLE)
    return os.path.expanduser(named) if named else None


def is_installed(package: str) -> bool:
    """Whether a Python package can be imported; imports nothing."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


@functools.cache  # it is looked for on the disk
def package_version(distribution: str) -> str:
    """The version of an installed distribution; empty where there is none."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def file_identity(path: Path) -> str:
    """12 hex digits of the SHA-256 of a file: names weights that have no public name."""
    status = path.stat()
    return _file_identity(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _file_identity(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
