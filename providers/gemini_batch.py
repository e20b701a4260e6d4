"""The Batch API of Gemini: request bodies, jobs, and their answers.

A job gets its requests in the call that creates it, or in an uploaded file if they are too large for one call. The rules of
the service are from the public reference of the Gemini API (batchGenerateContent, files).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Awaitable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from promptreel.providers.base import ModelAnswer
from promptreel.providers.batch_jobs import BatchJobs, JobState
from promptreel.providers.gemini_answer import read_answer
from promptreel.providers.gemini_client import model_error_of
from promptreel.schemas.errors import ModelError

Value = TypeVar("Value")

# A call that creates a job is limited to 20 MB, as any other call.
MAX_INLINE_JOB_BYTES: Final = 14_000_000
CALL_TIMEOUT_S: Final = 120.0
# An uploaded or downloaded file may have 2 GB.
FILE_TIMEOUT_S: Final = 3600.0
PAGE_SIZE: Final = 100

_STATES: Final[Mapping[str, JobState]] = {
    "STATE_SUCCEEDED": "ended",
    "STATE_PARTIALLY_SUCCEEDED": "ended",
    "STATE_CANCELLED": "ended",
    "STATE_EXPIRED": "expired",
    "STATE_FAILED": "failed",
}
# Fields of a configuration that a request has beside its `generationConfig`.
_REQUEST_FIELDS: Final = ("cachedContent", "labels", "safetySettings", "serviceTier", "toolConfig", "tools")
_CANCELLED: Final = 1
# HTTP status and name of a google.rpc.Code, which errors of single requests have.
_RPC_CODES: Final[Mapping[int, tuple[int, str]]] = {
    2: (500, "UNKNOWN"),
    3: (400, "INVALID_ARGUMENT"),
    4: (504, "DEADLINE_EXCEEDED"),
    5: (404, "NOT_FOUND"),
    6: (409, "ALREADY_EXISTS"),
    7: (403, "PERMISSION_DENIED"),
    8: (429, "RESOURCE_EXHAUSTED"),
    9: (400, "FAILED_PRECONDITION"),
    10: (409, "ABORTED"),
    11: (400, "OUT_OF_RANGE"),
    12: (501, "UNIMPLEMENTED"),
    13: (500, "INTERNAL"),
    14: (503, "UNAVAILABLE"),
    15: (500, "DATA_LOSS"),
    16: (401, "UNAUTHENTICATED"),
}


def wire_body(contents: Any, config: Any) -> dict[str, Any]:
    """Return a request in the JSON form of the service, from the client's types."""
    fields = config.model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude={"http_options", "automatic_function_calling"}
    )
    body: dict[str, Any] = {"contents": [contents.model_dump(mode="json", by_alias=True, exclude_none=True)]}
    if instruction := fields.pop("systemInstruction", None):
        body["systemInstruction"] = {"parts": [{"text": instruction}], "role": "user"}
    body |= {name: fields.pop(name) for name in _REQUEST_FIELDS if name in fields}
    extra = (config.http_options.extra_body or {}) if config.http_options is not None else {}
    return {**body, "generationConfig": {**fields, **extra.get("generationConfig", {})}}


class GeminiBatchJobs(BatchJobs):
    """Batch jobs of one model.

    Args:
        client: an open google-genai client.
    """

    def __init__(self, client: Any, model: str) -> None:
        self._client = client
        self._model = model

    async def submit(self, display_name: str, requests: Path) -> str:
        size = await asyncio.to_thread(lambda: requests.stat().st_size)
        if size <= MAX_INLINE_JOB_BYTES:
            source: Any = [_inlined(line) for line in await asyncio.to_thread(_read_lines, requests)]
        else:
            config = {"display_name": display_name, "mime_type": "jsonl"}
            upload = self._client.aio.files.upload(file=str(requests), config=config)
            source = (await self._call(upload, FILE_TIMEOUT_S)).name
        creation = self._client.aio.batches.create(model=self._model, src=source, config={"display_name": display_name})
        return str((await self._call(creation, model=self._model)).name)

    async def find(self, display_name: str) -> str | None:
        page_token = ""
        while True:
            page = await self._read(f"batches?{urlencode({'pageSize': PAGE_SIZE, 'pageToken': page_token})}")
            for job in page.get("operations", []):
                if job.get("metadata", {}).get("displayName") == display_name:
                    return str(job["name"])
            page_token = page.get("nextPageToken", "")
            if not page_token:
                return None

    async def state(self, job: str) -> JobState:
        found = await self._get(job)
        return "lost" if found is None else _STATES.get(found.get("state", "").removeprefix("BATCH_"), "active")

    async def results(self, job: str) -> Mapping[str, ModelAnswer | ModelError]:
        output = (await self._get(job) or {}).get("output", {})
        if file_name := output.get("responsesFile"):
            content = await self._call(self._client.aio.files.download(file=file_name), FILE_TIMEOUT_S)
            return dict(self._read_parts(_parse_lines(content)))
        return dict(self._read_parts(output.get("inlinedResponses", {}).get("inlinedResponses", [])))

    async def cancel(self, job: str) -> None:
        try:
            await self._call(self._client.aio.batches.cancel(name=job))
        except ModelError as error:
            if error.code not in ("model_bad_request", "model_not_found"):  # it has ended
                raise

    async def _get(self, job: str) -> dict[str, Any] | None:
        """Return what the service says about a job; None if it does not know the job."""
        try:
            return dict((await self._read(job)).get("metadata", {}))
        except ModelError as error:
            if error.code == "model_not_found":
                return None
            raise

    async def _read(self, path: str) -> dict[str, Any]:
        """Return a resource as JSON values.

        `batches.get` and `batches.list` of the client reject a job, with all its answers, if the error of one request has
        details.
        """
        response = await self._call(self._client.aio.batches._api_client.async_request("get", path, {}))
        try:
            return dict(json.loads(response.body))
        except (ValueError, TypeError) as error:
            raise ModelError(
                "model_unavailable", f"batch job: the response is not JSON: {error}", retryable=True
            ) from error

    async def _call(self, call: Awaitable[Value], timeout_s: float = CALL_TIMEOUT_S, model: str | None = None) -> Value:
        try:
            async with asyncio.timeout(timeout_s):
                return await call
        except TimeoutError as error:
            raise ModelError("model_timeout", f"batch job: no answer within {timeout_s:g} s", retryable=True) from error
        except Exception as error:
            failure = model_error_of(error, model)
            # The client raises a bare KeyError or ValueError if the service violates the upload protocol.
            if failure is None and isinstance(error, KeyError | ValueError):
                failure = ModelError("model_unavailable", f"batch job: {type(error).__name__}: {error}", retryable=True)
            if failure is None:
                raise
            raise failure from error

    def _read_parts(self, parts: Iterable[Any]) -> Iterable[tuple[str, ModelAnswer | ModelError]]:
        for part in parts:
            key = part.get("key") or part.get("metadata", {}).get("key")
            error = part.get("error")
            if key is None:
                continue
            if "response" in part:
                yield key, read_answer(_Fields(part["response"]))
            elif error is not None and error.get("code") != _CANCELLED:
                yield key, self._error(error.get("code"), error.get("message"), error.get("details") or [])

    def _error(self, code: int | None, message: str | None, details: list[Any]) -> ModelError:
        """Convert the error of one request as that of a call."""
        from google.genai import errors

        status, name = _RPC_CODES.get(code or 2, (code or 500, ""))
        body = {"error": {"code": status, "status": name, "message": message or f"error {code}", "details": details}}
        failure = model_error_of(errors.APIError(status, body), self._model)
        assert failure is not None
        return failure


def _read_lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def _parse_lines(content: bytes) -> Iterable[Any]:
    """Yield the JSON objects of a file; a request whose line is damaged is missing, and is sent again."""
    for line in content.splitlines():
        with contextlib.suppress(ValueError):
            if isinstance(part := json.loads(line), dict):
                yield part


def _inlined(line: bytes) -> Any:
    """Return a line of a request file as the client's request."""
    from google.genai import types

    entry = json.loads(line)
    body = entry["request"]
    config = {name: value for name, value in body.items() if name not in ("contents", "generationConfig")}
    return types.InlinedRequest(
        contents=[types.Content.model_validate(content) for content in body["contents"]],
        config=types.GenerateContentConfig.model_validate({**config, **body["generationConfig"]}),
        metadata={"key": entry["key"]},
    )


class _Fields:
    """A JSON object whose fields are read like attributes of the client's types: in snake case, None if missing."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> Any:
        value = self._values.get(re.sub(r"_([a-z])", lambda match: match.group(1).upper(), name))
        if isinstance(value, list):
            return [_Fields(part) if isinstance(part, dict) else part for part in value]
        return _Fields(value) if isinstance(value, dict) else value
