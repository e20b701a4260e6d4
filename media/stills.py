"""HEIC and AVIF pictures, which a bounded child decodes with Pillow: ffmpeg reads one tile of them, or a part.

The child gives one complete picture, upright and in sRGB, as a BMP, which the decode pass reads as any other picture.
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

_CHILD: Final = Path(__file__).with_name("stills_child.py")
_HEADER_LIMITS: Final = Limits(deadline_s=30.0, memory_bytes=2 << 30, file_bytes=0)
_DECODE_DEADLINE_S: Final = 120.0
_BMP_HEADER_BYTES: Final = 1024  # more than any
_BMP_PIXEL_BYTES: Final = 4  # three, and the padding of a row

_CODECS: Final[dict[StillFormat, str]] = {"heic": "hevc", "avif": "av1"}
# Major brands of the container that both share. The last four leave the codec to the compatible brands.
_HEIC_BRANDS: Final = (b"heic", b"heix", b"heim", b"heis")
_HEIC_SEQUENCE_BRANDS: Final = (b"hevc", b"hevx", b"hevm", b"hevs")
_AVIF_BRANDS: Final = (b"avif", b"avis")
_SHARED_BRANDS: Final = (b"mif1", b"mif2", b"msf1", b"miaf")


def still_format(head: bytes) -> StillFormat | None:
    """The format of a picture that is read here, by the first bytes of its file; None for everything else."""
    major, *compatible = _brands(head)
    if major in _AVIF_BRANDS or (major in _SHARED_BRANDS and not set(_AVIF_BRANDS).isdisjoint(compatible)):
        return "avif"
    if major in _HEIC_BRANDS + _HEIC_SEQUENCE_BRANDS + _SHARED_BRANDS:
        return "heic"
    return None


def is_still(info: MediaInfo) -> bool:
    """Whether a probed file is a picture that is read here."""
    return info.container in _CODECS


def probe_still(path: Path, head: bytes, size_bytes: int, limits: MediaLimits) -> MediaInfo:
    """Reads the header of a picture.

    Args:
        head: first bytes of the file, of which `still_format` knows the format.
        size_bytes: size of the file.

    Raises:
        MediaError: the picture is damaged, a sequence, or over a limit; the message names it and the fix.
    """
    picture_format = still_format(head)
    assert picture_format is not None
    if _brands(head)[0] in (*_HEIC_SEQUENCE_BRANDS, b"msf1") and picture_format == "heic":
        message = f"{path}: is a sequence of HEIC pictures, which promptreel does not read; convert it to MP4"
        raise MediaError("media_unsupported", message)
    found = _call_child(path, picture_format, limits, _HEADER_LIMITS)
    return MediaInfo(
        path=str(path),
        media_type="image",
        container=picture_format,
        size_bytes=size_bytes,
        duration_us=None,
        video=VideoStream(0, _CODECS[picture_format], found["width"], found["height"]),
    )


def decode_still(
    info: MediaInfo, out: Path, limits: MediaLimits, should_stop: Callable[[], bool] | None = None
) -> None:
    """Decodes a probed picture into a BMP: complete, upright, 8 bits of sRGB, transparent parts on white.

    Args:
        out: where the BMP is written.
        should_stop: polled several times a second.

    Raises:
        MediaError: it cannot be decoded, a limit was reached, or (code "cancelled") the decoding was stopped.
    """
    file_bytes = _BMP_HEADER_BYTES + _BMP_PIXEL_BYTES * limits.max_pixels
    bounds = Limits(_DECODE_DEADLINE_S, limits.decode_memory_bytes, file_bytes)
    _call_child(Path(info.path), info.container, limits, bounds, out, should_stop)


def _brands(head: bytes) -> list[bytes]:
    """The major brand of an ISO media file and its compatible ones, as far as `head` holds them."""
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
    answer: list[bytes] = []

    def command(pipes: Mapping[str, int]) -> list[str]:
        arguments = [pipes["answer"], path.absolute(), picture_format, limits.max_pixels]
        if out is not None:
            arguments.append(out.absolute())
        return [sys.executable, "-I", str(_CHILD), *map(str, arguments)]

    try:
        done = stream_bounded(command, {"answer": answer.append}, bounds, should_stop)
    except DeadlinePassed as error:
        message = f"{path}: was not decoded within {bounds.deadline_s:g} s; is the file what it claims to be?"
        raise MediaError("decode_timeout", message, retryable=True) from error
    except Stopped as error:
        raise MediaError("cancelled", f"{path}: stopped while it was decoded", retryable=True) from error
    if done.returncode != 0:
        # A signal is what damaged files do to a decoder; an exit code is the installation's.
        raise failure_of(done, str(path), "media_corrupt" if done.returncode < 0 else "decode_failed")
    found = json.loads(b"".join(answer))
    if "code" in found:
        raise MediaError(found["code"], f"{path}: {found['message']}")
    return dict(found)
