"""One page of the runs of an account, filtered and sorted by the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from sqlalchemy import Float, Integer, Select, func, select
from sqlalchemy.orm import Session, defer

from promptreel.api.db.clock import now, wire_time
from promptreel.api.db.models import ApiKey, RunRecord
from promptreel.api.runs.body import run_body
from promptreel.api.runs.statuses import FINAL, ITEM_OUTCOMES, MEDIA_TYPES, SEGMENT_OPERATIONS
from promptreel.api.site.scopes import PLAYGROUND_NAME
from promptreel.api.web.auth import Principal
from promptreel.api.web.errors import invalid
from promptreel.pages.moments import shown_duration, shown_moment
from promptreel.schemas.money import Money, format_money

RUNS_PER_PAGE: Final = 50
STATUSES: Final = ("pending", "processing", *sorted(FINAL))
_TOKENS: Final = RunRecord.summary["actual_tokens"]["total"].as_string().cast(Integer)
_COST: Final = RunRecord.summary["actual_cost"]["amount"].as_string().cast(Float)
_ORDERS: Final[Mapping[str, Any]] = {
    "created": RunRecord.created_at,
    "prompt": func.lower(RunRecord.prompt_name),
    "status": RunRecord.status,
    "segments": RunRecord.summary["total_segments"].as_string().cast(Integer),
    "tokens": _TOKENS,
    "cost": _COST,
}


@dataclass(frozen=True, slots=True)
class RunQuery:
    """What the list of runs shows.

    Attributes:
        text: part of the name of the run or of its prompt, ignoring case.
        prompt: id of a prompt.
        index: id of an index, or `playground`.
        sort: a key of `_ORDERS`, with `-` for descending.
        number: of the page, from 1.
    """

    text: str = ""
    status: str = ""
    model: str = ""
    tag: str = ""
    prompt: str = ""
    index: str = ""
    sort: str = "-created"
    number: int = 1

    def url(self, **changes: Any) -> str:
        """Return the URL of this list with other values; filters that are not set are left out."""
        names = {"text": "q", "number": "page"}
        values = {**{name: getattr(self, name) for name in self.__slots__}, **changes}
        default = RunQuery()
        query = {names.get(name, name): value for name, value in values.items() if value != getattr(default, name)}
        return "/runs" + (f"?{urlencode(query)}" if query else "")

    def sort_url(self, key: str) -> str:
        """Return the URL of this list sorted by a column: descending first, and reversed if it is sorted by it."""
        return self.url(sort=key if self.sort == f"-{key}" else f"-{key}", number=1)


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run as a row of the list."""

    run_id: str
    name: str | None
    tags: tuple[str, ...]
    prompt: str
    status: str
    model: str
    items: int
    ended_items: int
    segments: int
    done_segments: int
    failures: int
    tokens: int | None
    cost: str | None
    created_at: str
    duration: str | None
    started_by: str
    is_final: bool


@dataclass(frozen=True, slots=True)
class RunList:
    """One page of runs.

    Attributes:
        models: the models of all runs of the account, for the filter.
    """

    query: RunQuery
    runs: tuple[ListedRun, ...]
    total: int
    pages: int
    models: tuple[str, ...]


def run_list(session: Session, caller: Principal, query: RunQuery) -> RunList:
    """Return one page of the caller's runs.

    Raises:
        ApiError: 422 if the order, the status or the tag is invalid.
    """
    mine = _filtered(caller, query)
    total = session.scalar(select(func.count()).select_from(mine.subquery())) or 0
    key, descending = query.sort.removeprefix("-"), query.sort.startswith("-")
    if key not in _ORDERS:
        raise invalid(f"sort: {key!r} is none of {', '.join(_ORDERS)}", "sort")
    order = _ORDERS[key].desc().nulls_last() if descending else _ORDERS[key].asc().nulls_last()
    wanted = mine.order_by(order, RunRecord.run_id.desc()).offset((query.number - 1) * RUNS_PER_PAGE)
    ids: list[str] = list(session.scalars(wanted.limit(RUNS_PER_PAGE)))
    shown = select(RunRecord).options(defer(RunRecord.prompt)).where(RunRecord.run_id.in_(ids))
    found = {run.run_id: run for run in session.scalars(shown)}
    names = _key_names(session, found.values())
    return RunList(
        query=query,
        runs=tuple(_listed(found[run_id], names) for run_id in ids if run_id in found),
        total=total,
        pages=max(1, -(-total // RUNS_PER_PAGE)),
        models=_models(session, caller),
    )


def _filtered(caller: Principal, query: RunQuery) -> Select[str]:
    mine = select(RunRecord.run_id).where(RunRecord.account_id == caller.account_id)
    if query.status:
        if query.status not in STATUSES:
            raise invalid(f"status: {query.status!r} is none of {', '.join(STATUSES)}", "status")
        mine = mine.where(RunRecord.status == query.status)
    if query.text:
        is_named = RunRecord.name.icontains(query.text, autoescape=True)
        is_prompt = RunRecord.prompt_name.icontains(query.text, autoescape=True)
        mine = mine.where(is_named | is_prompt | (RunRecord.run_id == query.text))
    if query.model:
        mine = mine.where(RunRecord.model == query.model)
    if query.prompt:
        mine = mine.where(RunRecord.prompt_id == query.prompt)
    if query.index:
        is_over = RunRecord.index_id.is_(None) if query.index == PLAYGROUND_NAME else RunRecord.index_id == query.index
        mine = mine.where(is_over)
    if query.tag:
        key, equals, value = query.tag.partition("=")
        if not equals:
            raise invalid(f"tag: {query.tag!r} must have the form key=value", "tag")
        mine = mine.where(RunRecord.tags[key].as_string() == value)
    return mine


def listed_run(session: Session, run: RunRecord) -> ListedRun:
    """Return one run as a row of the list."""
    return _listed(run, _key_names(session, [run]))


def _key_names(session: Session, runs: Iterable[RunRecord]) -> dict[str | None, str]:
    keys = {run.key_id for run in runs}
    rows = session.execute(select(ApiKey.key_id, ApiKey.name).where(ApiKey.key_id.in_(keys)))
    return {row.key_id: row.name for row in rows}


def _models(session: Session, caller: Principal) -> tuple[str, ...]:
    found = session.scalars(select(RunRecord.model).where(RunRecord.account_id == caller.account_id).distinct())
    return tuple(sorted(name for name in found if name))


def _listed(run: RunRecord, key_names: Mapping[str | None, str]) -> ListedRun:
    body = run_body(run)
    cost = body["actual_cost"]
    ended = wire_time(run.completed_at) or wire_time(now())
    return ListedRun(
        run_id=run.run_id,
        name=run.name,
        tags=tuple(f"{key}={value}" for key, value in (run.tags or {}).items()),
        prompt=run.prompt_name if run.prompt_version is None else f"{run.prompt_name} v{run.prompt_version}",
        status=run.status,
        model=body["processing_model"],
        items=sum(body[f"total_{plural}"] for _, plural in MEDIA_TYPES),
        ended_items=sum(body[f"{outcome}_{plural}"] for outcome in ITEM_OUTCOMES for _, plural in MEDIA_TYPES),
        segments=body["total_segments"],
        done_segments=body["completed_segments"],
        failures=sum(body[f"{operation}_failures"] for operation in SEGMENT_OPERATIONS),
        tokens=body["actual_tokens"].get("total"),
        cost=format_money(Money(cost["amount"], cost["currency"], cost["unpriced_calls"])),
        created_at=shown_moment(body["executed_at"]),
        duration=shown_duration(body["started_at"], ended) if body["started_at"] and ended else None,
        started_by=key_names.get(run.key_id, "deleted key" if run.key_id else "command line"),
        is_final=run.status in FINAL,
    )
