"""Read on-screen text from sampled frames with rapidocr."""

from __future__ import annotations

import difflib
import functools
import importlib.util
import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from promptreel.providers.local_models import COMPUTE, cores, shared_model
from promptreel.providers.pictures import PictureSummary, find_repeats, summarize_picture
from promptreel.providers.weights import Weights, package_version
from promptreel.schemas.errors import ModelError
from promptreel.schemas.media import SampledFrame

VERSION: Final = 1
MIN_SCORE: Final = 0.6  # below this the recogniser guesses
# Minimum similarity of two readings of one caption: they differ by a letter or two.
MIN_LINE_SIMILARITY: Final = 0.85
_NUMBER: Final = re.compile(r"\b\d+\b")
_MAX_CACHED_FRAMES: Final = 65_536  # readings cached in memory so that an item's synthesis does not read frames again


@dataclass(frozen=True, slots=True)
class ScreenLine:
    """One line of text, and the times in microseconds of the first and the last sampled frame that shows it."""

    text: str
    first_us: int
    last_us: int


def is_available() -> bool:
    """Return whether on-screen text can be read on this machine."""
    return find_weights().available


def find_weights() -> Weights:
    """Find rapidocr and the models in its wheel; never downloads, unlike the library itself."""
    fix = "pip install 'promptreel[ocr]'"
    package = importlib.util.find_spec("rapidocr")
    if package is None or package.origin is None or importlib.util.find_spec("onnxruntime") is None:
        return Weights("rapidocr", None, reason="rapidocr or onnxruntime is not installed", fix=fix)
    folder = Path(package.origin).parent / "models"
    if len(list(folder.glob("*.onnx"))) < 3:  # one each to detect, rotate and read lines
        return Weights("rapidocr", None, reason=f"{folder} lacks models", fix="pip install --force-reinstall rapidocr")
    return Weights("rapidocr", folder, f"rapidocr {package_version('rapidocr')}")


def fingerprint() -> dict[str, Any]:
    """Return everything that can change a reading: part of the keys of the results that depend on it."""
    return {"reader": "rapidocr", "version": VERSION, "package": package_version("rapidocr")}


def read_screen(
    folder: Path, frames: Sequence[SampledFrame], read: Callable[[Path], tuple[str, ...]] | None = None
) -> tuple[ScreenLine, ...]:
    """Return the lines in the frames of a segment, in order of first appearance; near-identical frames are read once.

    Args:
        folder: the item's analysis folder.
        read: reads one JPEG; by default with rapidocr.

    Raises:
        ModelError: the reader is not installed, or a frame cannot be read.
    """
    read = read or read_lines
    summaries = [_summarize(folder / frame.file) for frame in frames]
    readings: dict[int, tuple[str, ...]] = {}
    lines: list[ScreenLine] = []
    for number, (frame, repeated) in enumerate(zip(frames, find_repeats(summaries), strict=True)):
        readings[number] = readings[repeated] if repeated is not None else read(folder / frame.file)
        for text in readings[number]:
            _add_line(lines, text, frame.time_us)
    return tuple(lines)


@functools.lru_cache(maxsize=_MAX_CACHED_FRAMES)
def read_lines(path: Path) -> tuple[str, ...]:
    """Return the lines of text in one picture from top to bottom; words side by side form one line."""
    engine = shared_model("rapidocr", _load)
    try:
        with COMPUTE:
            found = engine(str(path))
    except Exception as error:  # the library raises different errors in every step
        raise ModelError("embedding_failed", f"{path}: cannot be read ({error})") from error
    if found.boxes is None:
        return ()
    parts = [
        (float(box[:, 1].mean()), float(box[:, 0].min()), float(box[:, 1].max() - box[:, 1].min()), text)
        for box, text, score in zip(found.boxes, found.txts, found.scores, strict=True)
        if score >= MIN_SCORE and text.strip()
    ]
    return _join_lines(parts)


def _summarize(path: Path) -> PictureSummary:
    try:
        return summarize_picture(path)
    except OSError as error:
        raise ModelError("embedding_failed", f"{path}: cannot be read ({error})") from error


def _join_lines(parts: Sequence[tuple[float, float, float, str]]) -> tuple[str, ...]:
    """Join texts, each with its (middle, left, height), into lines: texts whose middles are within half a height of
    each other form one line."""
    lines: list[list[tuple[float, float, float, str]]] = []
    for part in sorted(parts):
        if lines and abs(part[0] - lines[-1][0][0]) < max(part[2], lines[-1][0][2]) / 2:
            lines[-1].append(part)
        else:
            lines.append([part])
    return tuple(" ".join(text.strip() for _, _, _, text in sorted(line, key=lambda part: part[1])) for line in lines)


def _add_line(lines: list[ScreenLine], text: str, time_us: int) -> None:
    for number, line in enumerate(lines):
        if _is_same_line(line.text, text):
            lines[number] = ScreenLine(line.text, line.first_us, time_us)
            return
    lines.append(ScreenLine(text, time_us, time_us))


def _is_same_line(one: str, two: str) -> bool:
    if _NUMBER.findall(one) != _NUMBER.findall(two):
        return False  # a score, clock or episode number that differs in one digit is another line
    one, two = "".join(one.split()).casefold(), "".join(two.split()).casefold()
    return one == two or difflib.SequenceMatcher(None, one, two, autojunk=False).ratio() >= MIN_LINE_SIMILARITY


def _load() -> Any:
    found = find_weights()
    if not found.available:
        raise ModelError("weights_missing", f"{found.reason}; {found.fix}")
    logging.getLogger("RapidOCR").setLevel(logging.WARNING)
    # Otherwise onnxruntime records its use in the home folder and sends it. It reads the variable at import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from rapidocr import RapidOCR

    threads = {"EngineConfig.onnxruntime.intra_op_num_threads": cores(), "Global.log_level": "warning"}
    return RapidOCR(params=threads)
