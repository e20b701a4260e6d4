"""The page of one run: what it did, what failed, what it cost, and its items."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from promptreel.api.db.models import MediaIndex, RetryRecord, RunRecord
from promptreel.api.routes.thumbnails import thumbnail_links
from promptreel.api.runs.body import run_body
from promptreel.api.runs.cancel import request_cancel
from promptreel.api.runs.retries import RETRY_FINAL, start_retry_of_failures
from promptreel.api.runs.statuses import FINAL
from promptreel.api.runs.store import owned_run
from promptreel.api.runs.thumbnails import Frame, Thumbnails
from promptreel.api.site.links import index_path, prompt_path, run_path
from promptreel.api.site.run_list import listed_run
from promptreel.api.site.scopes import PLAYGROUND_NAME
from promptreel.api.web.auth import Reader, Writer
from promptreel.api.web.dependencies import DataFolder, Db
from promptreel.api.web.errors import ApiError, invalid
from promptreel.api.web.page import page, see_other
from promptreel.pages.answers import ShownAnswer, shown_answer
from promptreel.pages.item_grid import ITEM_STATUSES, TILES_PER_PAGE, TilePage, item_tiles
from promptreel.pages.overview import RunOverview, run_overview
from promptreel.pages.report import write_report
from promptreel.pages.run_tables import open_tables
from promptreel.schemas.errors import RunDamaged, RunError, RunNotFound, StateExpired
from promptreel.schemas.wire.retries import RetryFailures
from promptreel.tables.reader import readable_run
from promptreel.tables.request import read_request
from promptreel.tables.storage import Storage

router = APIRouter()

_MAX_REPORT_SEGMENTS: Final = 5_000
_SETTINGS: Final = (
    "video_segmentation_type",
    "video_segment_duration",
    "audio_segmentation_type",
    "audio_segment_duration",
    "segment_options",
    "evidence",
    "enable_transcription",
    "enable_image_embedding",
)


@dataclass(frozen=True, slots=True)
class TileQuery:
    """Which items of a run are shown."""

    run_id: str
    status: str = ""
    text: str = ""
    number: int = 1

    def url(self, **changes: Any) -> str:
        """Return the URL of the page with other values."""
        query = {"status": self.status, "q": self.text, "page": self.number}
        query |= {{"text": "q", "number": "page"}.get(name, name): value for name, value in changes.items()}
        kept = {name: value for name, value in query.items() if value not in ("", 1)}
        return run_path(self.run_id) + (f"?{urlencode(kept)}" if kept else "") + "#items"


@dataclass(frozen=True, slots=True)
class RunTiles:
    """The items on a page, with the URLs of their thumbnails by item id."""

    query: TileQuery
    found: TilePage
    pages: int
    thumbnails: dict[str, str]


@router.get("/runs/{run_id}")
def run_page(
    run_id: str,
    request: Request,
    caller: Reader,
    database: Db,
    storage: DataFolder,
    status: Annotated[str, Query(max_length=255)] = "",
    q: Annotated[str, Query(max_length=255)] = "",
    number: Annotated[int, Query(alias="page", ge=1, le=1_000_000)] = 1,
) -> Response:
    """Show a run."""
    if status not in ("", *ITEM_STATUSES):
        raise invalid(f"status: {status!r} is none of {', '.join(ITEM_STATUSES)}", "status")
    with database.read() as session:
        run = owned_run(session, caller, run_id)
        row, record, retry = listed_run(session, run), _shown_record(session, run), _open_retry(session, run_id)
    query = TileQuery(run_id, status, q, number)
    overview, tiles, damage = _committed(storage, run, query, thumbnail_links(request, ""))
    return page(
        request,
        "run.html",
        row=row,
        record=record,
        run=overview,
        items=tiles,
        damage=damage,
        retry=retry,
        item_statuses=ITEM_STATUSES,
        can_write=caller.has_scope("write"),
    )


@router.post("/runs/{run_id}/cancel")
def cancel(run_id: str, caller: Writer, database: Db) -> Response:
    """Cancel a run."""
    with database.write() as session:
        request_cancel(session, caller, run_id)
    return see_other(run_path(run_id))


@router.post("/runs/{run_id}/retry")
def retry_failures(
    run_id: str, caller: Writer, database: Db, storage: DataFolder, code: Annotated[str, Form(max_length=64)] = ""
) -> Response:
    """Retry the retryable failures of a run, those with one code if it is given."""
    body = RetryFailures.model_construct(codes=[code] if code else None)  # also a code of another version of promptreel
    with database.write() as session:
        start_retry_of_failures(session, storage, caller, run_id, body, None)
    return see_other(run_path(run_id))


@router.get("/runs/{run_id}/report")
def report(run_id: str, caller: Reader, database: Db, storage: DataFolder) -> Response:
    """Download the report of a run as one file."""
    with database.read() as session:
        owned_run(session, caller, run_id)
    run = readable_run(storage, run_id)
    if run.manifest.rows_of("segments") > _MAX_REPORT_SEGMENTS:
        message = f"A report of this run has several files; write it with: promptreel report {run_id}"
        raise ApiError(422, "report_too_large", message)
    with storage.work_folder() as work:
        written = write_report(storage, run, work / "report.html")
        content = written.path.read_bytes()
    headers = {"Content-Disposition": f'attachment; filename="{run_id}.html"', "X-Content-Type-Options": "nosniff"}
    return Response(content, media_type="text/html; charset=utf-8", headers=headers)


@dataclass(frozen=True, slots=True)
class ShownRecord:
    """What the database knows of a run.

    Attributes:
        status_text: the status in one sentence, with what is wrong.
        prompt_url: of the page of the prompt.
        index: name of the index.
        index_url: of the page of the index; None if it is deleted.
    """

    status_text: str
    is_stopping: bool
    settings: ShownAnswer
    prompt_url: str
    index: str
    index_url: str | None


def _shown_record(session: Session, run: RunRecord) -> ShownRecord:
    body = run_body(run)
    settings = {name: body[name] for name in _SETTINGS if body[name] is not None}
    is_stopping = run.stop_requested_at is not None and run.status not in FINAL
    text = shown_answer(json.dumps(settings))
    index, url = _index(session, run.index_id)
    return ShownRecord(
        status_text=body["status_text"],
        is_stopping=is_stopping,
        settings=text,
        prompt_url=prompt_path(run.prompt_id),
        index=index,
        index_url=url,
    )


def _index(session: Session, index_id: str | None) -> tuple[str, str | None]:
    """Return the name of the index of a run, and the URL of its page."""
    if index_id is None:
        return "the playground", index_path(PLAYGROUND_NAME)
    index = session.get(MediaIndex, index_id)
    if index is None or index.deletion_id is not None:
        return "a deleted index", None
    return index.name, index_path(index_id)


def _open_retry(session: Session, run_id: str) -> str | None:
    """Return the id of a retry of the run that is in progress."""
    is_open = select(RetryRecord.retry_id).where(RetryRecord.run_id == run_id, RetryRecord.status.not_in(RETRY_FINAL))
    return session.scalar(is_open.limit(1))


def _committed(
    storage: Storage, run: RunRecord, query: TileQuery, thumbnails: Thumbnails
) -> tuple[RunOverview | None, RunTiles | None, str | None]:
    """Return what the committed tables of a run say, or why they cannot be read. All are None if nothing is finished."""
    for _ in range(3):
        try:
            state = readable_run(storage, run.run_id)
            with open_tables(storage, state) as tables:
                overview = run_overview(tables, read_request(storage, run.run_id))
                found = item_tiles(tables, query.number, query.status, query.text)
        except StateExpired:
            continue  # the run is in progress and has just committed its next state
        except RunDamaged as error:
            return None, None, f"The data of this run is damaged: {error.file} {error.cause}."
        except (RunNotFound, RunError):
            return None, None, None
        tiles = RunTiles(query, found, max(1, -(-found.total // TILES_PER_PAGE)), _uris(run, found, thumbnails))
        return dataclasses.replace(overview, status=run.status), tiles, None
    return None, None, None


def _uris(run: RunRecord, found: TilePage, thumbnails: Thumbnails) -> dict[str, str]:
    uris: dict[str, str] = {}
    for tile in found.tiles:
        if tile.frame_time_us is not None and tile.frame_file is not None:
            frame = Frame(tile.frame_time_us, tile.frame_file)
            uri = thumbnails.fields(run.run_id, tile.video_id, frame)["thumbnail_uri"]
            uris |= {} if uri is None else {tile.video_id: uri}
    return uris
