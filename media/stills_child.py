"""Reads one HEIC or AVIF picture and prints its header as JSON. Runs as a bounded child of `promptreel.media.stills`.

python -I stills_child.py DESCRIPTOR PATH heic|avif MAX_PIXELS [OUT]

With OUT it also decodes the picture and writes it there as a BMP.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from PIL import AvifImagePlugin, Image, ImageCms, ImageOps, features

_THREADS: Final = 2
_ORIENTATION: Final = 0x0112  # EXIF tag; from 5 on the picture lies on its side
_SIGNS_OF_NO_MEMORY: Final = ("Memory allocation", "Out of memory", "out of memory", "bad_alloc")
_PICTURE_BOXES: Final = (b"ftyp", b"meta", b"mdat")  # a file is truncated if it ends inside one of them


class Rejected(Exception):
    """The picture cannot be used.

    Args:
        code: failure code.
        message: the reason and the fix, as they follow the picture's name.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def read_picture(path: Path, picture_format: str, max_pixels: int, out: Path | None) -> dict[str, int]:
    """The size of the complete picture in pixels as it is shown; with `out`, the decoded picture is written there.

    Raises:
        Rejected: the picture is damaged, animated, of an unknown codec, or over the limit.
        MemoryError: the decoder got no memory.
    """
    data = path.read_bytes()
    if any(kind in _PICTURE_BOXES and end > len(data) for kind, _, end in boxes(data, 0, len(data))):
        raise Rejected("media_corrupt", f"the file ends after {len(data)} bytes, in the middle; copy it again")
    try:
        image = _OPENERS[picture_format](data)
        image.info.pop("xmp", None)  # Pillow would take an orientation from it; that of the container counts
        width, height = image.size
        check_size(width, height, max_pixels)
        if picture_format == "avif" and getattr(image, "is_animated", False):
            message = "is an animated AVIF, which promptreel does not read; convert it to GIF or MP4"
            raise Rejected("media_unsupported", message)
        if _is_rotated(image):
            width, height = height, width
        if out is not None:
            image.load()
            check_size(*image.size, max_pixels)  # what was decoded may differ from what the header declares
            _store(to_upright_srgb(image), out)
    except (Rejected, MemoryError, ImportError):
        raise
    except Exception as error:  # decoders raise many kinds for what is damaged
        raise _rejection(error, data, picture_format, max_pixels) from error
    return {"width": width, "height": height}


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raises `Rejected` for a picture over the limit."""
    if width * height > max_pixels:
        message = f"its picture of {width}x{height} is larger than {max_pixels} pixels; scale it down"
        raise Rejected("media_too_large", message)


def to_upright_srgb(image: Image.Image) -> Image.Image:
    """The picture as a viewer shows it, in mode RGB: turned upright, transparent parts on white, colours in sRGB."""
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of grey
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.has_transparency_data:
        shown = Image.new("RGBA", image.size, "white")
        shown.alpha_composite(image.convert("RGBA"))
        image = shown.convert("RGB")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            srgb = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
            assert converted is not None  # None only where it works in place
            return converted
        except (ImageCms.PyCMSError, OSError):
            pass  # a profile that is damaged, or of other colours: viewers ignore it too
    return image.convert("RGB")


def boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, first byte of the content, end) of each box between two positions; the last may end beyond the data."""
    while start + 8 <= min(end, len(data)):
        size, kind, header = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8], 8
        if size == 1:
            size, header = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        elif size == 0:
            size = end - start
        if size < header:
            return
        yield kind, start + header, start + size
        start += size


def declared_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """(width, height) of every picture that the header declares: the complete one, tiles, thumbnails."""
    for meta in _contents(data, 0, len(data), b"meta"):
        for properties in _contents(data, meta[0] + 4, meta[1], b"iprp"):
            for container in _contents(data, *properties, b"ipco"):
                for start, _ in _contents(data, *container, b"ispe"):
                    width, height = data[start + 4 : start + 8], data[start + 8 : start + 12]
                    yield int.from_bytes(width, "big"), int.from_bytes(height, "big")


def _contents(data: bytes, start: int, end: int, wanted: bytes) -> Iterator[tuple[int, int]]:
    return ((first, stop) for kind, first, stop in boxes(data, start, end) if kind == wanted)


def _open_heic(data: bytes) -> Image.Image:
    from pi_heif import HeifImageFile, options

    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False  # the primary picture alone is wanted
    options.DECODE_THREADS = _THREADS
    image: Image.Image = HeifImageFile(io.BytesIO(data))
    image.info.pop("exif", None)  # libheif turns the picture as the container says, which is all that counts
    return image


def _open_avif(data: bytes) -> Image.Image:
    if not features.check("avif"):
        raise Rejected("decode_failed", "this Pillow does not read AVIF; pip install 'pillow>=11.3'")
    AvifImagePlugin.DEFAULT_MAX_THREADS = _THREADS
    return AvifImagePlugin.AvifImageFile(io.BytesIO(data))


_OPENERS: Final[dict[str, Callable[[bytes], Image.Image]]] = {"heic": _open_heic, "avif": _open_avif}


def _is_rotated(image: Image.Image) -> bool:
    return int(image.getexif().get(_ORIENTATION, 1)) >= 5


def _store(image: Image.Image, out: Path) -> None:
    try:
        image.save(out, "BMP")
    except OSError as error:
        raise Rejected("decode_failed", f"the decoded picture cannot be stored ({error}); free space") from error


def _rejection(error: Exception, data: bytes, picture_format: str, max_pixels: int) -> Exception:
    reason = " ".join(str(error).split())
    try:
        for width, height in declared_sizes(data):
            check_size(width, height, max_pixels)  # the decoders have limits of their own, and do not name the size
    except Rejected as too_large:
        return too_large
    if "Security limit" in reason:
        return Rejected("media_too_large", f"its picture is larger than its header declares ({reason}); scale it down")
    if any(sign in reason for sign in _SIGNS_OF_NO_MEMORY):
        return MemoryError(reason)
    name = picture_format.upper()
    if "has not been built in" in reason or "Unsupported" in reason:
        return Rejected("media_unsupported", f"this kind of {name} is not read ({reason}); convert it to JPEG or PNG")
    message = f"the {name} cannot be read ({reason}); it was cut off or damaged, so copy it again"
    return Rejected("media_corrupt", message)


def main(descriptor: str, path: str, picture_format: str, max_pixels: str, out: str | None = None) -> None:
    try:
        answer: dict[str, int] | dict[str, str]
        answer = read_picture(Path(path), picture_format, int(max_pixels), Path(out) if out else None)
    except Rejected as rejected:
        answer = {"code": rejected.code, "message": rejected.message}
    except MemoryError as error:
        sys.exit(
            f"Cannot allocate memory {error}".strip()
        )  # the words that `promptreel.media.bounded` knows from ffmpeg
    with os.fdopen(int(descriptor), "w") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
