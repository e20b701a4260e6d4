"""Names inside the data folder.

runs/<run_id>/
    request.json            the frozen prompt, settings and target
    media.parquet           the target, expanded: one row for each file
    attempts/<n>.json       a start of the runner, with the ffmpeg of its machine; the number fences older ones off
    stop                    present once the run was asked to stop
    progress/<worker>.json  counters of one worker, newest state only
    calls/<shard>/<worker>.jsonl    a line when a model call begins and one when it ends
    retries/<retry_id>.json which failures of the run are tried again
    tables/<table>/*.parquet
    manifests/<n>.json      each names every live part; the newest one is the truth
    tables.sql              views over the newest manifest, for any DuckDB
    runner.log
cache/operations/           finished operations, by key
cache/analysis/             decoded items: frames, sound, timeline
tmp/                        files under construction

A service keeps more beside them, under names of its own:

uploads/<video_id>/         media that was uploaded or fetched
exports/                    exports that are written
search/<run_id>/            search indexes, made anew where they are missing
api/                        the secret of signed addresses
promptreel.db               its database, unless that is PostgreSQL

Private files (`is_private`) have mode 0600 on a local disk. Tables, manifests and logs follow the umask, so that analysts of
the same group can read them.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Final

from promptreel.schemas.errors import InvalidInput

RUNS: Final = "runs"
PRIVATE_FILES: Final = ("api/*", "uploads/*/*", f"{RUNS}/*/request.json")
_RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


def is_private(name: str) -> bool:
    """Whether only the user that runs promptreel may read a file: the secret of signed addresses, uploaded media, and the
    requests of runs, which name accounts, addresses and settings."""
    return any(fnmatchcase(name, pattern) for pattern in PRIVATE_FILES)


def is_run_id(name: str) -> bool:
    """Whether a run may have that name."""
    return _RUN_ID.fullmatch(name) is not None


def run_folder(run_id: str) -> str:
    """The folder of a run.

    Raises:
        InvalidInput: the id could leave the runs folder.
    """
    if not is_run_id(run_id):
        raise InvalidInput(f"run id {run_id!r}: use letters, digits, '_' and '-' only")
    return f"{RUNS}/{run_id}"


def request_file(run_id: str) -> str:
    return f"{run_folder(run_id)}/request.json"


def media_file(run_id: str) -> str:
    return f"{run_folder(run_id)}/media.parquet"


def stop_file(run_id: str) -> str:
    return f"{run_folder(run_id)}/stop"


def attempts_folder(run_id: str) -> str:
    return f"{run_folder(run_id)}/attempts"


def progress_folder(run_id: str) -> str:
    return f"{run_folder(run_id)}/progress"


def calls_folder(run_id: str) -> str:
    return f"{run_folder(run_id)}/calls"


def table_folder(run_id: str, table: str) -> str:
    return f"{run_folder(run_id)}/tables/{table}"


def retry_file(run_id: str, retry_id: str) -> str:
    return f"{run_folder(run_id)}/retries/{retry_id}.json"


def manifests_folder(run_id: str) -> str:
    return f"{run_folder(run_id)}/manifests"


def views_file(run_id: str) -> str:
    return f"{run_folder(run_id)}/tables.sql"


def log_file(run_id: str) -> str:
    return f"{run_folder(run_id)}/runner.log"


def operation_file(key: str) -> str:
    return f"cache/operations/{key[:2]}/{key}.json"


def analysis_folder(key: str) -> str:
    return f"cache/analysis/{key[:2]}/{key}"
