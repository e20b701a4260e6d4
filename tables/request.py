"""What a run is frozen with: `request.json` and the expanded target in `media.parquet`."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from promptreel.schemas.arrow import arrow_schema, to_table
from promptreel.schemas.errors import InvalidInput, RunDamaged, RunError, RunNotFound
from promptreel.schemas.ids import digest
from promptreel.schemas.prompt import Prompt, prompt_from_dict
from promptreel.schemas.settings import RunSettings, settings_from_dict
from promptreel.tables import layout
from promptreel.tables.run_files import load_run_file
from promptreel.tables.storage import Storage


@dataclass(frozen=True)
class RunRequest:
    """One prompt run, frozen.

    Attributes:
        target: what the caller named, as given.
        created_at: ISO-8601 in UTC.
        owner: the account whose finished operations this run reuses and adds to; None shares those of all runs without one.
    """

    run_id: str
    prompt: Prompt
    settings: RunSettings
    target: tuple[str, ...]
    created_at: str
    owner: str | None = None

    def scoped(self, key: str) -> str:
        """The key under which this run keeps an operation: its owner's, or its own where it may not reuse other results."""
        if not self.settings.reuse_results:
            return digest([key, self.run_id])
        return key if self.owner is None else digest([key, self.owner])

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": 1,
            "run_id": self.run_id,
            "prompt_id": self.prompt.prompt_id,
            "prompt": self.prompt.to_dict(),
            "settings": self.settings.to_dict(),
            "target": list(self.target),
            "created_at": self.created_at,
            "owner": self.owner,
        }


@dataclass(frozen=True, slots=True)
class TargetItem:
    """One file of the target.

    Attributes:
        uri: local path, or a URL that fsspec can read.
        name: short name for people.
        video_id: given by a catalogue; None lets the content decide.
    """

    uri: str
    name: str
    video_id: str | None = None


@dataclass(frozen=True)
class _StoredRequest:
    """The shape of `request.json`; what prompt and settings hold is checked by their own readers."""

    run_id: str
    prompt: dict[str, Any]
    settings: dict[str, Any]
    target: tuple[str, ...]
    created_at: str
    owner: str | None = None


_STORED: Final = TypeAdapter(_StoredRequest)


def write_request(storage: Storage, request: RunRequest, items: Sequence[TargetItem]) -> None:
    """Creates the run folder: the target first, then the request, whose presence makes the run exist. What is there of a
    folder without a request is half-made, and made anew.

    Raises:
        RunError: a run of that id exists.
    """
    sink = io.BytesIO()
    pq.write_table(to_table(arrow_schema(TargetItem), (asdict(item) for item in items)), sink)
    exists = RunError(f"run {request.run_id} exists already; each run has an id of its own")
    if storage.exists(layout.request_file(request.run_id)):
        raise exists
    storage.write_atomic(layout.media_file(request.run_id), sink.getvalue())
    content = json.dumps(request.to_dict(), indent=2, ensure_ascii=False).encode()
    if not storage.create_exclusive(layout.request_file(request.run_id), content):
        raise exists


def read_request(storage: Storage, run_id: str) -> RunRequest:
    """Reads a run's request.

    Raises:
        RunNotFound: there is no such run.
        RunDamaged: its request is not readable as one.
    """
    name = layout.request_file(run_id)
    try:
        stored = load_run_file(storage, run_id, name, _STORED)
        return RunRequest(
            run_id=stored.run_id,
            prompt=prompt_from_dict(stored.prompt),
            settings=settings_from_dict(stored.settings),
            target=stored.target,
            created_at=stored.created_at,
            owner=stored.owner,
        )
    except FileNotFoundError as error:
        raise RunNotFound(f"no run {run_id} in {storage.root}; `promptreel runs` lists them") from error
    except InvalidInput as error:
        raise RunDamaged(run_id, name, f"is not readable ({error})") from error


def read_target(storage: Storage, run_id: str) -> list[TargetItem]:
    """Reads a run's expanded target.

    Raises:
        RunDamaged: its file is missing or torn.
    """
    name = layout.media_file(run_id)
    try:
        table = pq.read_table(io.BytesIO(storage.read_bytes(name)))
        return [TargetItem(**row) for row in table.to_pylist()]
    except FileNotFoundError as error:
        raise RunDamaged(run_id, name, "is missing") from error
    except (OSError, pa.ArrowException, TypeError) as error:
        raise RunDamaged(run_id, name, f"cannot be read as Parquet ({error})") from error


def iter_run_ids(storage: Storage) -> Iterator[str]:
    """Ids of all runs, newest first; a run is looked at only when it is asked for."""
    for name in reversed(storage.list_names(layout.RUNS)):
        if layout.is_run_id(name) and storage.exists(layout.request_file(name)):
            yield name


def list_run_ids(storage: Storage) -> list[str]:
    """Ids of all runs, newest first."""
    return list(iter_run_ids(storage))
