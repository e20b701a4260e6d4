"""`promptreel.open_run`; imports what reads tables only when it is called."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from promptreel.tables.opened_run import OpenedRun


def open_run(run_id: str, data_dir: str | os.PathLike[str] | None = None) -> OpenedRun:
    """Open the tables of a run in a data folder, without a service.

    Args:
        data_dir: data folder, local or an fsspec URL. [default: promptreel-data, or PROMPTREEL_DATA]

    Raises:
        ImportError: promptreel is installed without the extra `run`.
        RunNotFound: the run does not exist.
        RunDamaged: a file of the run is missing or damaged.
        RunError: the run has not committed anything yet.
    """
    try:
        from promptreel.cli.options import DATA_DIR_VARIABLE, DEFAULT_DATA_DIR
        from promptreel.tables.opened_run import OpenedRun
        from promptreel.tables.storage import open_storage
    except ModuleNotFoundError as error:
        raise ImportError(
            f"promptreel.open_run needs the package {error.name}, which is not installed; "
            "run: pip install 'promptreel[run]'"
        ) from error
    folder = data_dir if data_dir is not None else os.environ.get(DATA_DIR_VARIABLE, DEFAULT_DATA_DIR)
    return OpenedRun(open_storage(os.fspath(folder)), run_id)
