"""A run of the command line as its folder describes it. Nothing here reads or writes the database."""

from __future__ import annotations

import mimetypes
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from promptreel.api.runs.service_status import with_service_state
from promptreel.schemas.uris import public_uri
from promptreel.tables.attempts import is_running, last_attempt, read_attempt
from promptreel.tables.interim import newest_interim
from promptreel.tables.manifest import Manifest, RunStatus, newest_manifest
from promptreel.tables.part_files import check_parts
from promptreel.tables.progress import read_progress
from promptreel.tables.reader import CommittedRun, read_rows
from promptreel.tables.request import RunRequest, TargetItem, read_request, read_target
from promptreel.tables.resume_settings import current_request
from promptreel.tables.runner_log import last_runner_error
from promptreel.tables.storage import LocalStorage, Storage

_START_TIMEOUT: Final = timedelta(minutes=2)  # a runner imports Beam before it begins its first attempt
_KINDS: Final = ("video", "audio", "image")


@dataclass(frozen=True)
class FolderState:
    """What the runners of a run have done so far.

    Attributes:
        status: "processing" while a runner works on the run, otherwise the status of the newest manifest; None if the run
            was interrupted before it committed one.
        attempt: number of the newest attempt.
        manifest: the newest manifest.
    """

    status: RunStatus | Literal["processing"] | None
    attempt: int
    manifest: Manifest | None

    @property
    def number(self) -> int:
        """Number of the newest manifest; 0 before the first."""
        return 0 if self.manifest is None else self.manifest.number


@dataclass(frozen=True, slots=True)
class LocalItem:
    """A media item of a run's tables.

    Attributes:
        uri: without secrets.
        media_type: None if the item has not been read.
        status: that of the media table.
        position: in the target.
    """

    video_id: str
    name: str
    uri: str
    media_type: str | None
    size_bytes: int
    duration_us: int | None
    status: str
    position: int


@dataclass(frozen=True)
class LocalRun:
    """A run of the command line.

    Attributes:
        request: with the settings now in effect.
        created_at, started_at: when the run was created, and its first attempt began.
        interim: the newest interim state of a run that has no manifest.
        progress: counters of the newest attempt.
        service_state: why calls wait or were halted, while a runner works on the run; None while they succeed.
        last_error: the last error in the runner's log, if the run was interrupted before it committed anything.
        items: those that the newest tables name; None if the caller knows them.
        totals: number of items by media type, before the run has ended guessed by their names; None if the caller knows
            them.
    """

    request: RunRequest
    state: FolderState
    created_at: datetime
    started_at: datetime | None
    interim: Manifest | None
    progress: Mapping[str, int]
    service_state: str | None
    last_error: str | None
    items: tuple[LocalItem, ...] | None
    totals: Mapping[str, int] | None

    @property
    def tables_number(self) -> int:
        """Number of the newest tables: negative for an interim state, 0 before the first."""
        tables = self.state.manifest or self.interim
        return 0 if tables is None else tables.number

    @property
    def seconds(self) -> float:
        """The total duration of the items in seconds."""
        return sum(item.duration_us or 0 for item in self.items or ()) / 1e6


def folder_state(storage: Storage, run_id: str) -> FolderState:
    """Return what the runners of a run have done so far.

    On an object store nothing tells whether a runner is alive, so an attempt without a commit counts as processing.

    Raises:
        RunNotFound: the folder has no request (yet).
        RunDamaged: a file is not readable.
    """
    is_alive = is_running(storage, run_id)  # before the manifest: a runner that ends in between has committed
    manifest, attempt = newest_manifest(storage, run_id), last_attempt(storage, run_id)
    if not is_alive and attempt == 0:
        is_alive = datetime.now(UTC) - _time_of(read_request(storage, run_id).created_at) < _START_TIMEOUT
    if not is_alive and not isinstance(storage, LocalStorage):
        is_alive = attempt > (0 if manifest is None else manifest.attempt)
    if is_alive:
        return FolderState("processing", attempt, manifest)
    return FolderState(None if manifest is None else manifest.status, attempt, manifest)


def read_local_run(storage: Storage, run_id: str, state: FolderState, known: int | None = None) -> LocalRun:
    """Read a run whose folder has this state.

    Args:
        known: number of the tables whose items the caller knows, see `LocalRun.tables_number`; None if it knows none.

    Raises:
        RunNotFound: the folder has no request (yet).
        RunDamaged: a file is missing or not readable.
        StateExpired: the run is in progress and has just replaced its interim state; read again.
    """
    request, _ = current_request(storage, run_id)
    interim = newest_interim(storage, run_id) if state.manifest is None else None
    started_at = read_attempt(storage, run_id, 1).get("started_at")
    found = LocalRun(
        request=request,
        state=state,
        created_at=_time_of(request.created_at),
        started_at=None if started_at is None else _time_of(str(started_at)),
        interim=interim,
        progress=read_progress(storage, run_id),
        service_state=with_service_state({}, storage, run_id).get("service_state"),
        last_error=last_runner_error(storage, run_id) if state.status is None else None,
        items=None,
        totals=None,
    )
    return found if known == found.tables_number else _with_items(storage, found)


def guessed_type(name: str) -> str:
    """Return the media type that the name of a file suggests.

    >>> guessed_type("a.flac"), guessed_type("scan.tif#page=2"), guessed_type("unknown")
    ('audio', 'image', 'video')
    """
    kind = (mimetypes.guess_type(name.split("#page=")[0])[0] or "").partition("/")[0]
    return kind if kind in _KINDS else "video"


def _with_items(storage: Storage, run: LocalRun) -> LocalRun:
    """Return the run with its items.

    Raises:
        RunDamaged, StateExpired: see `read_local_run`.
    """
    target = read_target(storage, run.request.run_id)
    manifest = run.state.manifest
    if manifest is not None:
        check_parts(storage, manifest)
    tables = manifest or run.interim
    rows = () if tables is None else read_rows(storage, CommittedRun.of(run.request, tables), "media")
    items = _items(rows, target)
    return replace(run, items=items, totals=_totals(items if manifest is not None else (), target))


def _items(rows: Sequence[Mapping[str, Any]], target: Sequence[TargetItem]) -> tuple[LocalItem, ...]:
    positions = {public_uri(item.uri): position for position, item in reversed(list(enumerate(target)))}
    found = (
        LocalItem(
            video_id=row["video_id"],
            name=row["name"],
            uri=row["uri"],
            media_type=row["media_type"],
            size_bytes=row["size_bytes"] or 0,
            duration_us=row["duration_us"],
            status=row["status"],
            position=positions.get(row["uri"], len(target)),
        )
        for row in rows
    )
    return tuple(sorted(found, key=lambda item: (item.position, item.video_id)))


def _totals(items: Sequence[LocalItem], target: Sequence[TargetItem]) -> Mapping[str, int]:
    if items:
        return Counter(item.media_type or guessed_type(item.name) for item in items)
    return Counter(guessed_type(item.name) for item in target)


def _time_of(text: str) -> datetime:
    """Return a time of a run's files in UTC; one without a zone is UTC."""
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
