"""Identifiers. All except run ids derive from content and settings, so the same input has the same id in every run."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from promptreel.schemas.errors import MediaError

_DIGEST_CHARS = 24  # 96 bits: the chance of a collision among 10**9 ids is below 10**-10


def canonical_json(value: Any) -> str:
    """Return the value as JSON with sorted keys and no spaces, so that equal values have equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """Return the SHA-256 of the value's canonical JSON as 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hex digits.

    Raises:
        MediaError: `media_not_found` if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MediaError(
            "media_not_found", f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from error


def new_run_id(now: datetime | None = None) -> str:
    """Create a run id that sorts by creation time: `run_20260420-100000-3f9a1c02e7`.

    With 40 random bits, a service that starts a thousand runs a second has one collision in about 600 hours.
    """
    created_at = (now or datetime.now(UTC)).astimezone(UTC)
    return f"run_{created_at:%Y%m%d-%H%M%S}-{secrets.token_hex(5)}"


def video_id_of_content(content_hash: str) -> str:
    """Return the id of a media item (video, audio or image) from the SHA-256 of its content."""
    return f"vid_{content_hash[:_DIGEST_CHARS]}"


def video_id_of_unread(uri: str) -> str:
    """Return the id of an item whose content could not be read, from its URI."""
    return f"vid_{digest(['unread', uri])[:_DIGEST_CHARS]}"


def segment_id_of(video_id: str, segmentation: Mapping[str, Any], start_us: int, end_us: int) -> str:
    """Return the id of one segment: the same item and settings always yield the same ids."""
    return f"seg_{digest([video_id, segmentation, start_us, end_us])[:_DIGEST_CHARS]}"


def prompt_id_of(definition: Mapping[str, Any]) -> str:
    """Return the id of a prompt definition."""
    return f"prompt_{digest(definition)[:_DIGEST_CHARS]}"


def call_id_of(operation_key: str, run_id: str, invoked_at: str, attempt: int) -> str:
    """Return the id of one attempt of one model call."""
    return f"llm_{digest([operation_key, run_id, invoked_at, attempt])[:_DIGEST_CHARS]}"
