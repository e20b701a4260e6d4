"""Receive a multipart form. Its files are written to a folder while they arrive, so that each is written once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from anyio import to_thread
from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from promptreel.api.web.errors import ApiError
from promptreel.tables.storage import storage_errors

MAX_FILES: Final = 100
MAX_FIELDS: Final = 20
MAX_FIELD_BYTES: Final = 16 << 10
_MAX_NAME_CHARS: Final = 255
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A file of a form: the name that the client gave it, without folders, and where it is now."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class ReceivedForm:
    """The fields of a form by name, and its files."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[ReceivedFile] = field(default_factory=list)


async def receive_form(
    request: Request, folder: Path, before_files: Callable[[Mapping[str, str]], None]
) -> ReceivedForm:
    """Receive a form. A file input without a file is left out.

    Args:
        folder: gets the files.
        before_files: checks the fields before the first file is written; it may raise. Fields after a file are not
            among them.

    Raises:
        ApiError: 400 if the form is malformed or incomplete, 422 if it has too many parts.
        StorageError: a file cannot be written.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise _malformed("it is not multipart/form-data")
    parts = _FormParts(folder, before_files)
    parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]
    try:
        async for block in request.stream():
            await to_thread.run_sync(parser.write, block)
    except MultipartParseError as error:
        raise _malformed(str(error)) from error
    except ClientDisconnect as error:
        raise _malformed("the client disconnected") from error
    finally:
        parts.close()
    if not parts.is_complete:
        raise _malformed("its end is missing")
    if not parts.has_files:
        before_files(parts.form.fields)
    return parts.form


class _FormParts:
    """Collects the parts of a form as the parser finds them."""

    def __init__(self, folder: Path, before_files: Callable[[Mapping[str, str]], None]) -> None:
        self.form = ReceivedForm()
        self.is_complete = False
        self.has_files = False
        self._folder = folder
        self._before_files = before_files
        self._header = (b"", b"")
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._text = bytearray()
        self._file: BinaryIO | None = None
        self._count = 0

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._start,
            "on_part_data": self._add,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        self._headers = {}
        self._header = (b"", b"")

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0] + data[start:end], b"")

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0], self._header[1] + data[start:end])

    def _header_end(self) -> None:
        self._headers[self._header[0].lower()] = self._header[1]
        self._header = (b"", b"")

    def _start(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._text = bytearray()
        self._count += 1
        if self._count > MAX_FILES + MAX_FIELDS:
            raise _too_many(f"the form has more than {MAX_FILES + MAX_FIELDS} parts")
        if b"filename" not in options:
            return
        if not self.has_files:
            self._before_files(self.form.fields)
            self.has_files = True
        if len(self.form.files) >= MAX_FILES:
            raise _too_many(f"files: there are more than {MAX_FILES}; upload them in several steps")
        path = self._folder / f"file-{len(self.form.files)}"
        self.form.files.append(ReceivedFile(_file_name(options[b"filename"]), path))
        with storage_errors("write", path):
            self._file = path.open("wb")

    def _add(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            with storage_errors("write", self._file.name):
                self._file.write(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > MAX_FIELD_BYTES:
            raise _too_many(f"{self._name[:100]}: has more than {MAX_FIELD_BYTES} bytes")

    def _end(self) -> None:
        if self._file is None:
            self.form.fields[self._name] = self._text.decode("utf-8", "replace")
            return
        with storage_errors("write", self._file.name):
            self.close()
        received = self.form.files[-1]
        if not received.name and not received.path.stat().st_size:
            self.form.files.pop()

    def _finish(self) -> None:
        self.is_complete = True


def _file_name(sent: bytes) -> str:
    """Return the name of a file without folders and control characters. Browsers escape only quotes and line ends."""
    text = sent.decode("utf-8", "replace").replace("%22", '"').replace("%0D", "").replace("%0A", "")
    return _CONTROLS.sub("", re.split(r"[/\\]", text)[-1])[-_MAX_NAME_CHARS:]


def _malformed(reason: str) -> ApiError:
    return ApiError(400, "malformed_request", f"The form cannot be read: {reason}.")


def _too_many(message: str) -> ApiError:
    return ApiError(422, "validation_failed", message, {"errors": [{"path": "", "message": message}]})
