"""Export files: results of runs as one JSON document, read from the committed tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import IO, Any, Final

from promptreel.api.db.clock import now, required_time
from promptreel.api.db.engine import Database
from promptreel.api.db.models import Export, RunRecord, Video
from promptreel.api.runs.body import run_body
from promptreel.api.runs.results import segment_result, segment_views, video_result
from promptreel.api.runs.run_tables import RunTables, run_tables
from promptreel.api.uploads.media_rows import owned_videos, video_body
from promptreel.api.web.auth import Principal
from promptreel.api.web.json_response import JsonResponse
from promptreel.tables.storage import Storage

_SEGMENTS_PER_BATCH: Final = 500
_ITEMS_PER_BATCH: Final = 500


def write_export(
    database: Database, storage: Storage, export: Export, target: IO[bytes], checkpoint: Callable[[], None]
) -> None:
    """Write an export: its runs with prompt and media, and for each item its segments, as in the results list, and its
    synthesis. Deleted media is omitted, and a run without tables has no media.

    Args:
        checkpoint: called before each batch of segments; it may raise to stop.
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
        assert run is not None  # runs are never deleted
        target.write(b"," if number else b"")
        _write_run(database, storage, export.account_id, run, target, checkpoint)
    target.write(b"]}\n")


def _write_run(
    database: Database,
    storage: Storage,
    account_id: str,
    run: RunRecord,
    target: IO[bytes],
    checkpoint: Callable[[], None],
) -> None:
    tables = run_tables(storage, run.run_id)
    number = tables.manifest.number if tables is not None else None
    head = {"run": run_body(run), "prompt": run.prompt, "manifest_number": number}
    target.write(_json(head)[:-1] + b',"media":[')
    separator = b""
    for video in _existing_media(database, account_id, tables):
        assert tables is not None
        target.write(separator + _json({"video": video_body(video)})[:-1] + b',"segments":[')
        separator = b","
        segments = iter(tables.rows("segments", video.video_id))
        first = True
        while batch := list(islice(segments, _SEGMENTS_PER_BATCH)):
            checkpoint()
            for view in segment_views(tables, video.video_id, batch):
                target.write((b"" if first else b",") + _json(segment_result(run, video, view)))
                first = False
        target.write(b'],"video_result":' + _json(video_result(tables, run, video.video_id, video)) + b"}")
    target.write(b"]}")


def _existing_media(database: Database, account_id: str, tables: RunTables | None) -> Iterator[Video]:
    """Yield the items of a run that still exist."""
    video_ids = iter([row["video_id"] for row in tables.all_rows("media")] if tables is not None else [])
    owner = Principal(account_id, "", ())
    while batch := list(islice(video_ids, _ITEMS_PER_BATCH)):
        with database.read() as session:
            found = owned_videos(session, owner, batch)
        yield from (found[video_id] for video_id in batch if video_id in found)


def _json(content: Any) -> bytes:
    return bytes(JsonResponse(content).body) if content is not None else b"null"
