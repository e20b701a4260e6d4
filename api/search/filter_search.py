"""Filter search: select the runs, find one page of segments that meet the conditions, and build the response.

Runs are searched newest first. The cursor carries the manifest number of each run as of the first page, so that commits
between two pages do not change the result. Within a run, hits are ordered by part file. Part files are read in batches of
growing size, so that a page that fills early reads little.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from promptreel.api.db.models import RunItem, RunRecord, Video
from promptreel.api.runs.run_tables import RunTables, run_tables
from promptreel.api.runs.store import owned_runs
from promptreel.api.runs.thumbnails import Thumbnails, frames_of_segments
from promptreel.api.search.filter_engine import FilterEngine, Found, RowPosition, ScopedRun, table_files
from promptreel.api.search.filter_sql import (
    FilterField,
    FilterMismatch,
    compile_filter,
    filter_fields,
    find_field,
)
from promptreel.api.search.hits import NO_MEDIA, NO_PREVIEW, PREVIEW_CHARS, source_fields
from promptreel.api.search.ranking import Warnings
from promptreel.api.search.scope import check_runs_in, in_indexes
from promptreel.api.uploads.index_rows import check_indexes
from promptreel.api.uploads.media_rows import owned_videos, videos_in
from promptreel.api.web.auth import Principal
from promptreel.api.web.damage import report_skipped
from promptreel.api.web.errors import ApiError, invalid
from promptreel.api.web.pagination import decode_cursor, encode_cursor, page_body
from promptreel.schemas.errors import RunDamaged
from promptreel.schemas.wire.filter import FilterSearch, conditions_of
from promptreel.tables.layout import table_folder
from promptreel.tables.pages import ItemRows
from promptreel.tables.part_files import damage_in
from promptreel.tables.storage import Storage

SEARCHABLE: Final = ("completed", "completed_with_failures")  # without run_ids; named runs may have another status
_MAX_RUNS: Final = 500
_HIT_COLUMNS: Final = (
    "video_id",
    "segment_id",
    "start_us",
    "end_us",
    "start_time",
    "end_time",
    "media_type",
    "metadata",
    "metadata_text",
)


def filter_page(
    session: Session,
    engine: FilterEngine,
    caller: Principal,
    index_ids: Sequence[str | None],
    body: FilterSearch,
    warnings: Warnings,
    thumbnails: Thumbnails,
) -> dict[str, Any]:
    """Return one page of the segments that meet all conditions.

    Args:
        index_ids: the indexes to search; PLAYGROUND is media without one.
        warnings: receives a warning for each damaged run that is skipped.

    Raises:
        RunDamaged: a run named by the request or by the cursor is damaged.
        ApiError: 404 for an index or run that is not the caller's, 422 for a field that no prompt has or at the time limit
            of the engine.
    """
    deadline = time.monotonic() + engine.timeout_s
    storage = thumbnails.storage
    filters = body.model_dump(mode="json", by_alias=True, exclude={"cursor", "page_size"})
    scope = ("filter", caller.account_id, list(index_ids), filters)
    cursor = decode_cursor(body.cursor, scope, (list, int, int, int))
    if cursor is not None and min(cursor[1:]) < 0:
        raise _invalid_cursor()
    check_indexes(session, caller, index_ids)
    runs = (
        _select_runs(session, storage, caller, index_ids, body.run_ids, warnings)
        if cursor is None
        else _runs_of_cursor(session, storage, caller, index_ids, body.run_ids, cursor[0])
    )
    nodes = [*(body.conditions or ()), *(body.groups or ())]
    matching = _matching_runs(runs, nodes)
    at, after = (cursor[1], RowPosition(cursor[2], cursor[3])) if cursor is not None else (0, None)
    found: list[tuple[int, Found]] = []
    for number in range(at, len(runs)):
        if number in matching and len(found) <= body.page_size:
            position = after if number == at else None
            limit = body.page_size + 1 - len(found)
            try:
                hits = engine.find(runs[number], nodes, position, limit, deadline)
            except RunDamaged as error:
                if body.run_ids is not None:
                    raise
                warnings.add(report_skipped(error))
                continue
            found += [(number, hit) for hit in hits]
    shown = found[: body.page_size]
    next_cursor = None
    if len(found) > body.page_size:
        last_run, last = shown[-1]
        pins = [[scoped.run.run_id, scoped.tables.manifest.number] for scoped in runs]
        next_cursor = encode_cursor(scope, [pins, last_run, last.position.part, last.position.row])
    fields = sorted({condition.field for condition in body.conditions or ()})
    bodies = _hits(session, caller, runs, shown, fields, thumbnails)
    page = page_body(bodies, body.page_size, next_cursor)
    return {"results": bodies, "next_page_token": next_cursor, "total_shown": len(bodies), **page}


def _select_runs(
    session: Session,
    storage: Storage,
    caller: Principal,
    index_ids: Sequence[str | None],
    run_ids: list[str] | None,
    warnings: Warnings,
) -> list[ScopedRun]:
    """Select the runs for a first page: the named ones, or the newest finished run of each prompt over each item."""
    if run_ids is not None:
        runs = list(_owned_runs_in(session, caller, index_ids, run_ids))
    else:
        mine = (RunRecord.account_id == caller.account_id, in_indexes(index_ids), RunRecord.status.in_(SEARCHABLE))
        runs = list(session.scalars(select(RunRecord).where(*mine)))
    runs.sort(key=lambda run: (run.created_at, run.run_id), reverse=True)

    def tables_of(run: RunRecord) -> RunTables | None:
        try:
            return run_tables(storage, run.run_id)
        except RunDamaged as error:
            if run_ids is not None:
                raise
            warnings.add(report_skipped(error))
            return None

    pinned = ((run, tables_of(run)) for run in runs)
    scoped = _scoped(session, caller, index_ids, pinned, newest_only=run_ids is None)
    found = list(itertools.islice((part for part in scoped if part.items != frozenset()), _MAX_RUNS + 1))
    if len(found) > _MAX_RUNS:
        raise invalid(f"run_ids: more than {_MAX_RUNS} runs match; select runs with run_ids", "run_ids")
    return found


def _runs_of_cursor(
    session: Session,
    storage: Storage,
    caller: Principal,
    index_ids: Sequence[str | None],
    run_ids: list[str] | None,
    pins: list[Any],
) -> list[ScopedRun]:
    """Return the runs that a cursor names, with their manifests. A cursor is validated like any other input."""
    pinned = []
    for pin in pins[:_MAX_RUNS]:
        if not isinstance(pin, list) or [type(value) for value in pin] != [str, int]:
            raise _invalid_cursor()
        (run,) = _owned_runs_in(session, caller, index_ids, [pin[0]])
        pinned.append((run, run_tables(storage, run.run_id, pin[1])))
    return list(_scoped(session, caller, index_ids, pinned, newest_only=run_ids is None))


def _invalid_cursor() -> ApiError:
    return ApiError(422, "validation_failed", "cursor: is not valid for this list; start without a cursor")


def _owned_runs_in(
    session: Session, caller: Principal, index_ids: Sequence[str | None], run_ids: Sequence[str]
) -> list[RunRecord]:
    runs = owned_runs(session, caller, run_ids)
    check_runs_in(runs, index_ids)
    return runs


def _scoped(
    session: Session,
    caller: Principal,
    index_ids: Sequence[str | None],
    pinned: Iterable[tuple[RunRecord, RunTables | None]],
    newest_only: bool,
) -> Iterator[ScopedRun]:
    """Yield each run with the items to search.

    Deleted items are excluded and, with `newest_only`, items with a newer run of the same prompt.
    """
    total = sum(session.scalar(_count(caller, index_id)) or 0 for index_id in index_ids) if newest_only else 0
    covered: dict[str, set[str]] = {}
    for run, tables in pinned:
        if tables is None:
            continue
        seen = covered.setdefault(run.prompt_id, set())
        if newest_only and len(seen) >= total:
            yield ScopedRun(run, tables, frozenset())
            continue
        of_run = select(RunItem.video_id).where(RunItem.run_id == run.run_id)
        all_items = set(session.scalars(of_run))
        live = of_run.join(Video, Video.video_id == RunItem.video_id)
        items = set(session.scalars(live.where(Video.account_id == caller.account_id, Video.deletion_id.is_(None))))
        if newest_only:
            items -= seen
            seen |= items
        yield ScopedRun(run, tables, None if items == all_items else frozenset(items))


def _count(caller: Principal, index_id: str | None) -> Select[int]:
    return select(func.count()).select_from(videos_in(caller, index_id).subquery())


def _matching_runs(runs: Sequence[ScopedRun], nodes: Sequence[Any]) -> set[int]:
    """Return the indices of the runs whose prompts have all fields of the conditions, with compatible types.

    Raises:
        ApiError: 422 if no run's prompt has them.
    """
    matching: set[int] = set()
    problems: dict[str, None] = {}
    for number, scoped in enumerate(runs):
        try:
            compile_filter(nodes, filter_fields(scoped.prompt))
            matching.add(number)
        except FilterMismatch as error:
            problems.setdefault(str(error))
    if runs and not matching:
        conditions = list(conditions_of(list(nodes)))
        raise invalid(_mismatch_message(runs, conditions, next(iter(problems))), "conditions")
    return matching


def _mismatch_message(runs: Sequence[ScopedRun], conditions: Sequence[Any], problem: str) -> str:
    """Explain why no run matches: an unknown field with the list of known ones, or else the first mismatch."""
    known: dict[str, FilterField] = {}
    for scoped in runs:
        known |= {path: field for path, field in filter_fields(scoped.prompt).items() if path not in known}
    for condition in conditions:
        try:
            find_field(known, condition.field)
        except FilterMismatch as error:
            return str(error)
    return problem


def _hits(
    session: Session,
    caller: Principal,
    runs: Sequence[ScopedRun],
    found: Sequence[tuple[int, Found]],
    fields: list[str],
    thumbnails: Thumbnails,
) -> list[dict[str, Any]]:
    videos = owned_videos(session, caller, list({hit.video_id for _, hit in found}))
    shown = []
    groups = itertools.groupby(found, key=lambda pair: (pair[0], pair[1].position.part, pair[1].video_id))
    for (number, part, video_id), group in groups:
        hits = [hit for _, hit in group]
        rows = _result_rows(runs[number], part, video_id, hits)
        if video_id in videos:  # otherwise it was deleted after the search
            run, video = runs[number].run, videos[video_id]
            in_order = sorted((rows[hit.segment_id] for hit in hits), key=lambda row: row["start_us"])
            frames = frames_of_segments(runs[number].tables, video_id, in_order)
            for hit in hits:
                thumbnail = thumbnails.fields(run.run_id, video_id, frames.get(hit.segment_id))
                shown.append({**hit_body(run, video, rows[hit.segment_id], fields), **thumbnail})
    return shown


def _result_rows(scoped: ScopedRun, part: int, video_id: str, hits: Sequence[Found]) -> dict[str, dict[str, Any]]:
    paths = [Path(file) for file in table_files(scoped.tables.storage, scoped.tables.manifest, "results", [part])]
    starts = [hit.start_us for hit in hits]
    run_id = scoped.run.run_id
    with damage_in(run_id, table_folder(run_id, "results")):
        rows = ItemRows(paths).of(video_id, first_us=min(starts), last_us=max(starts), columns=_HIT_COLUMNS)
        return {row["segment_id"]: row for row in rows}


def hit_body(run: RunRecord, video: Video, row: dict[str, Any], fields: list[str]) -> dict[str, Any]:
    """Return a matching segment as a SearchResult without scores.

    Args:
        row: its row of the results table.
        fields: paths to report as matched.
    """
    metadata = json.loads(row["metadata"])
    return {
        "result_type": "segment",
        "result_id": f"segment:{row['segment_id']}:{run.run_id}",
        "video_id": video.video_id,
        "video_uri": video.video_uri,
        "video_name": video.title,
        "segment_id": row["segment_id"],
        "start_time": row["start_time"],
        "end_time": row["end_time"],
        **NO_PREVIEW,
        "text_content": row["metadata_text"],
        "content_preview": row["metadata_text"][:PREVIEW_CHARS],
        "metadata_text": row["metadata_text"],
        **dict.fromkeys(("similarity_score", "reranked_score", "field_scores", "field_instance_scores")),
        **NO_MEDIA,
        "media_type": row["media_type"],
        "metadata": metadata,
        "extracted_metadata": metadata,
        "matched_field_paths": fields,
        "matched_field_instances": None,
        **source_fields(run, video),
    }
