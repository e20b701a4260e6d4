"""The runs of the caller that a query reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy.orm import Session

from promptreel.api.search.scope import runs_in_indexes
from promptreel.api.sql.limits import SqlLimits
from promptreel.api.web.auth import Principal
from promptreel.api.web.errors import ApiError, invalid, not_found
from promptreel.schemas.errors import RunDamaged, RunNotFound
from promptreel.tables.manifest import newest_manifest
from promptreel.tables.part_files import check_parts
from promptreel.tables.reader import CommittedRun
from promptreel.tables.request import read_request
from promptreel.tables.storage import Storage

Given = TypeVar("Given")


@dataclass(frozen=True)
class RunScope:
    """The runs that a query reads, newest first, with what the newest manifest of each names.

    Attributes:
        prompt_ids: the prompt of each run, by run id.
        left_out: older runs beyond the limit.
        damaged: runs that are not read because a file of theirs is missing or torn.
    """

    runs: tuple[CommittedRun, ...]
    prompt_ids: Mapping[str, str]
    left_out: int
    damaged: tuple[RunDamaged, ...] = ()

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
        RunDamaged: a named run is damaged; without `run_ids` it is left out.
        ApiError: as `runs_in_indexes`, and 422 where there are too many.
    """
    named = len(set(run_ids or ()))
    if named > limits.max_runs:
        message = f"run_ids: {named} runs are more than one query reads ({limits.max_runs}); name fewer"
        raise invalid(message, "run_ids")
    found = runs_in_indexes(session, caller, index_ids, run_ids).runs
    records, left_out = found[: limits.max_runs], max(0, len(found) - limits.max_runs)
    committed, damaged = _intact(lambda record: _committed(storage, record.run_id), records)
    _check_files(committed, limits)
    runs, torn = _intact(lambda run: _checked(storage, run), committed)
    if run_ids is not None:
        for error in (*damaged, *torn):
            raise error
    prompt_ids = {record.run_id: record.prompt_id for record in records}
    return RunScope(tuple(runs), prompt_ids, left_out, (*damaged, *torn))


def _intact(
    load: Callable[[Given], CommittedRun | None], given: Iterable[Given]
) -> tuple[list[CommittedRun], list[RunDamaged]]:
    """What `load` gives of each, None left out, and the runs that it finds damaged."""
    runs, damaged = [], []
    for each in given:
        try:
            run = load(each)
        except RunDamaged as error:
            damaged.append(error)
            continue
        if run is not None:
            runs.append(run)
    return runs, damaged


def _checked(storage: Storage, run: CommittedRun) -> CommittedRun:
    check_parts(storage, run.manifest)
    return run


def _committed(storage: Storage, run_id: str) -> CommittedRun | None:
    """The newest committed state of a run; None before the first commit.

    Raises:
        RunDamaged: its request or its manifest is not readable.
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
