"""The scope of a search: the caller's finished runs over the requested indexes, and their fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from promptreel.api.db.models import RunItem, RunRecord, Video
from promptreel.api.runs.statuses import FINAL
from promptreel.api.runs.store import owned_runs, runs_of
from promptreel.api.search.library import Committed
from promptreel.api.uploads.index_rows import check_indexes
from promptreel.api.web.auth import Principal
from promptreel.api.web.errors import MAX_NAMED_IDS, ApiError, invalid
from promptreel.schemas.field_paths import leaf_fields, parse_schema
from promptreel.schemas.prompt import SYSTEM_FIELDS
from promptreel.schemas.settings import RunSettings, settings_from_dict

PLAYGROUND = None  # in index_ids: media without an index


@dataclass(frozen=True)
class SearchScope:
    """The runs that are searched, newest first."""

    runs: tuple[RunRecord, ...]

    def committed(self) -> list[Committed]:
        """Return each run with the number of its newest manifest."""
        return [Committed(run.run_id, run.manifest_number or 0) for run in self.runs]

    def settings(self, run_id: str) -> RunSettings:
        """Return the settings that a run was created with."""
        return settings_from_dict(next(run.settings for run in self.runs if run.run_id == run_id))


def runs_in_indexes(
    session: Session,
    caller: Principal,
    index_ids: Sequence[str | None],
    run_ids: Sequence[str] | None,
    *,
    with_unfinished: bool = False,
) -> SearchScope:
    """Return the named runs, or all finished runs over these indexes.

    Args:
        index_ids: index ids; PLAYGROUND selects media without an index.
        with_unfinished: return named runs that have no manifest yet, too.

    Raises:
        ApiError: 404 if the caller has no such index or run, 409 if a named run has not finished, 422 if it belongs to
            another index.
    """
    check_indexes(session, caller, index_ids)
    if run_ids is None:
        finished = (RunRecord.status.in_(FINAL), RunRecord.manifest_number.is_not(None))
        return SearchScope(tuple(session.scalars(runs_of(caller).where(in_indexes(index_ids), *finished))))
    scope = named_runs(session, caller, run_ids, with_unfinished=with_unfinished)
    check_runs_in(scope.runs, index_ids)
    return scope


def in_indexes(index_ids: Sequence[str | None]) -> ColumnElement[bool]:
    """Return the SQL condition that a run is over one of these indexes; PLAYGROUND selects media without an index."""
    named = RunRecord.index_id.in_([index_id for index_id in index_ids if index_id is not None])
    return or_(named, RunRecord.index_id.is_(None)) if PLAYGROUND in index_ids else named


def check_runs_in(runs: Sequence[RunRecord], index_ids: Sequence[str | None]) -> None:
    """Check that runs belong to these indexes.

    Raises:
        ApiError: 422 if some belong to others; it names them all.
    """
    if outside := [run for run in runs if run.index_id not in index_ids]:
        owners = [f"{run.run_id} belongs to {_owner(run)}" for run in outside[:MAX_NAMED_IDS]]
        raise invalid(f"run_ids: {', '.join(owners)}; search there, or omit these runs", "run_ids")


def _owner(run: RunRecord) -> str:
    return "the playground" if run.index_id is None else f"index {run.index_id}"


def named_runs(
    session: Session, caller: Principal, run_ids: Sequence[str], *, with_unfinished: bool = False
) -> SearchScope:
    """Return the named runs that have tables, newest first.

    Raises:
        ApiError: 404 if a run is not the caller's, 409 if a run has no tables yet.
    """
    runs = owned_runs(session, caller, run_ids)
    for run in runs:
        if run.manifest_number is None and run.status not in FINAL and not with_unfinished:
            raise no_tables_yet(run)
    with_tables = [run for run in runs if run.manifest_number is not None or with_unfinished]
    return SearchScope(tuple(sorted(with_tables, key=lambda run: (run.created_at, run.run_id), reverse=True)))


def no_tables_yet(run: RunRecord) -> ApiError:
    """Return a 409 for a run in progress."""
    message = f"Run {run.run_id} has no tables yet; wait until it finishes."
    return ApiError(409, "run_not_finished", message, {"run_id": run.run_id, "status": run.status})


def deleted_videos(session: Session, scope: SearchScope) -> frozenset[str]:
    """Return the deleted media of these runs."""
    items = (
        select(RunItem.video_id)
        .join(Video, Video.video_id == RunItem.video_id)
        .where(RunItem.run_id.in_([run.run_id for run in scope.runs]), Video.deletion_id.is_not(None))
    )
    return frozenset(session.scalars(items))


def selected_fields(scope: SearchScope, search_fields: Sequence[str] | None) -> frozenset[str] | None:
    """Return the fields to search in canonical form (`tags[]` becomes `tags`); None for all.

    Raises:
        ApiError: 422 if no run has one of the fields; the message lists the known fields.
    """
    if not search_fields or not scope.runs:
        return None
    known = dict.fromkeys(SYSTEM_FIELDS)
    for run in scope.runs:
        known |= dict.fromkeys(_leaf_paths(run.prompt["json_schema"]))
        level: Any = run.prompt.get("video_level")
        known |= dict.fromkeys(_leaf_paths(level["json_schema"]) if level else ())
    selected = [name.strip().removesuffix("[]") for name in search_fields]
    for name, requested in zip(selected, search_fields, strict=True):
        if name not in known:
            raise invalid(
                f"search_fields: unknown field {requested!r}; the fields are {', '.join(sorted(known))}",
                "search_fields",
            )
    return frozenset(selected)


def _leaf_paths(json_schema: dict[str, Any]) -> list[str]:
    return [leaf.path for leaf in leaf_fields(parse_schema(json_schema))]
