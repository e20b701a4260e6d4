"""The Files API: a resumable upload is PROCESSING for some time, then ACTIVE or FAILED."""

import secrets
import time
from dataclasses import dataclass

from starlette.responses import JSONResponse

from tests.fake_gemini.faults import error_body


@dataclass
class StoredFile:
    """An uploaded file."""

    name: str
    mime_type: str
    content: bytes = b""
    finished_at: float | None = None


class FileStore:
    """Uploaded files by name ("files/abc").

    Args:
        processing_s: how long an upload stays PROCESSING.
        fails: uploads become FAILED.
    """

    def __init__(self, base_url, processing_s=0.0, fails=False):
        self.base_url = base_url
        self.processing_s = processing_s
        self.fails = fails
        self.files = {}
        self.deleted = {}  # files deleted by request

    def start(self, mime_type, name=None):
        """Start an upload; its bytes follow."""
        stored = StoredFile(name or f"files/{secrets.token_hex(6)}", mime_type)
        self.files[stored.name] = stored
        return stored

    def clear(self):
        """Drop all files."""
        self.files.clear()
        self.deleted.clear()

    def state(self, stored):
        """Return PROCESSING, ACTIVE or FAILED."""
        if stored.finished_at is None or time.monotonic() - stored.finished_at < self.processing_s:
            return "PROCESSING"
        return "FAILED" if self.fails else "ACTIVE"

    def by_uri(self, uri):
        """Return the ACTIVE file of a URI; None if there is no such file."""
        stored = self.files.get(uri.rsplit("/v1/", 1)[-1])
        return stored if stored is not None and self.state(stored) == "ACTIVE" else None

    def respond(self, method, name):
        """Answer a request to get or delete a file."""
        stored = self.files.get(name)
        if stored is None:
            return JSONResponse(error_body(403, "the file does not exist, or permission is missing"), status_code=403)
        if method == "DELETE":
            self.deleted[name] = self.files.pop(name)
            return JSONResponse({})
        return JSONResponse(self.describe(stored))

    def describe(self, stored):
        """Return a file resource like the service's."""
        failed = self.state(stored) == "FAILED"
        return ({"error": {"code": 3, "message": "the file could not be processed"}} if failed else {}) | {
            "name": stored.name,
            "mimeType": stored.mime_type,
            "sizeBytes": str(len(stored.content)),
            "uri": f"{self.base_url}/v1/{stored.name}",
            "state": self.state(stored),
            "createTime": "2026-01-01T00:00:00Z",
        }
