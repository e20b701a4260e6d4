"""What a search or a query covers: everything, one index, the playground, or named runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from promptreel.api.db.models import MediaIndex
from promptreel.api.runs.store import owned_runs
from promptreel.api.search.scope import PLAYGROUND
from promptreel.api.web.auth import Principal

PLAYGROUND_NAME: Final = "playground"


@dataclass(frozen=True, slots=True)
class PageScope:
    """A scope as a form selects it.

    Attributes:
        index: id of an index, `playground`, or empty for everything.
        choices: (value, name) of each index and the playground, for the form.
        run_ids: named runs; empty for all finished ones.
        locations: the indexes to read; `PLAYGROUND` for media without one.
    """

    index: str
    choices: tuple[tuple[str, str], ...]
    run_ids: tuple[str, ...]
    locations: tuple[str | None, ...]


def page_scope(session: Session, caller: Principal, index: str, run_ids: Sequence[str]) -> PageScope:
    """Return what a form selects. Named runs decide the indexes.

    Raises:
        ApiError: 404 if the caller has no such run.
    """
    mine = select(MediaIndex.index_id, MediaIndex.name).where(
        MediaIndex.account_id == caller.account_id, MediaIndex.deletion_id.is_(None)
    )
    choices = [(row.index_id, row.name) for row in session.execute(mine.order_by(MediaIndex.name))]
    named = tuple(dict.fromkeys(run_id for run_id in run_ids if run_id))
    everything = (*(index_id for index_id, _ in choices), PLAYGROUND)
    locations: tuple[str | None, ...] = (PLAYGROUND if index == PLAYGROUND_NAME else index,) if index else everything
    if named:
        locations = tuple({run.index_id: None for run in owned_runs(session, caller, named)})
    return PageScope(index, (*choices, (PLAYGROUND_NAME, "media without an index")), named, locations)
