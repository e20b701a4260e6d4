"""Restrict the modes of private files that an earlier version or another tool left readable by others."""

from __future__ import annotations

import logging
from pathlib import Path

from promptreel.tables import layout
from promptreel.tables.storage import PRIVATE_MODE, LocalStorage, Storage

_log = logging.getLogger(__name__)


def restrict_private_files(storage: Storage) -> int:
    """Set mode 0600 on every private file (`layout.is_private`) of a local data folder; return how many changed."""
    if not isinstance(storage, LocalStorage):
        return 0
    return sum(restrict(path) for pattern in layout.PRIVATE_FILES for path in storage.path.glob(pattern))


def restrict(path: Path) -> bool:
    """Set mode 0600 on a file that others can access; return whether the mode changed."""
    try:
        if not path.is_file() or not path.stat().st_mode & 0o077:
            return False
        path.chmod(PRIVATE_MODE)
    except FileNotFoundError:  # removed in the meantime
        return False
    except OSError as error:
        _log.warning(
            "%s is readable by others, and its mode cannot be changed (%s); set it to 0600", path, error.strerror
        )
        return False
    _log.warning("%s was readable by others; changed its mode to 0600", path)
    return True
