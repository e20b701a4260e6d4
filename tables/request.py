"""A run's frozen inputs: `request.json` and the expanded target in `media.parquet`."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from promptreel.schemas.arrow import arrow_schema, to_table
from promptreel.schemas.errors import InvalidInput, RunDamaged, RunError, RunNotFound
from promptreel.schemas.evidence import evidence_fields
from promptreel.schemas.ids import digest
from promptreel.schemas.prompt import Prompt, prompt_from_dict
from promptreel.schemas.run_labels import RunLabels
from promptreel.schemas.settings import RunSettings, settings_from_dict
from promptreel.tables import layout
from promptreel.tables.run_files import load_run_file
from promptreel.tables.storage import Storage


@dataclass(frozen=True)
class RunRequest:
    """The frozen request of one prompt run.

    Attributes:
        target: the target as the caller specified it, with the public form of URLs.
        created_at: ISO-8601 in UTC.
        owner: the account whose operation cache the run uses; runs with None share one cache.
        labels: the name and tags that the user gave the run.
        prompt_version: version number of the prompt's content among those of its name; None in runs of earlier versions.
    """

    run_id: str
    prompt: Prompt
    settings: RunSettings
    target: tuple[str, ...]
    created_at: str
    owner: str | None = None
    labels: RunLabels = field(default_factory=RunLabels)
    prompt_version: int | None = None

    @property
    def evidence_fields(self) -> tuple[str, ...]:
        """The top-level fields of the prompt with evidence."""
        return evidence_fields(self.prompt.json_schema, self.settings.evidence)

    def scoped(self, key: str) -> str:
        """The cache key of an operation in this run: scoped to the owner, or to the run if results must not be reused."""
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
            "name": self.labels.name,
            "tags": dict(self.labels.tags),
            "prompt_version": self.prompt_version,
        }


@dataclass(frozen=True, slots=True)
class TargetItem:
    """One file of the target.

    Attributes:
        uri: local path, or a URL that fsspec can read, with its secrets; show `promptreel.schemas.uris.public_uri` of it.
        name: short display name.
        video_id: id from a catalogue; None derives it from the content.
        sample_segments: number of its segments in a sample of segments; None for all.
    """

    uri: str
    name: str
    video_id: str | None = None
    sample_segments: int | None = None


@dataclass(frozen=True)
class _StoredRequest:
    """Schema of `request.json`; prompt and settings are validated by their own parsers."""

    run_id: str
    prompt: dict[str, Any]
    settings: dict[str, Any]
    target: tuple[str, ...]
    created_at: str
    owner: str | None = None
    name: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    prompt_version: int | None = None


_STORED: Final = TypeAdapter(_StoredRequest)


def write_request(storage: Storage, request: RunRequest, items: Sequence[TargetItem]) -> None:
    """Create the run folder: first the target, then the request, which makes the run exist.

    A folder without a request is incomplete and is overwritten.

    Raises:
        RunError: a run with this id exists.
    """
    sink = io.BytesIO()
    pq.write_table(to_table(arrow_schema(TargetItem), (asdict(item) for item in items)), sink)
    exists = RunError(f"run {request.run_id} already exists; choose another id")
    if storage.exists(layout.request_file(request.run_id)):
        raise exists
    storage.write_atomic(layout.media_file(request.run_id), sink.getvalue())
    content = json.dumps(request.to_dict(), indent=2, ensure_ascii=False).encode()
    if not storage.create_exclusive(layout.request_file(request.run_id), content):
        raise exists


def read_request(storage: Storage, run_id: str) -> RunRequest:
    """Load a run's request.

    Raises:
        RunNotFound: the run does not exist.
        RunDamaged: its request is unreadable.
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
            labels=RunLabels(stored.name, stored.tags),
            prompt_version=stored.prompt_version,
        )
    except FileNotFoundError as error:
        raise RunNotFound(f"run {run_id} not found in {storage.root}; list runs with `promptreel runs`") from error
    except InvalidInput as error:
        raise RunDamaged(run_id, name, f"is not readable ({error})") from error


def read_target(storage: Storage, run_id: str) -> list[TargetItem]:
    """Load a run's expanded target.

    Raises:
        RunDamaged: its file is missing or truncated.
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
    """Yield the ids of all runs, newest first, checking each lazily."""
    for name in reversed(storage.list_names(layout.RUNS)):
        if layout.is_run_id(name) and storage.exists(layout.request_file(name)):
            yield name


def list_run_ids(storage: Storage) -> list[str]:
    """Ids of all runs, newest first."""
    return list(iter_run_ids(storage))
