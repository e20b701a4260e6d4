"""One page of the differences between two runs, for the API and for pages."""

from __future__ import annotations

from dataclasses import dataclass

from promptreel.api.db.models import RunRecord
from promptreel.api.runs.run_tables import run_tables
from promptreel.api.web.errors import conflict
from promptreel.api.web.pagination import decode_cursor, encode_cursor
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.tables.diff import Change, DiffCursor, DiffSummary, FieldChange, RunDiff
from promptreel.tables.reader import CommittedRun
from promptreel.tables.storage import Storage


@dataclass(frozen=True, slots=True)
class DiffQuery:
    """What a diff lists; see `RunDiff.rows`."""

    include_same: bool = False
    field: str | None = None
    change: Change | None = None


@dataclass(frozen=True, slots=True)
class ChangePage:
    """One page of differences.

    Attributes:
        summary: only on the first page.
        next_cursor: None on the last page.
    """

    changes: tuple[FieldChange, ...]
    summary: DiffSummary | None
    next_cursor: str | None


def diff_page(
    storage: Storage, runs: tuple[RunRecord, RunRecord], query: DiffQuery, cursor: str | None, limit: int
) -> ChangePage:
    """Compare the newest tables of two runs; later pages compare the same tables as the first one.

    Raises:
        ApiError: 409 if a run has no tables yet, 422 if the cursor does not belong to this query.
        InvalidInput: the runs share no media, or the field is unknown.
    """
    scope = ("diff", *(run.run_id for run in runs), query.include_same, query.field, query.change)
    position = decode_cursor(cursor, scope, (int, int, str, int, str, int))
    numbers = position[:2] if position is not None else (None, None)
    before, after = (_committed(storage, run, number) for run, number in zip(runs, numbers, strict=True))
    diff = RunDiff(storage, before, after)
    start = DiffCursor(*position[2:]) if position is not None else None
    rows = diff.rows(
        include_same=query.include_same, field=query.field, change=query.change, after=start, limit=limit + 1
    )
    found = list(rows)
    next_cursor = None
    if len(found) > limit:
        last = found[limit - 1][0]
        manifests = [before.manifest.number, after.manifest.number]
        next_cursor = encode_cursor(
            scope, [*manifests, last.video_id, last.start_us, last.segment_id, last.field_number]
        )
    summary = diff.summary() if position is None else None
    return ChangePage(tuple(change for _, change in found[:limit]), summary, next_cursor)


def _committed(storage: Storage, run: RunRecord, number: int | None) -> CommittedRun:
    tables = run_tables(storage, run.run_id, number)
    if tables is None:
        message = f"Run {run.run_id} has no results yet; wait until it is finished."
        raise conflict("run_not_finished", message, run_id=run.run_id, status=run.status)
    return CommittedRun(run.run_id, prompt_from_dict(run.prompt), tables.manifest)
