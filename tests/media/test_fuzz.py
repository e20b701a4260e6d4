"""Mutants of real media: no crash, no hang, and no complete item without a warning where ffmpeg reports an error.

The long matrix (2,000 mutants and 200 truncations) runs with: pytest -m slow tests/media/test_fuzz.py
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from promptreel.media.analysis import MediaAnalysis, analyze_media
from promptreel.media.decoder_log import ERROR_DETECTION
from promptreel.media.ffmpeg import find_ffmpeg
from promptreel.media.probe import probe_media
from promptreel.schemas.errors import MediaError
from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.settings import MediaLimits, SamplingSettings

HANG_S = 30.0
# file, mutants and truncations of the long matrix
FILES = (
    ("big_buck_bunny_0_30.webm", 60, 20),
    ("jfk.flac", 280, 30),
    ("hard/colour_change_concat.mp4", 330, 30),
    ("hard/cut_at_75pct.mp3", 330, 30),
    ("hard/h_arrow.heic", 80, 30),
    ("hard/resolution_change.ts", 330, 20),
    ("hard/sound_change.ts", 280, 20),
    ("hard/truncated_30pct.jpg", 310, 20),
)


def mutant(content: bytes, seed: int) -> bytes:
    """Flip bits, overwrite, remove or repeat a part."""
    rng = random.Random(seed)
    data = bytearray(content)
    kind = seed % 4
    at = rng.randrange(len(data))
    length = rng.choice((1, 16, 256, 4096))
    if kind == 0:
        for _ in range(rng.choice((1, 4, 32))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[at : at + length] = rng.randbytes(len(data[at : at + length]))
    elif kind == 2:
        del data[at : at + length]
    else:
        data[at:at] = data[at : at + length]
    return bytes(data)


def truncation(content: bytes, seed: int) -> bytes:
    return content[: random.Random(seed).randrange(1, len(content))]


def check(path: Path, folder: Path) -> None:
    """Analyze one file as a run does."""
    folder.mkdir()
    started = time.monotonic()
    try:
        info = probe_media(path)
        analysis = analyze_media(info, folder, SamplingSettings(), MediaLimits())
    except MediaError as error:
        if error.code not in FAILURE_CODES:
            raise
        return
    assert time.monotonic() - started < HANG_S
    assert analysis.duration_us >= 0
    if not analysis.warnings:
        assert not ffmpeg_reports_an_error(path, analysis), "ffmpeg reports an error, the item has no warning"


def ffmpeg_reports_an_error(path: Path, analysis: MediaAnalysis) -> bool:
    """Whether ffmpeg alone, told to decode what the product decodes, reports an error."""
    info = analysis.info
    if info.container in ("heic", "avif"):
        return False  # not decoded by ffmpeg
    maps: list[str] = []
    if info.video is not None:
        maps += ["-map", f"0:{info.video.index}"]
    if info.audio_index is not None:
        maps += ["-map", f"0:{info.audio_index}"]
    command = [find_ffmpeg().path, "-nostdin", "-v", "error", "-err_detect", ERROR_DETECTION]
    if info.video is not None and info.video.has_b_frames:
        command += ["-skip_frame", "noref"]  # damage in skipped frames is not seen
    done = subprocess.run(
        [*command, "-i", path, *maps, "-f", "null", "-"], capture_output=True, timeout=60, check=False
    )
    lines = done.stderr.decode("utf-8", "replace").splitlines()
    return any(
        not line.startswith(("[null @", "[out#")) for line in lines
    )  # errors of its output say nothing of the file


@pytest.mark.parametrize(("name", "mutants"), [(name, 4 if mutants > 100 else 1) for name, mutants, _ in FILES])
def test_few_mutants(name: str, mutants: int, real_media: Callable[[str], Path], tmp_path: Path) -> None:
    content = real_media(name).read_bytes()
    for seed in range(mutants):
        path = tmp_path / f"m{seed}{Path(name).suffix}"
        path.write_bytes(mutant(content, seed))
        check(path, tmp_path / str(seed))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mutants", "truncations"), FILES)
def test_many_mutants(
    name: str, mutants: int, truncations: int, real_media: Callable[[str], Path], tmp_path: Path
) -> None:
    content = real_media(name).read_bytes()
    wrong = []
    for kind, change, count in (("mutant", mutant, mutants), ("truncation", truncation, truncations)):
        for seed in range(1000, 1000 + count):
            path = tmp_path / f"{kind}-{seed}{Path(name).suffix}"
            path.write_bytes(change(content, seed))
            try:
                check(path, tmp_path / f"{kind}-{seed}")
            except Exception as error:
                wrong.append(f"{path.name}: {error!r}")
    assert not wrong
