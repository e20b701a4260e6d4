"""Exports of a run or an index as one JSON file."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from promptreel.schemas.wire.common import RequestModel, WireModel


class CreateRunExport(RequestModel):
    """Options of a run export. This service has no connectors: exports are always downloaded."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}]})

    destination_connector_id: str | None = None
    destination_base_path: str | None = None
    destination_subpath: str | None = None


class CreateIndexExport(CreateRunExport):
    """Options of an index export.

    Attributes:
        prompt_run_ids: runs over the index to export; default: all finished runs.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{}, {"prompt_run_ids": ["run_20260420-100000-3f9a1c02e7"]}]}
    )

    prompt_run_ids: list[str] | None = Field(default=None, min_length=1, max_length=1000)


class ExportCreated(WireModel):
    """A queued export."""

    export_id: str
    status: Literal["pending", "processing", "completed", "failed"]


class ExportBody(WireModel):
    """An export and its progress. All keys are always present; clients require them.

    Attributes:
        queue_status: queued, running, succeeded or dead_letter (failed `max_attempts` times).
        last_error: error of the last attempt, while a retry is pending.
        download_url: path of the finished file; requires an API key.
        gcs_uri: opaque identifier of the finished file.
        export_params: options set in the request; null if none.
    """

    export_id: str
    export_type: Literal["index", "prompt_run"]
    target_id: str
    created_at: str
    status: Literal["pending", "processing", "completed", "failed"]
    queue_status: Literal["queued", "leased", "running", "failed", "succeeded", "dead_letter"] | None
    attempts: int
    max_attempts: int
    available_at: str | None
    started_at: str | None
    completed_at: str | None
    updated_at: str | None
    download_url: str | None
    file_size_bytes: int | None
    error_message: str | None
    last_error: str | None
    destination_type: Literal["download", "connector"]
    destination_connector_id: str | None
    destination_base_path: str | None
    destination_subpath: str | None
    destination_uri: str | None
    gcs_uri: str | None
    export_params: dict[str, Any] | None


class ExportDownloadUrl(WireModel):
    """A download URL that needs no API key for a few minutes; null over plain HTTP, and until the file is finished."""

    export_id: str
    status: Literal["pending", "processing", "completed", "failed"]
    destination_type: Literal["download", "connector"]
    destination_connector_id: str | None
    download_url: str | None
