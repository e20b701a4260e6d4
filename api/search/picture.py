"""Query images: bounded, decoded by Pillow only, and re-encoded as small PNGs."""

from __future__ import annotations

import base64
import binascii
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from promptreel.api.web.errors import ApiError, invalid

MAX_BYTES: Final = 10 << 20
MAX_PIXELS: Final = 50_000_000
_FORMATS: Final = ("JPEG", "PNG", "WEBP")
_LONGEST_SIDE: Final = 1024  # larger than the input of any CLIP model


def decode_base64(image_data: str) -> bytes:
    """Decode `image_data`.

    Raises:
        ApiError: 422 if it is not base64, 413 if it exceeds MAX_BYTES.
    """
    if image_data.startswith("data:"):
        raise invalid("image_data: must be plain base64, without a data URL prefix", "image_data")
    if len(image_data) > MAX_BYTES * 4 // 3 + 4:
        raise ApiError(413, "media_too_large", f"image_data: exceeds {MAX_BYTES} bytes.")
    try:
        return base64.b64decode(image_data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f"image_data: is not valid base64 ({error})", "image_data") from error


@contextmanager
def as_upright_png(image: bytes) -> Iterator[Path]:
    """Convert the first frame of a JPEG, PNG or WebP to a PNG: upright by its EXIF orientation, longest side at most 1024.

    Raises:
        ApiError: 422 if it is not such an image or exceeds MAX_PIXELS.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(image), formats=_FORMATS) as opened:
            width, height = opened.size
            if width * height > MAX_PIXELS:
                message = (
                    f"image_data: {width} x {height} pixels exceed the limit of {MAX_PIXELS}; send a smaller image"
                )
                raise invalid(message, "image_data")
            opened.draft("RGB", (_LONGEST_SIDE, _LONGEST_SIDE))
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except ApiError:
        raise
    except Exception as error:  # decoders raise many kinds of errors for damaged files
        message = f"image_data: is not a readable JPEG, PNG or WebP ({type(error).__name__}: {error})"
        raise invalid(message, "image_data") from error
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    with tempfile.TemporaryDirectory(prefix="promptreel-picture-") as folder:
        path = Path(folder) / "query.png"
        picture.save(path, compress_level=1)
        yield path
