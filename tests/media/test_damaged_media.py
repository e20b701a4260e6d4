"""Files with flipped bits: the item has a warning if ffmpeg reports an error."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from promptreel.media.analysis import MediaAnalysis, analyze_media
from promptreel.media.decoder_log import ERROR_DETECTION
from promptreel.media.ffmpeg import find_ffmpeg
from promptreel.media.probe import probe_media
from promptreel.schemas.errors import MediaError
from promptreel.schemas.settings import MediaLimits, SamplingSettings
from tests.media_files import X264, ffmpeg, tone, write_sound


@pytest.fixture
def analyzed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], MediaAnalysis]:
    def analyze(path: Path) -> MediaAnalysis:
        folder = tmp_path_factory.mktemp("analysis")
        return analyze_media(probe_media(path), folder, SamplingSettings(), MediaLimits())

    return analyze


def flip_bits(path: Path, seed: int, count: int = 8) -> None:
    content, draw = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(count):
        content[draw.randrange(len(content) // 10, len(content) * 9 // 10)] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def errors_of_ffmpeg(path: Path) -> list[str]:
    """Return the errors that ffmpeg alone reports for the complete file."""
    command = [find_ffmpeg().path, "-nostdin", "-v", "error", "-err_detect", ERROR_DETECTION, "-i", path]
    done = subprocess.run([*command, "-map", "0", "-f", "null", "-"], capture_output=True, check=False)
    lines = done.stderr.decode("utf-8", "replace").splitlines()
    return [line for line in lines if "non monotonically increasing" not in line]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("suffix", ["mp4", "ts", "mkv"])
def test_film_with_flipped_bits_has_a_warning(suffix: str, seed: int, analyzed, tmp_path: Path) -> None:
    path = tmp_path / f"f.{suffix}"
    # Without B-frames every frame is decoded.
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=4", *X264, "-bf", 0, "-g", 25, path)
    flip_bits(path, seed)
    reported = errors_of_ffmpeg(path)
    assert reported
    analysis = analyzed(path)
    assert analysis.decode_errors > 0
    assert {"decode_errors", "decoder_ended_early"} & {warning.code for warning in analysis.warnings}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("suffix", ["flac", "ogg", "opus", "mp3", "m4a"])
def test_sound_with_flipped_bits_has_a_warning(suffix: str, seed: int, analyzed, tmp_path: Path) -> None:
    path = write_sound(tmp_path / f"s.{suffix}", tone(440, 6))
    flip_bits(path, seed)
    reported = errors_of_ffmpeg(path)
    assert reported or suffix in ("mp3", "m4a")  # formats without checksums hide some errors
    try:
        analysis = analyzed(path)
    except MediaError:
        return
    assert bool(analysis.decode_errors) == bool(reported)


@pytest.mark.parametrize(
    ("name", "code", "seconds"),
    [("cut_at_75pct.mp3", "truncated", 3.0), ("truncated_30pct.jpg", "truncated", 0.0)],
)
def test_real_truncated_file_is_reported(name: str, code: str, seconds: float, analyzed, real_media) -> None:
    analysis = analyzed(real_media(f"hard/{name}"))
    assert analysis.truncated
    assert code in [warning.code for warning in analysis.warnings]
    assert analysis.decoded_us / 1e6 == pytest.approx(seconds, abs=0.1)
    assert analysis.duration_us == analysis.decoded_us


@pytest.mark.parametrize("share", [0.3, 0.75])
@pytest.mark.parametrize("suffix", ["jpg", "gif"])
def test_truncated_picture_is_reported(suffix: str, share: float, analyzed, tmp_path: Path) -> None:
    path = tmp_path / f"p.{suffix}"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x180:d=1", "-frames:v", 1, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    analysis = analyzed(path)
    assert (analysis.truncated, analysis.damaged_share) == (True, 1.0)
