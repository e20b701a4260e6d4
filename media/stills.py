"""Probe and decode HEIC and AVIF images with Pillow in a bounded child: ffmpeg may read only one tile or part of them.

The child writes the complete image as a BMP, upright and in sRGB. The decode pass reads that like any other image.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from promptreel.media.bounded import DeadlinePassed, Limits, Stopped, failure_of, stream_bounded
from promptreel.schemas.errors import MediaError
from promptreel.schemas.media import MediaInfo, VideoStream
from promptreel.schemas.settings import MediaLimits

StillFormat = Literal["heic", "avif"]

MAX_IMAGE_SIDE: Final = 1568  # of the frame of an image: two of the models' 768-pixel tiles and a margin

_CHILD: Final = Path(__file__).with_name("stills_child.py")
_HEADER_LIMITS: Final = Limits(deadline_s=30.0, memory_bytes=2 << 30, file_bytes=0)
_DECODE_DEADLINE_S: Final = 120.0
_BMP_HEADER_BYTES: Final = 1024  # upper bound
_BMP_PIXEL_BYTES: Final = 4  # three, plus row padding

_CODECS: Final[dict[StillFormat, str]] = {"heic": "hevc", "avif": "av1"}
# Major brands of the container that both formats use. With a shared brand, the compatible brands determine the codec.
_HEIC_BRANDS: Final = (b"heic", b"heix", b"heim", b"heis")
_HEIC_SEQUENCE_BRANDS: Final = (b"hevc", b"hevx", b"hevm", b"hevs")
_AVIF_BRANDS: Final = (b"avif", b"avis")
_SHARED_BRANDS: Final = (b"mif1", b"mif2", b"msf1", b"miaf")


def still_format(head: bytes) -> StillFormat | None:
    """Return the format of a HEIC or AVIF image, given the first bytes of the file; None for other files."""
    major, *compatible = _brands(head)
    if major in _AVIF_BRANDS or (major in _SHARED_BRANDS and not set(_AVIF_BRANDS).isdisjoint(compatible)):
        return "avif"
    if major in _HEIC_BRANDS + _HEIC_SEQUENCE_BRANDS + _SHARED_BRANDS:
        return "heic"
    return None


def is_still(info: MediaInfo) -> bool:
    """Return whether a probed file is a HEIC or AVIF image."""
    return info.container in _CODECS


def probe_still(path: Path, head: bytes, size_bytes: int, limits: MediaLimits) -> MediaInfo:
    """Read the header of a HEIC or AVIF image.

    Args:
        head: first bytes of the file; `still_format(head)` must not be None.
        size_bytes: file size.

    Raises:
        MediaError: the image is damaged, a sequence, or exceeds a limit; the message names the file and the fix.
    """
    picture_format = still_format(head)
    assert picture_format is not None
    if _brands(head)[0] in (*_HEIC_SEQUENCE_BRANDS, b"msf1") and picture_format == "heic":
        message = f"{path}: HEIC image sequences are not supported; convert it to MP4"
        raise MediaError("media_unsupported", message)
    header = _call_child(path, picture_format, limits, _HEADER_LIMITS)
    return MediaInfo(
        path=str(path),
        media_type="image",
        container=picture_format,
        size_bytes=size_bytes,
        duration_us=None,
        video=VideoStream(0, _CODECS[picture_format], header["width"], header["height"]),
    )


def decode_still(
    info: MediaInfo, out: Path, limits: MediaLimits, should_stop: Callable[[], bool] | None = None
) -> None:
    """Decode a probed image to BMP: complete, upright, 8-bit sRGB, transparency on white, scaled towards MAX_IMAGE_SIDE.

    Args:
        out: path of the BMP.
        should_stop: polled several times a second.

    Raises:
        MediaError: the image cannot be decoded, a limit was reached, or (code "cancelled") `should_stop` returned True.
    """
    file_bytes = _BMP_HEADER_BYTES + _BMP_PIXEL_BYTES * limits.max_image_pixels
    bounds = Limits(_DECODE_DEADLINE_S, limits.decode_memory_bytes, file_bytes)
    _call_child(Path(info.path), info.container, limits, bounds, out, should_stop)


def _brands(head: bytes) -> list[bytes]:
    """Return the major brand of an ISO media file and the compatible brands contained in `head`."""
    if head[4:8] != b"ftyp":
        return [b""]
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return [head[8:12], *(head[at : at + 4] for at in range(16, end, 4))]


def _call_child(
    path: Path,
    picture_format: str,
    limits: MediaLimits,
    bounds: Limits,
    out: Path | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    output: list[bytes] = []

    def command(pipes: Mapping[str, int]) -> list[str]:
        arguments = [pipes["output"], path.absolute(), picture_format, limits.max_image_pixels, MAX_IMAGE_SIDE]
        if out is not None:
            arguments.append(out.absolute())
        return [sys.executable, "-I", str(_CHILD), *map(str, arguments)]

    try:
        done = stream_bounded(command, {"output": output.append}, bounds, should_stop)
    except DeadlinePassed as error:
        message = (
            f"{path}: decoding took longer than {bounds.deadline_s:g} s; check that the file is what it claims to be"
        )
        raise MediaError("decode_timeout", message, retryable=True) from error
    except Stopped as error:
        raise MediaError("cancelled", f"{path}: decoding was cancelled", retryable=True) from error
    if done.returncode != 0:
        # Damaged files crash the decoder with a signal; an exit code means a broken installation.
        raise failure_of(done, str(path), "media_corrupt" if done.returncode < 0 else "decode_failed")
    result = json.loads(b"".join(output))
    if "code" in result:
        raise MediaError(result["code"], f"{path}: {result['message']}")
    return dict(result)
