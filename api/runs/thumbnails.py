"""Thumbnails: the sampled frames that stand for segments and items, and the fields that name them in responses."""

from __future__ import annotations

import functools
import io
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image

from promptreel.api.runs.run_tables import Row, RunTables, readable_tables
from promptreel.api.uploads.links import thumbnail_url
from promptreel.api.web.damage import report_skipped
from promptreel.media.analysis import ANALYSIS_FILE
from promptreel.schemas.errors import RunDamaged, StateExpired
from promptreel.tables.storage import Storage

MAX_BYTES: Final = 100_000  # of a frame that is sent as it is
MAX_WIDTH: Final = 320  # of a frame that is shrunk
_FRAMES: Final = "frames"
_COLUMNS: Final = ("video_id", "segment_id", "time_us", "file")
_CHECK_INTERVAL_S: Final = 60


@dataclass(frozen=True, slots=True)
class Frame:
    """A sampled frame. `file` is relative to the data folder."""

    time_us: int
    file: str


@dataclass(frozen=True)
class Thumbnails:
    """Renders the fields of thumbnails as signed URLs, which load without an API key.

    Attributes:
        secret: signs the URLs.
        base_url: of the service, without a slash at the end.
    """

    storage: Storage
    secret: bytes
    base_url: str

    def fields(self, run_id: str, video_id: str, frame: Frame | None) -> dict[str, Any]:
        """Return `thumbnail_uri` and `thumbnail_available`; null and false if the frame's analysis does not exist."""
        if frame is None or not self._exists(frame):
            return {"thumbnail_uri": None, "thumbnail_available": False}
        url = thumbnail_url(self.secret, self.base_url, run_id, video_id, frame.time_us)
        return {"thumbnail_uri": url, "thumbnail_available": True}

    def _exists(self, frame: Frame) -> bool:
        return _is_committed(self.storage, analysis_of(frame), int(time.monotonic() // _CHECK_INTERVAL_S))


def analysis_of(frame: Frame) -> str:
    """The folder of the analysis that sampled a frame."""
    return frame.file.rsplit("/", 2)[0]


@functools.lru_cache(maxsize=4096)  # a page of search hits may name 100 analyses, each a request to an object store
def _is_committed(storage: Storage, folder: str, interval: int) -> bool:
    return storage.exists(f"{folder}/{ANALYSIS_FILE}")


def middle_frames(rows: Iterable[Row], segments: Sequence[Row]) -> dict[str, Frame]:
    """Return the frame nearest to the middle of each segment, by segment id. Segments without frames are missing.

    Args:
        rows: rows of the table `frames`.
        segments: rows of the table `segments`.
    """
    middles = {row["segment_id"]: (row["start_us"] + row["end_us"]) // 2 for row in segments}
    found: dict[str, Frame] = {}
    for row in rows:
        segment_id, time_us = row["segment_id"], row["time_us"]
        if (middle := middles.get(segment_id)) is None:
            continue
        known = found.get(segment_id)
        if known is None or abs(time_us - middle) < abs(known.time_us - middle):
            found[segment_id] = Frame(time_us, row["file"])
    return found


def frames_of_segments(tables: RunTables, video_id: str, segments: Sequence[Row]) -> Mapping[str, Frame]:
    """Return the frame nearest to the middle of each of these segments of one item, in order of time."""
    if not segments or segments[0]["media_type"] == "audio":
        return {}
    first_us, last_us = segments[0]["start_us"], max(row["end_us"] for row in segments)
    return middle_frames(tables.rows(_FRAMES, video_id, first_us, last_us, columns=_COLUMNS), segments)


def frame_of_item(tables: RunTables, video_id: str) -> Frame | None:
    """Return the first frame in the second half of an item, which skips titles, or else its first one."""
    media = next(tables.rows("media", video_id), None)
    middle_us = (media["duration_us"] or 0) // 2 if media is not None else 0
    for first_us in (middle_us, 0):
        if (row := next(tables.rows(_FRAMES, video_id, first_us, columns=_COLUMNS), None)) is not None:
            return Frame(row["time_us"], row["file"])
    return None


def frame_at(tables: RunTables, video_id: str, time_us: int) -> Frame | None:
    """Return the frame of an item that was sampled at this time."""
    row = next(tables.rows(_FRAMES, video_id, time_us, time_us, columns=_COLUMNS), None)
    return Frame(row["time_us"], row["file"]) if row is not None else None


def add_item_thumbnails(thumbnails: Thumbnails, bodies: Sequence[dict[str, Any]]) -> None:
    """Set the thumbnail of each media item that a run in its `processing_status` has sampled, the newest run first."""
    tables: dict[str, RunTables | None] = {}
    for body in bodies:
        body.update(thumbnails.fields("", body["video_id"], None))
        if body["media_type"] == "audio":
            continue
        for status in body["processing_status"] or ():
            frame = _frame_in_run(thumbnails.storage, tables, status["run_id"], body["video_id"])
            if frame is not None:
                body.update(thumbnails.fields(status["run_id"], body["video_id"], frame))
                break


def _frame_in_run(storage: Storage, tables: dict[str, RunTables | None], run_id: str, video_id: str) -> Frame | None:
    try:
        if run_id not in tables:
            tables[run_id] = readable_tables(storage, run_id)
        found = tables[run_id]
        return frame_of_item(found, video_id) if found is not None else None
    except StateExpired:
        return None  # the run is in progress, and its next state is being read by the next request
    except RunDamaged as error:
        report_skipped(error)
        return None


def shrink(content: bytes) -> bytes:
    """Return a JPEG of at most MAX_BYTES: as it is, or at a width of MAX_WIDTH pixels."""
    if len(content) <= MAX_BYTES:
        return content
    with Image.open(io.BytesIO(content)) as image:
        image.draft("RGB", (MAX_WIDTH, MAX_WIDTH))
        picture = image.convert("RGB")
    picture.thumbnail((MAX_WIDTH, MAX_WIDTH))
    target = io.BytesIO()
    picture.save(target, "JPEG", quality=80)
    return target.getvalue()
