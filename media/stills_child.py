"""Write the header of a HEIC or AVIF image as JSON to a file descriptor. A bounded child of `promptreel.media.stills`.

python -I stills_child.py DESCRIPTOR PATH heic|avif MAX_PIXELS MAX_SIDE [OUT]

With OUT, also decode the image and write it there as a BMP.
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
_ORIENTATION: Final = 0x0112  # EXIF tag; values from 5 up swap width and height
_OUT_OF_MEMORY: Final = ("Memory allocation", "Out of memory", "out of memory", "bad_alloc")
_REQUIRED_BOXES: Final = (b"ftyp", b"meta", b"mdat")  # a file that ends inside one of them is truncated


class Rejected(Exception):
    """The image cannot be used.

    Args:
        code: error code.
        message: reason and fix, without the file name.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def read_picture(path: Path, picture_format: str, max_pixels: int, max_side: int, out: Path | None) -> dict[str, int]:
    """Return the display size of the complete image in pixels; if `out` is set, also decode the image to that file.

    The decoded image is reduced by the largest integer factor that leaves its longer side at `max_side` or more.

    Raises:
        Rejected: the image is damaged, animated, uses an unknown codec, or exceeds the limit.
        MemoryError: the decoder ran out of memory.
    """
    data = path.read_bytes()
    if any(kind in _REQUIRED_BOXES and end > len(data) for kind, _, end in boxes(data, 0, len(data))):
        raise Rejected("media_corrupt", f"the file is truncated after {len(data)} bytes; copy it again")
    try:
        image = _OPENERS[picture_format](data)
        image.info.pop("xmp", None)  # Pillow would apply its orientation; the container's takes precedence
        width, height = image.size
        check_size(width, height, max_pixels)
        if picture_format == "avif" and getattr(image, "is_animated", False):
            message = "animated AVIF is not supported; convert it to GIF or MP4"
            raise Rejected("media_unsupported", message)
        if _is_rotated(image):
            width, height = height, width
        if out is not None:
            image.load()
            check_size(*image.size, max_pixels)  # the decoded size may differ from the declared size
            factor = max(image.size) // max_side
            _store(to_upright_srgb(_reduce(image, factor) if factor > 1 else image), out)
    except (Rejected, MemoryError, ImportError):
        raise
    except Exception as error:  # decoders raise many types for damaged files
        raise _rejection(error, data, picture_format, max_pixels) from error
    return {"width": width, "height": height}


def _reduce(image: Image.Image, factor: int) -> Image.Image:
    """Return the image reduced by an integer factor, with its colour profile and orientation."""
    reduced = image.reduce(factor)
    reduced.info = image.info
    return reduced


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise `Rejected` if the image has too many pixels."""
    if width * height > max_pixels:
        message = f"picture size {width}x{height} exceeds the limit of {max_pixels} pixels; scale it down"
        raise Rejected("media_too_large", message)


def to_upright_srgb(image: Image.Image) -> Image.Image:
    """Return the image as a viewer displays it, in mode RGB: upright, transparency on white, colours in sRGB."""
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit greyscale
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
            assert converted is not None  # None only for in-place conversion
            return converted
        except (ImageCms.PyCMSError, OSError):
            pass  # damaged profile, or one for another colour space: viewers ignore it too
    return image.convert("RGB")


def boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, content offset, end offset) of each box in a byte range; the last box may end beyond the data."""
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
    """Yield (width, height) of every image the header declares: the complete image, tiles, thumbnails."""
    for meta in _contents(data, 0, len(data), b"meta"):
        for properties in _contents(data, meta[0] + 4, meta[1], b"iprp"):
            for container in _contents(data, *properties, b"ipco"):
                for start, _ in _contents(data, *container, b"ispe"):
                    width, height = data[start + 4 : start + 8], data[start + 8 : start + 12]
                    yield int.from_bytes(width, "big"), int.from_bytes(height, "big")


def _contents(data: bytes, start: int, end: int, box_type: bytes) -> Iterator[tuple[int, int]]:
    return ((first, stop) for kind, first, stop in boxes(data, start, end) if kind == box_type)


def _open_heic(data: bytes) -> Image.Image:
    from pi_heif import HeifImageFile, options

    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False  # load the primary image only
    options.DECODE_THREADS = _THREADS
    image: Image.Image = HeifImageFile(io.BytesIO(data))
    image.info.pop("exif", None)  # libheif has already applied the container's rotation; EXIF would rotate again
    return image


def _open_avif(data: bytes) -> Image.Image:
    if not features.check("avif"):
        raise Rejected("decode_failed", "the installed Pillow has no AVIF support; pip install 'pillow>=11.3'")
    AvifImagePlugin.DEFAULT_MAX_THREADS = _THREADS
    return AvifImagePlugin.AvifImageFile(io.BytesIO(data))


_OPENERS: Final[dict[str, Callable[[bytes], Image.Image]]] = {"heic": _open_heic, "avif": _open_avif}


def _is_rotated(image: Image.Image) -> bool:
    return int(image.getexif().get(_ORIENTATION, 1)) >= 5


def _store(image: Image.Image, out: Path) -> None:
    try:
        image.save(out, "BMP")
    except OSError as error:
        raise Rejected("decode_failed", f"the decoded picture cannot be stored ({error}); free disk space") from error


def _rejection(error: Exception, data: bytes, picture_format: str, max_pixels: int) -> Exception:
    reason = " ".join(str(error).split())
    try:
        for width, height in declared_sizes(data):
            check_size(width, height, max_pixels)  # the decoders' own size errors do not include the size
    except Rejected as too_large:
        return too_large
    if "Security limit" in reason:
        return Rejected("media_too_large", f"the picture is larger than its header declares ({reason}); scale it down")
    if any(fragment in reason for fragment in _OUT_OF_MEMORY):
        return MemoryError(reason)
    name = picture_format.upper()
    if "has not been built in" in reason or "Unsupported" in reason:
        return Rejected("media_unsupported", f"unsupported kind of {name} ({reason}); convert it to JPEG or PNG")
    message = f"the {name} cannot be read ({reason}); the file is truncated or damaged, so copy it again"
    return Rejected("media_corrupt", message)


def main(
    descriptor: str, path: str, picture_format: str, max_pixels: str, max_side: str, out: str | None = None
) -> None:
    try:
        result: dict[str, int] | dict[str, str]
        result = read_picture(Path(path), picture_format, int(max_pixels), int(max_side), Path(out) if out else None)
    except Rejected as rejected:
        result = {"code": rejected.code, "message": rejected.message}
    except MemoryError as error:
        # `promptreel.media.bounded` recognises ffmpeg's wording
        sys.exit(f"Cannot allocate memory {error}".strip())
    with os.fdopen(int(descriptor), "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
