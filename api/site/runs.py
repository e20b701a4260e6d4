"""The page of runs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from promptreel.api.routes.events import stream_events
from promptreel.api.site.run_list import STATUSES, RunQuery, run_list
from promptreel.api.web.auth import Reader
from promptreel.api.web.dependencies import Db
from promptreel.api.web.page import page

router = APIRouter()

Text = Annotated[str, Query(max_length=255)]

# A page cannot send a key, and the API takes no session.
router.add_api_route("/events", stream_events, methods=["GET"])


@router.get("/runs")
def runs_page(
    request: Request,
    caller: Reader,
    database: Db,
    q: Text = "",
    status: Text = "",
    model: Text = "",
    tag: Text = "",
    prompt: Text = "",
    index: Text = "",
    sort: Text = "-created",
    number: Annotated[int, Query(alias="page", ge=1, le=1_000_000)] = 1,
) -> Response:
    """Show the runs of the account, newest first unless sorted otherwise."""
    with database.read() as session:
        found = run_list(session, caller, RunQuery(q, status, model, tag, prompt, index, sort, number))
    return page(request, "runs.html", found=found, statuses=STATUSES)
