"""Which ffmpeg is used, and the limits that every call of it carries."""

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
# The oldest that the media tests pass with. 5.1, 7.0 and 7.1 leave the padding of AAC in the sound, among other differences.
OLDEST: Final = (9, 0)
_NEEDED_ENCODERS: Final = ("libx264", "aac", "mjpeg", "flac")
_PROBE_TIMEOUT_S: Final = 20

FORMAT_WHITELIST: Final = ",".join(DEMUXERS)
PROTOCOL_WHITELIST: Final = "file"


@dataclass(frozen=True, slots=True)
class Ffmpeg:
    """The ffmpeg in use.

    Attributes:
        source: where it was found: the environment variable, "imageio-ffmpeg", or "PATH".
    """

    path: str
    version: str
    source: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """An ffmpeg that was looked at; `verdict` says why it is not usable, or its version."""

    source: str
    path: str
    usable: bool
    verdict: str


def find_ffmpeg() -> Ffmpeg:
    """The first usable ffmpeg: PROMPTREEL_FFMPEG, the one that imageio-ffmpeg carries, the one on the PATH.

    Raises:
        MediaError: there is none; the message says why each was passed over.
    """
    candidates = ffmpeg_candidates()
    for candidate in candidates:
        if candidate.usable:
            return Ffmpeg(candidate.path, candidate.verdict, candidate.source)
    reasons = "; ".join(f"{candidate.source}: {candidate.verdict}" for candidate in candidates)
    fix = f"name another in {VARIABLE}, or unset it" if os.environ.get(VARIABLE) else "pip install imageio-ffmpeg"
    raise MediaError("decode_failed", f"no usable ffmpeg ({reasons}); {fix}", retryable=True)


@functools.cache
def ffmpeg_candidates() -> tuple[Candidate, ...]:
    """Every ffmpeg that was examined, up to the first usable one.

    The build inside imageio-ffmpeg comes before the system's, which is not even started then: the same packages decode
    the same file alike on every machine.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return (_examine(VARIABLE, named),)
    carried = _carried()
    return (carried,) if carried.usable else (carried, _on_path())


def input_arguments(path: str, **more: Any) -> dict[str, Any]:
    """Keyword arguments of `ffmpeg.input`: the file and nothing else, whatever it claims to be.

    Args:
        path: local path. The `file:` prefix keeps its name from being read as another protocol.
        more: further input options, which win over these.
    """
    return {
        "filename": f"file:{path}",
        "format_whitelist": FORMAT_WHITELIST,
        "protocol_whitelist": PROTOCOL_WHITELIST,
        **more,
    }


def _carried() -> Candidate:
    """The build inside the package. Its `get_ffmpeg_exe` may name one of the system instead, so it is not called."""
    try:
        import imageio_ffmpeg
    except ImportError as error:
        return Candidate("imageio-ffmpeg", "", False, str(error))
    builds = sorted((Path(imageio_ffmpeg.__file__).parent / "binaries").glob("ffmpeg-*"))
    if not builds:
        return Candidate("imageio-ffmpeg", "", False, "it carries no ffmpeg for this system")
    return _examine("imageio-ffmpeg", str(builds[-1]))


def _on_path() -> Candidate:
    path = shutil.which("ffmpeg")
    return _examine("PATH", path) if path else Candidate("PATH", "", False, "no ffmpeg found")


def _examine(source: str, path: str) -> Candidate:
    try:
        banner = _ask(path, "-version")
        encoders = _ask(path, "-hide_banner", "-encoders")
    except (OSError, subprocess.SubprocessError) as error:
        return Candidate(source, path, False, f"{path} does not run ({error})")
    match = re.search(r"ffmpeg version n?(\d+)\.(\d+)(\S*)", banner)
    if match is None:
        return Candidate(source, path, False, f"{path} is of an unknown version: {banner.splitlines()[:1]}")
    version = f"{match.group(1)}.{match.group(2)}{match.group(3)}"
    if (int(match.group(1)), int(match.group(2))) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return Candidate(source, path, False, f"{path} is version {version}; it must be {oldest} or newer")
    missing = [name for name in _NEEDED_ENCODERS if not re.search(rf"^ \S+ {name}\s", encoders, re.MULTILINE)]
    if missing:
        return Candidate(source, path, False, f"{path} lacks {', '.join(missing)}")
    return Candidate(source, path, True, version)


def _ask(path: str, *arguments: str) -> str:
    done = subprocess.run(
        [path, *arguments], capture_output=True, timeout=_PROBE_TIMEOUT_S, check=True, stdin=subprocess.DEVNULL
    )
    return done.stdout.decode("utf-8", "replace")
