"""The pages of prompts: the list, one prompt with its versions and runs, and the form that creates and changes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from promptreel.api.db.clock import required_time
from promptreel.api.db.models import PromptRecord, PromptVersionRecord
from promptreel.api.runs.prompt_rows import add_prompt, change_prompt, owned_prompt, version_of
from promptreel.api.runs.prompt_versions import known_versions
from promptreel.api.site.form_problems import FormProblem, problems_of
from promptreel.api.site.links import prompt_path
from promptreel.api.site.prompt_form import (
    RESOLUTIONS,
    PromptForm,
    entered_prompt,
    form_of,
    indented,
    read_prompt,
)
from promptreel.api.site.prompt_list import PromptQuery, VersionLink, prompt_list, prompt_versions
from promptreel.api.site.run_list import RunList, RunQuery, run_list
from promptreel.api.web.auth import Principal, Reader, Writer
from promptreel.api.web.dependencies import Db
from promptreel.api.web.errors import ApiError, not_found
from promptreel.api.web.page import page, see_other
from promptreel.pages.moments import shown_moment

router = APIRouter()

_MAX_RUNS: Final = 10

Version = Annotated[int | None, Query(ge=1, le=1_000_000_000)]
Entered = Annotated[PromptForm, Depends(entered_prompt)]


@dataclass(frozen=True, slots=True)
class ShownPrompt:
    """One version of a prompt.

    Attributes:
        version: None if the prompt is older than version numbers.
        is_newest: whether the version is the one that runs of the prompt use.
        media: (name, value) of what the prompt needs of the media.
        runs: the newest ones.
    """

    prompt_id: str
    definition: dict[str, Any]
    version: int | None
    is_newest: bool
    is_active: bool
    created_at: str
    json_schema: str
    synthesis_schema: str | None
    media: tuple[tuple[str, str], ...]
    versions: tuple[VersionLink, ...]
    runs: RunList


@router.get("/prompts")
def prompts_page(
    request: Request,
    caller: Reader,
    database: Db,
    q: Annotated[str, Query(max_length=255)] = "",
    number: Annotated[int, Query(alias="page", ge=1, le=1_000_000)] = 1,
) -> Response:
    """Show the prompts of the account, newest first."""
    with database.read() as session:
        found = prompt_list(session, caller, PromptQuery(q, number))
    return page(request, "prompts.html", found=found, can_write=caller.has_scope("write"))


@router.get("/prompts/new")
def new_prompt_page(request: Request, caller: Writer) -> Response:
    """Show the form that creates a prompt."""
    return _form_page(request, None, PromptForm(), ())


@router.post("/prompts/new")
def create_prompt(request: Request, caller: Writer, database: Db, form: Entered) -> Response:
    """Create a prompt."""
    prompt, problems = read_prompt(form)
    if prompt is None:
        return _form_page(request, None, form, problems)
    with database.write() as session:
        created = add_prompt(session, caller, prompt)
    return see_other(prompt_path(created["prompt_id"]))


@router.get("/prompts/{prompt_id}")
def prompt_page(prompt_id: str, request: Request, caller: Reader, database: Db, version: Version = None) -> Response:
    """Show a prompt, or an earlier version of it, with its runs."""
    with database.read() as session:
        prompt = _shown(session, caller, prompt_id, version)
    return page(request, "prompt.html", prompt=prompt, max_runs=_MAX_RUNS, can_write=caller.has_scope("write"))


@router.get("/prompts/{prompt_id}/edit")
def edit_prompt_page(
    prompt_id: str, request: Request, caller: Writer, database: Db, version: Version = None
) -> Response:
    """Show the form that creates a new version of a prompt, filled with the newest or an earlier one."""
    with database.read() as session:
        definition, _ = _definition(session, caller, owned_prompt(session, caller, prompt_id), version)
    return _form_page(request, prompt_id, form_of(definition), ())


@router.post("/prompts/{prompt_id}/edit")
def change(prompt_id: str, request: Request, caller: Writer, database: Db, form: Entered) -> Response:
    """Create a new version of a prompt. Its runs are not affected."""
    prompt, problems = read_prompt(form)
    if prompt is not None:
        changes = {**prompt.to_dict(), "media": prompt.media.to_dict(), "clear_video_level": prompt.video_level is None}
        try:
            with database.write() as session:
                change_prompt(session, caller, prompt_id, changes)
            return see_other(prompt_path(prompt_id))
        except ApiError as error:
            if error.status != 422:
                raise
            problems = problems_of(error)
    with database.read() as session:
        owned_prompt(session, caller, prompt_id)
    return _form_page(request, prompt_id, form, problems)


def _form_page(
    request: Request, prompt_id: str | None, form: PromptForm, problems: tuple[FormProblem, ...]
) -> Response:
    return page(
        request,
        "prompt_form.html",
        status=422 if problems else 200,
        prompt_id=prompt_id,
        form=form,
        problems=problems,
        resolutions=RESOLUTIONS,
    )


def _shown(session: Session, caller: Principal, prompt_id: str, version: int | None) -> ShownPrompt:
    record = owned_prompt(session, caller, prompt_id)
    definition, shown = _definition(session, caller, record, version)
    newest = _version(session, caller, record)
    level, media = definition["video_level"], definition.get("media") or {}
    needs = [("pictures only", "yes")] if media.get("pictures_only") else []
    needs += [
        (name.replace("_", " "), str(media[name])) for name in ("frames_per_segment", "resolution") if media.get(name)
    ]
    return ShownPrompt(
        prompt_id=prompt_id,
        definition=definition,
        version=shown,
        is_newest=shown == newest,
        is_active=record.is_active,
        created_at=shown_moment(required_time(record.created_at)),
        json_schema=indented(definition["json_schema"]),
        synthesis_schema=None if level is None else indented(level["json_schema"]),
        media=tuple(needs),
        versions=prompt_versions(session, caller, prompt_id, record.definition["name"], shown),
        runs=run_list(session, caller, RunQuery(prompt=prompt_id)),
    )


def _definition(
    session: Session, caller: Principal, record: PromptRecord, version: int | None
) -> tuple[dict[str, Any], int | None]:
    """Return the definition of a prompt, or of an earlier version of its name, and its number.

    Raises:
        ApiError: 404 if the version does not exist.
    """
    if version is None:
        return record.definition, _version(session, caller, record)
    mine = select(PromptVersionRecord.definition).where(
        PromptVersionRecord.account_id == caller.account_id,
        PromptVersionRecord.name == record.definition["name"],
        PromptVersionRecord.version == version,
    )
    definition = session.scalar(mine)
    if definition is None:
        raise not_found("version", str(version))
    return definition, version


def _version(session: Session, caller: Principal, record: PromptRecord) -> int | None:
    return version_of(record, known_versions(session, caller.account_id, [record.definition["name"]]))
