"""Select the caller's runs that a query reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy.orm import Session

from promptreel.api.db.models import RunRecord
from promptreel.api.runs.statuses import FINAL
from promptreel.api.search.scope import no_tables_yet, runs_in_indexes
from promptreel.api.sql.limits import SqlLimits
from promptreel.api.web.auth import Principal
from promptreel.api.web.errors import ApiError, invalid, not_found
from promptreel.schemas.errors import RunDamaged, RunNotFound
from promptreel.tables.interim import newest_readable, reading
from promptreel.tables.part_files import check_parts
from promptreel.tables.reader import CommittedRun
from promptreel.tables.request import read_request
from promptreel.tables.storage import Storage

Source = TypeVar("Source")


@dataclass(frozen=True)
class RunScope:
    """The runs that a query reads, newest first, each with its newest manifest.

    Attributes:
        prompt_ids: the prompt of each run, by run id.
        left_out: number of older runs beyond the limit.
        damaged: errors of skipped runs, which have a missing or damaged file.
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
    """Return the named runs, or all finished runs with tables over these indexes, as a search does.

    A named run may be in progress; its tables contain what is finished so far.

    Args:
        index_ids: index ids; PLAYGROUND selects media without an index.

    Raises:
        RunDamaged: a named run is damaged; without `run_ids` it is skipped.
        StateExpired: a newer state of a run in progress has replaced the one that was found.
        ApiError: see `runs_in_indexes`; 409 if a named run has no tables yet; 422 if `run_ids` or the part files exceed
            a limit.
    """
    named = len(set(run_ids or ()))
    if named > limits.max_runs:
        message = f"run_ids: {named} runs exceed the limit of {limits.max_runs} per query; select fewer"
        raise invalid(message, "run_ids")
    found = runs_in_indexes(session, caller, index_ids, run_ids, with_unfinished=True).runs
    records, left_out = found[: limits.max_runs], max(0, len(found) - limits.max_runs)
    committed, damaged = _intact(lambda record: _committed(storage, record), records)
    _check_files(committed, limits)
    runs, damaged_parts = _intact(lambda run: _checked(storage, run), committed)
    if run_ids is not None:
        for error in (*damaged, *damaged_parts):
            raise error
    prompt_ids = {record.run_id: record.prompt_id for record in records}
    return RunScope(tuple(runs), prompt_ids, left_out, (*damaged, *damaged_parts))


def _intact(
    load: Callable[[Source], CommittedRun | None], sources: Iterable[Source]
) -> tuple[list[CommittedRun], list[RunDamaged]]:
    """Load runs; return (loaded runs without None, errors of damaged runs)."""
    runs, damaged = [], []
    for source in sources:
        try:
            run = load(source)
        except RunDamaged as error:
            damaged.append(error)
            continue
        if run is not None:
            runs.append(run)
    return runs, damaged


def _checked(storage: Storage, run: CommittedRun) -> CommittedRun:
    with reading(run.manifest):
        check_parts(storage, run.manifest)
    return run


def _committed(storage: Storage, record: RunRecord) -> CommittedRun | None:
    """Return the newest readable state of a run; None if it has ended without tables.

    Raises:
        RunDamaged: its request or its manifest is not readable.
        ApiError: 404 if its folder does not exist, 409 if the run is in progress and has no tables yet.
    """
    run_id = record.run_id
    try:
        manifest = newest_readable(storage, run_id)
        if manifest is not None:
            return CommittedRun.of(read_request(storage, run_id), manifest)
    except RunNotFound as error:
        raise not_found("run", run_id) from error
    if record.status not in FINAL:
        raise no_tables_yet(record)
    return None


def _check_files(runs: Sequence[CommittedRun], limits: SqlLimits) -> None:
    files = sum(len(run.manifest.parts) for run in runs)
    if files > limits.max_files:
        message = f"The tables of these {len(runs)} runs have {files} files; the limit is {limits.max_files} per query."
        raise ApiError(422, "sql_too_large", f"{message} Select fewer runs with run_ids.", {"files": files})
