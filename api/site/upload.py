"""The page that adds media: uploads of several files, and registration of a URI."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any, Final
from urllib.parse import unquote, urlencode, urlsplit

from anyio import to_thread
from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from pydantic import ValidationError
from sqlalchemy.orm import Session

from promptreel.api.config import ApiConfig
from promptreel.api.db.engine import Database
from promptreel.api.db.ids import new_id
from promptreel.api.site.form_problems import FormProblem, invalid_values, problems_of
from promptreel.api.site.index_list import index_list
from promptreel.api.site.scopes import PLAYGROUND_NAME
from promptreel.api.uploads.add_media import NewVideo, add_media, register_media
from promptreel.api.uploads.form_files import MAX_FILES, ReceivedFile, ReceivedForm, receive_form
from promptreel.api.uploads.index_rows import check_indexes
from promptreel.api.uploads.media_rows import owned_videos
from promptreel.api.uploads.store import store_upload
from promptreel.api.web.auth import Principal, Writer
from promptreel.api.web.dependencies import Config, DataFolder, Db
from promptreel.api.web.errors import ApiError
from promptreel.api.web.forms import check_token
from promptreel.api.web.idempotency import KeyedRequest
from promptreel.api.web.page import page, see_other
from promptreel.schemas.errors import MediaError, StorageError
from promptreel.schemas.wire.videos import RegisterVideo
from promptreel.tables.storage import Storage

router = APIRouter()
files_router = APIRouter()  # its route checks the form while the files arrive

UPLOAD_PATH: Final = "/upload"
_MAX_TITLE_CHARS: Final = 255

Added = Annotated[list[str] | None, Query(max_length=MAX_FILES)]


@dataclass(frozen=True, slots=True)
class MediaOutcome:
    """What became of a file.

    Attributes:
        video_id: None if it was rejected; `code` and `message` say why.
        index: where it is, as in the URL of the page of an index.
    """

    name: str
    video_id: str | None = None
    index: str = PLAYGROUND_NAME
    media_type: str | None = None
    duration_us: int | None = None
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class MediaEntry:
    """What was entered in the forms."""

    index: str = ""
    title: str = ""
    uri: str = ""


@router.get(UPLOAD_PATH)
def upload_page(
    request: Request,
    caller: Writer,
    database: Db,
    index: Annotated[str, Query(max_length=255)] = "",
    added: Added = None,
) -> Response:
    """Show the forms that add media, and the media that were just added."""
    with database.read() as session:
        outcomes = _added(session, caller, added or ())
    return _page(request, caller, database, MediaEntry(index), outcomes)


@files_router.post(UPLOAD_PATH)
async def upload_files(request: Request, caller: Writer, database: Db, storage: DataFolder, config: Config) -> Response:
    """Add files. They are written to the data folder while they arrive."""

    def check(fields: Mapping[str, str]) -> None:
        check_token(request, fields)
        with database.read() as session:
            check_indexes(session, caller, [_index_id(fields)])

    with storage.work_folder() as work:
        form = await receive_form(request, work, check)
        return await to_thread.run_sync(_store_files, request, caller, database, storage, config, form)


@router.post(f"{UPLOAD_PATH}/uri")
async def register(
    request: Request,
    caller: Writer,
    database: Db,
    storage: DataFolder,
    config: Config,
    uri: Annotated[str, Form()] = "",
    title: Annotated[str, Form()] = "",
    index: Annotated[str, Form()] = "",
) -> Response:
    """Register media by URI."""
    entry = MediaEntry(index, title.strip(), uri.strip())
    problems: tuple[FormProblem, ...] = ()
    try:
        name = entry.title or unquote(PurePosixPath(urlsplit(entry.uri).path).name)[:_MAX_TITLE_CHARS] or "media"
        values = {"title": name, "video_uri": entry.uri, "index_id": _index_id({"index": index})}
        keyed = KeyedRequest(database, caller, "POST", request.url.path, None, None)
        body = RegisterVideo.model_validate(values)
        response = await register_media(keyed, storage, config, body, request.app.state.fetches)
        return see_other(_added_url(index, [json.loads(bytes(response.body))["video_id"]]))
    except ValidationError as error:
        problems = invalid_values(error)
    except MediaError as error:
        problems = (FormProblem(error.code, error.message),)
    except ApiError as error:
        problems = problems_of(error)
    except ValueError as error:  # of `urlsplit`
        problems = (FormProblem("video_uri", f"not a valid URI ({error})"),)
    return await to_thread.run_sync(_page, request, caller, database, entry, (), problems)


def _store_files(
    request: Request, caller: Principal, database: Database, storage: Storage, config: ApiConfig, form: ReceivedForm
) -> Response:
    entry = MediaEntry(form.fields.get("index", ""), form.fields.get("title", "").strip())
    if not form.files:
        return _page(request, caller, database, entry, (), (FormProblem("files", "choose at least one file"),))
    index_id = _index_id(form.fields)
    keyed = KeyedRequest(database, caller, "POST", request.url.path, None, None)
    outcomes = []
    for file in form.files:
        title = _title(entry.title, file.name, is_single=len(form.files) == 1)
        outcomes.append(_store_file(keyed, storage, config, file, title, index_id))
    if any(outcome.video_id is None for outcome in outcomes):
        return _page(request, caller, database, entry, outcomes)
    return see_other(_added_url(entry.index, [outcome.video_id or "" for outcome in outcomes]))


def _store_file(
    keyed: KeyedRequest, storage: Storage, config: ApiConfig, file: ReceivedFile, title: str, index_id: str | None
) -> MediaOutcome:
    new = NewVideo(new_id("vid"), title, index_id, None)
    try:
        response = add_media(
            keyed, storage, new, lambda: store_upload(storage, config, new.video_id, file.name, file.path)
        )
    except (ApiError, MediaError) as error:
        return MediaOutcome(file.name, code=error.code, message=error.message)
    except StorageError:
        return MediaOutcome(file.name, code="storage_unavailable", message="Storage is unavailable; try again.")
    body = json.loads(bytes(response.body))
    seconds = body["duration_seconds"]
    return MediaOutcome(
        file.name,
        body["video_id"],
        index_id or PLAYGROUND_NAME,
        body["media_type"],
        None if seconds is None else round(seconds * 1_000_000),
    )


def _page(
    request: Request,
    caller: Principal,
    database: Database,
    entry: MediaEntry,
    outcomes: Sequence[MediaOutcome] = (),
    problems: tuple[FormProblem, ...] = (),
) -> Response:
    with database.read() as session:
        indexes = index_list(session, caller)
    is_rejected = bool(problems) or any(outcome.video_id is None for outcome in outcomes)
    return page(
        request,
        "upload.html",
        status=422 if is_rejected else 200,
        indexes=indexes,
        entry=entry,
        outcomes=outcomes,
        problems=problems,
        max_bytes=request.app.state.config.max_upload_bytes,
        max_files=MAX_FILES,
    )


def _added(session: Session, caller: Principal, video_ids: Sequence[str]) -> list[MediaOutcome]:
    found = owned_videos(session, caller, video_ids)
    return [
        MediaOutcome(
            video.title, video.video_id, video.index_id or PLAYGROUND_NAME, video.media_type, video.duration_us
        )
        for video_id in video_ids
        if (video := found.get(video_id)) is not None
    ]


def _added_url(index: str, video_ids: Sequence[str]) -> str:
    pairs: list[tuple[str, Any]] = [("index", index), *(("added", video_id) for video_id in video_ids)]
    return f"{UPLOAD_PATH}?{urlencode([pair for pair in pairs if pair[1]])}"


def _index_id(fields: Mapping[str, str]) -> str | None:
    index = fields.get("index", "")
    return None if index in ("", PLAYGROUND_NAME) else index


def _title(title: str, name: str, *, is_single: bool) -> str:
    """Return the title of a file: what was entered, before its name if there are several files, or else its name."""
    joined = (title or name) if is_single else f"{title} {name}".strip()
    return joined[:_MAX_TITLE_CHARS] or "file"
