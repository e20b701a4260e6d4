"""Working folders of benchmarks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def work_folder(keep: Path | None) -> Iterator[Path]:
    """Yield the folder `keep`, or a temporary one."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="promptreel-bench-") as folder:
        yield Path(folder)


def fresh_folder(parent: Path) -> Path:
    """Create an empty folder."""
    return Path(tempfile.mkdtemp(prefix="data-", dir=parent))
