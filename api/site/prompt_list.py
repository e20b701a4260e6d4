"""One page of the prompts of an account, filtered by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from promptreel.api.db.clock import required_time
from promptreel.api.db.models import PromptRecord, PromptVersionRecord, RunRecord
from promptreel.api.runs.prompt_rows import version_of
from promptreel.api.runs.prompt_versions import known_versions
from promptreel.api.site.links import prompt_path
from promptreel.api.web.auth import Principal
from promptreel.pages.moments import shown_moment
from promptreel.schemas.field_paths import leaf_fields, parse_schema

PROMPTS_PER_PAGE: Final = 50
MAX_VERSIONS: Final = 100  # on the page of a prompt


@dataclass(frozen=True, slots=True)
class PromptQuery:
    """What the list of prompts shows.

    Attributes:
        text: part of the name, ignoring case.
        number: of the page, from 1.
    """

    text: str = ""
    number: int = 1

    def url(self, **changes: Any) -> str:
        """Return the URL of this list with other values."""
        query = {"q": self.text, "page": changes.get("number", self.number)}
        kept = {name: value for name, value in query.items() if value not in ("", 1)}
        return "/prompts" + (f"?{urlencode(kept)}" if kept else "")


@dataclass(frozen=True, slots=True)
class ListedPrompt:
    """A prompt as a row of the list.

    Attributes:
        fields: leaf fields of its schema.
    """

    prompt_id: str
    name: str
    description: str
    version: int | None
    fields: int
    has_synthesis: bool
    is_active: bool
    runs: int
    created_at: str


@dataclass(frozen=True, slots=True)
class PromptRows:
    """One page of prompts."""

    query: PromptQuery
    prompts: tuple[ListedPrompt, ...]
    total: int
    pages: int


@dataclass(frozen=True, slots=True)
class VersionLink:
    """A version of a prompt's name, and where it is shown."""

    number: int
    created_at: str
    url: str
    is_shown: bool


def prompt_list(session: Session, caller: Principal, query: PromptQuery) -> PromptRows:
    """Return one page of the caller's prompts, newest first."""
    mine = select(PromptRecord).where(PromptRecord.account_id == caller.account_id)
    if query.text:
        name = PromptRecord.definition["name"].as_string()
        mine = mine.where(name.icontains(query.text, autoescape=True) | (PromptRecord.prompt_id == query.text))
    total = session.scalar(select(func.count()).select_from(mine.subquery())) or 0
    newest = mine.order_by(PromptRecord.created_at.desc(), PromptRecord.prompt_id.desc())
    records = session.scalars(newest.offset((query.number - 1) * PROMPTS_PER_PAGE).limit(PROMPTS_PER_PAGE)).all()
    versions = known_versions(session, caller.account_id, {record.definition["name"] for record in records})
    runs = _run_counts(session, caller, [record.prompt_id for record in records])
    rows = tuple(
        ListedPrompt(
            prompt_id=record.prompt_id,
            name=record.definition["name"],
            description=record.definition["description"],
            version=version_of(record, versions),
            fields=len(leaf_fields(parse_schema(record.definition["json_schema"]))),
            has_synthesis=record.definition["video_level"] is not None,
            is_active=record.is_active,
            runs=runs.get(record.prompt_id, 0),
            created_at=shown_moment(required_time(record.created_at)),
        )
        for record in records
    )
    return PromptRows(query, rows, total, max(1, -(-total // PROMPTS_PER_PAGE)))


def prompt_versions(
    session: Session, caller: Principal, prompt_id: str, name: str, shown: int | None
) -> tuple[VersionLink, ...]:
    """Return the newest versions of a prompt's name as links to the page of the prompt.

    Args:
        shown: the version on this page.
    """
    mine = select(PromptVersionRecord.version, PromptVersionRecord.created_at).where(
        PromptVersionRecord.account_id == caller.account_id, PromptVersionRecord.name == name
    )
    rows = session.execute(mine.order_by(PromptVersionRecord.version.desc()).limit(MAX_VERSIONS))
    path = prompt_path(prompt_id)
    return tuple(
        VersionLink(
            row.version,
            shown_moment(required_time(row.created_at)),
            f"{path}?version={row.version}",
            row.version == shown,
        )
        for row in rows
    )


def _run_counts(session: Session, caller: Principal, prompt_ids: Sequence[str]) -> dict[str, int]:
    counts = select(RunRecord.prompt_id, func.count()).where(
        RunRecord.account_id == caller.account_id, RunRecord.prompt_id.in_(prompt_ids)
    )
    return {row[0]: row[1] for row in session.execute(counts.group_by(RunRecord.prompt_id))}
