"""The file of an export: results of runs as one JSON document, from the committed tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import IO, Any, Final

from promptreel.api.db.clock import now, required_time
from promptreel.api.db.engine import Database
from promptreel.api.db.models import Export, RunRecord, Video
from promptreel.api.runs.body import run_body
from promptreel.api.runs.results import (
    RunTables,
    run_tables,
    segment_result,
    segment_views,
    video_result,
)
from promptreel.api.uploads.media_rows import owned_videos, video_body
from promptreel.api.web.auth import Principal
from promptreel.api.web.json_response import JsonResponse
from promptreel.tables.storage import Storage

_SEGMENTS_AT_ONCE: Final = 500


_ITEMS_AT_ONCE: Final = 500


# ------------------------------------------------------------------------------------------- what the file holds


def write_export(
    database: Database, storage: Storage, export: Export, target: IO[bytes], go_on: Callable[[], None]
) -> None:
    """Writes the file of an export: its runs, each with its prompt and its media, these with their segments as the results
    list shows them, and their synthesis. Media that was deleted is left out, and a run without tables has no media.

    Args:
        go_on: called between portions; it may raise to end the work.
    """
    head = {
        "export_id": export.export_id,
        "export_type": export.export_type,
        "target_id": export.target_id,
        "exported_at": required_time(now()),
    }
    target.write(_json(head)[:-1] + b',"runs":[')
    for number, run_id in enumerate(export.run_ids):
        with database.read() as session:
            run = session.get(RunRecord, run_id)
        assert run is not None  # runs are never removed
        target.write(b"," if number else b"")
        _write_run(database, storage, export.account_id, run, target, go_on)
    target.write(b"]}\n")


def _write_run(
    database: Database, storage: Storage, account_id: str, run: RunRecord, target: IO[bytes], go_on: Callable[[], None]
) -> None:
    tables = run_tables(storage, run.run_id)
    number = tables.manifest.number if tables is not None else None
    head = {"run": run_body(run), "prompt": run.prompt, "manifest_number": number}
    target.write(_json(head)[:-1] + b',"media":[')
    separator = b""
    for video in _media(database, account_id, tables):
        assert tables is not None
        target.write(separator + _json({"video": video_body(video)})[:-1] + b',"segments":[')
        separator = b","
        segments = iter(tables.rows("segments", video.video_id))
        first = True
        while portion := list(islice(segments, _SEGMENTS_AT_ONCE)):
            go_on()
            for view in segment_views(tables, video.video_id, portion):
                target.write((b"" if first else b",") + _json(segment_result(run, video, view)))
                first = False
        target.write(b'],"video_result":' + _json(video_result(tables, run, video.video_id, video)) + b"}")
    target.write(b"]}")


def _media(database: Database, account_id: str, tables: RunTables | None) -> Iterator[Video]:
    """The items of a run that still exist."""
    video_ids = iter([row["video_id"] for row in tables.all_rows("media")] if tables is not None else [])
    owner = Principal(account_id, "", ())
    while portion := list(islice(video_ids, _ITEMS_AT_ONCE)):
        with database.read() as session:
            found = owned_videos(session, owner, portion)
        yield from (found[video_id] for video_id in portion if video_id in found)


def _json(content: Any) -> bytes:
    return bytes(JsonResponse(content).body) if content is not None else b"null"
