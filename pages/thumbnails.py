"""Thumbnails of sampled frames, inlined in the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from PIL import Image

from promptreel.schemas.errors import StorageError
from promptreel.tables.storage import Storage

SIZE: Final = (160, 160)  # maximum width and height in pixels
_QUALITY: Final = 60
_THREADS: Final = 8
_FOLDER: Final = "cache/analysis"


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with its size in pixels; `uri` is its address in the page."""

    uri: str
    width: int
    height: int


def inline_pictures(storage: Storage, files: Collection[str]) -> dict[str, Picture]:
    """Return thumbnails of frames, by their path in the data folder. A missing or unreadable frame has none."""
    with ThreadPoolExecutor(_THREADS) as pool:
        pictures = pool.map(lambda file: _inline_picture(storage, file), files)
        return {file: picture for file, picture in zip(files, pictures, strict=True) if picture is not None}


def scale(content: bytes) -> tuple[bytes, int, int] | None:
    """Scale a JPEG down to `SIZE`; return the new JPEG with its width and height. None if it cannot be decoded."""
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            image.draft("RGB", SIZE)
            small = image.convert("RGB")
            small.thumbnail(SIZE)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    scaled = io.BytesIO()
    small.save(scaled, "JPEG", quality=_QUALITY, optimize=True)
    return scaled.getvalue(), small.width, small.height


def _inline_picture(storage: Storage, file: str) -> Picture | None:
    path = PurePosixPath(file)
    if not path.is_relative_to(_FOLDER) or ".." in path.parts:
        return None  # tables of another origin must not read other files
    try:
        scaled = scale(storage.read_bytes(file))
    except (FileNotFoundError, StorageError):
        return None
    if scaled is None:
        return None
    content, width, height = scaled
    return Picture(f"data:image/jpeg;base64,{base64.b64encode(content).decode()}", width, height)
