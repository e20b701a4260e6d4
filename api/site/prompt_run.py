"""The page that runs a prompt: choose media, model and settings, see the estimate, and start the run."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import Response

from promptreel.api.db.engine import Database
from promptreel.api.runs.estimates import estimate_request
from promptreel.api.runs.prompt_rows import owned_prompt
from promptreel.api.runs.store import start_run_once
from promptreel.api.site.form_problems import FormProblem, problems_of
from promptreel.api.site.links import run_path
from promptreel.api.site.run_estimate import ShownEstimate, shown_estimate
from promptreel.api.site.run_form import RunForm, entered_run, run_choices, run_request
from promptreel.api.web.auth import Principal, Reader, Writer
from promptreel.api.web.dependencies import Config, DataFolder, Db
from promptreel.api.web.errors import ApiError
from promptreel.api.web.idempotency import KeyedRequest
from promptreel.api.web.page import page, see_other
from promptreel.schemas.strategies import AUDIO_STRATEGIES, VIDEO_STRATEGIES

router = APIRouter()

Entered = Annotated[RunForm, Depends(entered_run)]


@router.get("/prompts/{prompt_id}/run")
def run_prompt_page(
    prompt_id: str,
    request: Request,
    caller: Reader,
    database: Db,
    config: Config,
    storage: DataFolder,
    form: Entered,
) -> Response:
    """Show the form that runs a prompt and, once it is filled in, the estimate."""
    if form.step != "estimate":
        return _page(request, caller, database, prompt_id, form)
    body, problems = run_request(prompt_id, form)
    estimate = None
    if body is not None:
        try:
            estimate = shown_estimate(estimate_request(database, storage, config, caller, body))
        except ApiError as error:
            if error.status not in (404, 422):
                raise
            problems = problems_of(error)
    return _page(request, caller, database, prompt_id, form, problems, estimate)


@router.post("/prompts/{prompt_id}/run")
async def start(
    prompt_id: str,
    request: Request,
    caller: Writer,
    database: Db,
    config: Config,
    form: Entered,
    key: Annotated[str, Form(min_length=1, max_length=255)],
) -> Response:
    """Start the run of the query. A form that is sent twice starts one run."""
    body, problems = run_request(prompt_id, form)
    if body is not None:
        keyed = KeyedRequest(database, caller, "POST", request.url.path, key, body.model_dump(mode="json"))
        try:
            started = json.loads(bytes((await start_run_once(keyed, body, config)).body))
            return see_other(run_path(started["run_id"]))
        except ApiError as error:
            if error.status not in (404, 422):
                raise
            problems = problems_of(error)
    return await asyncio.to_thread(_page, request, caller, database, prompt_id, form, problems)


def _page(
    request: Request,
    caller: Principal,
    database: Database,
    prompt_id: str,
    form: RunForm,
    problems: tuple[FormProblem, ...] = (),
    estimate: ShownEstimate | None = None,
) -> Response:
    with database.read() as session:
        record = owned_prompt(session, caller, prompt_id)
        choices = run_choices(session, caller, form, request.app.state.config)
    if not form.index:
        filled = next((choice.index for choice in choices.media if choice.items), choices.media[-1].index)
        form = dataclasses.replace(form, index=filled)
    return page(
        request,
        "prompt_run.html",
        status=422 if problems else 200,
        prompt_id=prompt_id,
        name=record.definition["name"],
        is_active=record.is_active,
        form=form,
        choices=choices,
        problems=problems,
        estimate=estimate,
        key=secrets.token_urlsafe(24),
        here=request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        video_strategies=VIDEO_STRATEGIES,
        audio_strategies=AUDIO_STRATEGIES,
        can_write=caller.has_scope("write"),
    )
