"""The runs of the caller that a query reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from promptreel.api.search.scope import runs_in_places
from promptreel.api.sql.limits import SqlLimits
from promptreel.api.web.auth import Principal
from promptreel.api.web.errors import ApiError, invalid, not_found
from promptreel.schemas.errors import RunNotFound
from promptreel.tables.manifest import newest_manifest
from promptreel.tables.reader import CommittedRun
from promptreel.tables.request import read_request
from promptreel.tables.storage import Storage


@dataclass(frozen=True)
class RunScope:
    """The runs that a query reads, newest first, with what the newest manifest of each names.

    Attributes:
        prompt_ids: the prompt of each run, by run id.
        left_out: older runs beyond the limit.
    """

    runs: tuple[CommittedRun, ...]
    prompt_ids: Mapping[str, str]
    left_out: int

    @property
    def run_ids(self) -> list[str]:
        return [run.run_id for run in self.runs]


def runs_in_scope(
    session: Session,
    storage: Storage,
    caller: Principal,
    index_ids: Sequence[str | None],
    run_ids: Sequence[str] | None,
    limits: SqlLimits,
) -> RunScope:
    """The runs that a search over the same places looks at: those named, or every finished one with tables.

    Args:
        index_ids: PLAYGROUND stands for the media that lies in no index.

    Raises:
        ApiError: as `runs_in_places`, and 422 where there are too many.
    """
    named = len(set(run_ids or ()))
    if named > limits.max_runs:
        message = f"run_ids: {named} runs are more than one query reads ({limits.max_runs}); name fewer"
        raise invalid(message, "run_ids")
    found = runs_in_places(session, caller, index_ids, run_ids).runs
    records, left_out = found[: limits.max_runs], max(0, len(found) - limits.max_runs)
    committed = (_committed(storage, record.run_id) for record in records)
    runs = tuple(run for run in committed if run is not None)
    _check_files(runs, limits)
    return RunScope(runs, {record.run_id: record.prompt_id for record in records}, left_out)


def _committed(storage: Storage, run_id: str) -> CommittedRun | None:
    """The newest committed state of a run; None before the first commit.

    Raises:
        ApiError: 404 where its folder is gone.
    """
    try:
        manifest = newest_manifest(storage, run_id)
        return None if manifest is None else CommittedRun(run_id, read_request(storage, run_id).prompt, manifest)
    except RunNotFound as error:
        raise not_found("run", run_id) from error


def _check_files(runs: Sequence[CommittedRun], limits: SqlLimits) -> None:
    files = sum(len(run.manifest.parts) for run in runs)
    if files > limits.max_files:
        message = (
            f"The tables of these {len(runs)} runs lie in {files} files; {limits.max_files} are the most of one query."
        )
        raise ApiError(422, "sql_too_large", f"{message} Name fewer runs in run_ids.", {"files": files})
