"""The folder that a benchmark works in."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def work_folder(keep: Path | None) -> Iterator[Path]:
    """The folder to keep generated media in, or one that is gone afterwards."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="promptreel-bench-") as folder:
        yield Path(folder)


def fresh_folder(parent: Path) -> Path:
    """A new, empty folder."""
    return Path(tempfile.mkdtemp(prefix="data-", dir=parent))
