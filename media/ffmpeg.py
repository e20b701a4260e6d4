"""Find a usable ffmpeg, and the input restrictions that every call must pass."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from promptreel.media.formats import DEMUXERS
from promptreel.schemas.errors import MediaError

VARIABLE: Final = "PROMPTREEL_FFMPEG"
# The oldest version that passes the media tests. 5.1, 7.0 and 7.1 do not strip AAC padding, among other differences.
MIN_VERSION: Final = (9, 0)
_REQUIRED_ENCODERS: Final = ("libx264", "aac", "mjpeg", "flac")
_PROBE_TIMEOUT_S: Final = 20

FORMAT_WHITELIST: Final = ",".join(DEMUXERS)
PROTOCOL_WHITELIST: Final = "file"


@dataclass(frozen=True, slots=True)
class Ffmpeg:
    """The ffmpeg in use.

    Attributes:
        source: the name of the environment variable, "imageio-ffmpeg", or "PATH".
    """

    path: str
    version: str
    source: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """An ffmpeg that was examined; `verdict` is its version, or the reason why it is not usable."""

    source: str
    path: str
    usable: bool
    verdict: str


def find_ffmpeg() -> Ffmpeg:
    """Return the first usable ffmpeg: from PROMPTREEL_FFMPEG, bundled with imageio-ffmpeg, or on the PATH.

    Raises:
        MediaError: no ffmpeg is usable; the message gives the reason for each candidate.
    """
    candidates = ffmpeg_candidates()
    for candidate in candidates:
        if candidate.usable:
            return Ffmpeg(candidate.path, candidate.verdict, candidate.source)
    reasons = "; ".join(f"{candidate.source}: {candidate.verdict}" for candidate in candidates)
    fix = f"set {VARIABLE} to another ffmpeg, or unset it" if os.environ.get(VARIABLE) else "pip install imageio-ffmpeg"
    raise MediaError("decode_failed", f"no usable ffmpeg ({reasons}); {fix}", retryable=True)


@functools.cache
def ffmpeg_candidates() -> tuple[Candidate, ...]:
    """Return every ffmpeg that was examined, up to the first usable one.

    The build bundled with imageio-ffmpeg takes precedence over the system's, so that the same packages decode a file
    identically on every machine.
    """
    configured = os.environ.get(VARIABLE)
    if configured:
        return (_examine(VARIABLE, configured),)
    bundled = _bundled()
    return (bundled,) if bundled.usable else (bundled, _on_path())


def input_arguments(path: str, **more: Any) -> dict[str, Any]:
    """Return keyword arguments for `ffmpeg.input` that restrict it to this file, whatever its content claims.

    Args:
        path: local path. The `file:` prefix prevents its name from being parsed as another protocol.
        more: further input options, which override these.
    """
    return {
        "filename": f"file:{path}",
        "format_whitelist": FORMAT_WHITELIST,
        "protocol_whitelist": PROTOCOL_WHITELIST,
        **more,
    }


def _bundled() -> Candidate:
    """Examine the bundled build. Does not call `get_ffmpeg_exe`, which may return the system's ffmpeg instead."""
    try:
        import imageio_ffmpeg
    except ImportError as error:
        return Candidate("imageio-ffmpeg", "", False, str(error))
    builds = sorted((Path(imageio_ffmpeg.__file__).parent / "binaries").glob("ffmpeg-*"))
    if not builds:
        return Candidate("imageio-ffmpeg", "", False, "no bundled ffmpeg for this system")
    return _examine("imageio-ffmpeg", str(builds[-1]))


def _on_path() -> Candidate:
    path = shutil.which("ffmpeg")
    return _examine("PATH", path) if path else Candidate("PATH", "", False, "ffmpeg not found")


def _examine(source: str, path: str) -> Candidate:
    try:
        banner = _run(path, "-version")
        encoders = _run(path, "-hide_banner", "-encoders")
    except (OSError, subprocess.SubprocessError) as error:
        return Candidate(source, path, False, f"{path} does not run ({error})")
    match = re.search(r"ffmpeg version n?(\d+)\.(\d+)(\S*)", banner)
    if match is None:
        return Candidate(source, path, False, f"{path} reports an unknown version: {banner.splitlines()[:1]}")
    version = f"{match.group(1)}.{match.group(2)}{match.group(3)}"
    if (int(match.group(1)), int(match.group(2))) < MIN_VERSION:
        minimum = ".".join(map(str, MIN_VERSION))
        return Candidate(source, path, False, f"{path} is version {version}; it must be {minimum} or newer")
    missing = [name for name in _REQUIRED_ENCODERS if not re.search(rf"^ \S+ {name}\s", encoders, re.MULTILINE)]
    if missing:
        return Candidate(source, path, False, f"{path} lacks encoders: {', '.join(missing)}")
    return Candidate(source, path, True, version)


def _run(path: str, *arguments: str) -> str:
    done = subprocess.run(
        [path, *arguments], capture_output=True, timeout=_PROBE_TIMEOUT_S, check=True, stdin=subprocess.DEVNULL
    )
    return done.stdout.decode("utf-8", "replace")
