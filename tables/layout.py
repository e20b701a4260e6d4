"""File names in the data folder.

runs/<run_id>/
    request.json            the frozen prompt, settings and target
    media.parquet           the expanded target: one row per file, with the only full copy of its URLs
    attempts/<n>.json       an attempt of the runner, with the ffmpeg of its machine; a newer one fences off older ones
    settings/<n>.json       settings that a resume changed; the newest has all changes
    stop                    exists once a stop has been requested
    progress/<worker>.json  current counters of one worker
    batches/<group>.json    a group of calls that is sent as one batch job, stored before the job is created
    batches/<group>/<worker>.jsonl  one line for each call of the group whose answer is in the call records
    calls/<shard>/<worker>.jsonl    one line when a model call starts and one when it ends
    outcomes/<shard>/<worker>.jsonl one line for each plan of an item and each finished operation
    retries/<retry_id>.json which failures of the run are retried
    parts/<table>/part-<shard>-<id>.parquet     immutable; also those of earlier manifests and unfinished attempts
    tables/<table>/         second names of the parts of the newest manifest only, see `promptreel.tables.live_parts`
    manifests/<n>.json      each lists every live part; the newest is current
    interim/<n>.json        the same during the run, before its first manifest; superseded ones are removed
    tables.sql              views over the newest manifest, for any DuckDB
    runner.log
prompts/<name>/<n>.json     version n of a prompt; the folder is a hash of its name
cache/operations/           finished operations, by key
cache/schemas/              schemas that answers were requested for, by instructions and model
cache/claims/               operations that a run computes now, and heartbeats of their owners
cache/analysis/             decoded items: frames, sound, timeline
tmp/                        temporary files

The service also stores:

uploads/<video_id>/         uploaded or fetched media
exports/                    exported files
search/<run_id>/            search indexes, rebuilt if missing
api/                        the secret for signed URLs
promptreel.db               the database, unless it is PostgreSQL

Private files (`is_private`) have mode 0600 on a local disk. Tables, manifests and logs follow the umask, so that analysts in
the same group can read them.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Final

from promptreel.schemas.errors import InvalidInput

RUNS: Final = "runs"
PRIVATE_FILES: Final = (
    "api/*",
    "uploads/*/*",
    f"{RUNS}/*/request.json",
    f"{RUNS}/*/media.parquet",
    f"{RUNS}/*/settings/*",
    "prompts/*/*",
)
_RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


def is_private(name: str) -> bool:
    """Whether only the user that runs promptreel may read a file: the secret for signed URLs, uploaded media, run
    requests and prompts, which contain accounts and settings, and run targets, which contain URLs with signatures and
    passwords."""
    return any(fnmatchcase(name, pattern) for pattern in PRIVATE_FILES)


def is_run_id(name: str) -> bool:
    """Whether a name is a valid run id."""
    return _RUN_ID.fullmatch(name) is not None


def run_folder(run_id: str) -> str:
    """The folder of a run.

    Raises:
        InvalidInput: the id is invalid, e.g. a path out of the runs folder.
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


def settings_folder(run_id: str) -> str:
    return f"{run_folder(run_id)}/settings"


def progress_folder(run_id: str) -> str:
    return f"{run_folder(run_id)}/progress"


def calls_folder(run_id: str) -> str:
    return f"{run_folder(run_id)}/calls"


def batches_folder(run_id: str) -> str:
    return f"{run_folder(run_id)}/batches"


def parts_folder(run_id: str, table: str) -> str:
    return f"{run_folder(run_id)}/parts/{table}"


def table_folder(run_id: str, table: str) -> str:
    return f"{run_folder(run_id)}/tables/{table}"


def retry_file(run_id: str, retry_id: str) -> str:
    return f"{run_folder(run_id)}/retries/{retry_id}.json"


def manifests_folder(run_id: str) -> str:
    return f"{run_folder(run_id)}/manifests"


def interim_folder(run_id: str) -> str:
    return f"{run_folder(run_id)}/interim"


def outcomes_folder(run_id: str) -> str:
    return f"{run_folder(run_id)}/outcomes"


def views_file(run_id: str) -> str:
    return f"{run_folder(run_id)}/tables.sql"


def log_file(run_id: str) -> str:
    return f"{run_folder(run_id)}/runner.log"


def prompt_folder(name_digest: str) -> str:
    return f"prompts/{name_digest[:24]}"


def operation_file(key: str) -> str:
    return f"cache/operations/{key[:2]}/{key}.json"


def asked_schemas_folder(key: str) -> str:
    return f"cache/schemas/{key[:2]}/{key}"


def claim_file(key: str, generation: int) -> str:
    return f"cache/claims/{key[:2]}/{key}.{generation}"


def claim_owner_file(owner: str) -> str:
    return f"cache/claims/owners/{owner}"


def analysis_folder(key: str) -> str:
    return f"cache/analysis/{key[:2]}/{key}"
