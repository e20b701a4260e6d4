"""Accuracy of shot detection (cuts and gradual transitions), compared with PySceneDetect.

    python -m benchmarks shot_detection                         # generated films, both halves
    python -m benchmarks shot_detection --real FILM --labels FILM.csv

A label is found if a detection is within 0.25 s of it. A gradual label is the interval from the last frame that only shows
the old shot to the first that only shows the new one; a detection within 0.25 s of the interval finds it. Labels and
detections are paired one to one, nearest first, regardless of the detected kind. F1 on cuts is computed from the cut labels,
the found cut labels, and the false detections classified as cuts; F1 on gradual transitions likewise, with detections
classified as dissolves or fades; the overall F1 from all. PySceneDetect classifies every detection as a cut.

The product's detector was tuned on the TUNE half only. PySceneDetect runs AdaptiveDetector with the best settings of its own
project's parameter sweep: adaptive_threshold 3.5, window_width 3, min_scene_len 0.6 s.

A labels file has one line per transition, `kind,start_s,end_s`; lines that start with `#` are ignored.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.film_files import write_film
from benchmarks.film_plans import GROUPS, Half, Label
from benchmarks.films import plan_films
from benchmarks.report import print_bar
from promptreel.media.ffmpeg import find_ffmpeg
from promptreel.media.shots import (
    FRAME_HEIGHT,
    FRAME_WIDTH,
    FeatureBuilder,
    ShotSettings,
    Transition,
    detect_transitions,
)

TOLERANCE_US = 250_000
_HEAD = f"{'':26}F1 cuts  gradual  overall   cuts found           gradual found"
_HALVES: tuple[Half, ...] = ("TUNE", "REPORT")


@dataclass(slots=True)
class Tally:
    """Counts of labels, found labels and false detections, for cuts and for gradual transitions."""

    cuts: int = 0
    cuts_found: int = 0
    cuts_false: int = 0
    gradual: int = 0
    gradual_found: int = 0
    gradual_false: int = 0

    def add(self, other: Tally) -> None:
        for field in fields(Tally):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def f1(self) -> tuple[float, float]:
        """Return (F1 on cuts, overall F1)."""
        cuts = _f1(self.cuts_found, self.cuts, self.cuts_false)
        overall = _f1(
            self.cuts_found + self.gradual_found,
            self.cuts + self.gradual,
            self.cuts_false + self.gradual_false,
        )
        return cuts, overall

    def row(self) -> str:
        cuts, overall = self.f1()
        gradual = _f1(self.gradual_found, self.gradual, self.gradual_false)
        return (
            f"{cuts:8.3f}{gradual:9.3f}{overall:9.3f}"
            f"   {self.cuts_found:3d}/{self.cuts:<3d}{self.cuts_false:4d} false"
            f"   {self.gradual_found:3d}/{self.gradual:<3d}{self.gradual_false:4d} false"
        )


def _f1(found: int, labels: int, false: int) -> float:
    return 2 * found / (found + false + labels) if found + false + labels else 1.0


def match(labels: Sequence[Label], detected_us: Sequence[int]) -> dict[int, int]:
    """Pair labels and detections one to one, nearest first; return label index -> detection index."""
    pairs = []
    for number, label in enumerate(labels):
        for other, at in enumerate(detected_us):
            distance = max(label.start_us - at, at - label.end_us, 0)
            if distance <= TOLERANCE_US:
                pairs.append((distance, abs(at - (label.start_us + label.end_us) // 2), number, other))
    found: dict[int, int] = {}
    for _, _, number, other in sorted(pairs):
        if number not in found and other not in found.values():
            found[number] = other
    return found


def score(labels: Sequence[Label], detected_us: Sequence[int], kinds: Sequence[str]) -> Tally:
    """Count labels and detections by the rules in the module docstring."""
    found = match(labels, detected_us)
    tally = Tally()
    for number, label in enumerate(labels):
        if label.kind == "cut":
            tally.cuts += 1
            tally.cuts_found += number in found
        else:
            tally.gradual += 1
            tally.gradual_found += number in found
    for other in set(range(len(detected_us))) - set(found.values()):
        if kinds[other] == "cut":
            tally.cuts_false += 1
        else:
            tally.gradual_false += 1
    return tally


def read_frames(path: Path, skip_noref: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return all (or all reference) frames, uint8[n, 36, 64, 3], and their times in microseconds, int64[n].

    Raises:
        RuntimeError: ffmpeg failed, or returned different numbers of frames and times.
    """
    with tempfile.TemporaryDirectory() as folder:
        times_file = Path(folder) / "times"
        command = [
            find_ffmpeg().path,
            "-v",
            "error",
            *(["-skip_frame", "noref"] if skip_noref else []),
            "-i",
            str(path),
            "-map",
            "0:v:0",
            "-vf",
            f"scale={FRAME_WIDTH}:{FRAME_HEIGHT}:flags=area,metadata=mode=add:key=k:value=1,metadata=mode=print:file={times_file}",
            "-fps_mode",
            "passthrough",
            "-pix_fmt",
            "rgb24",
            "-f",
            "rawvideo",
            "-",
        ]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(
                f"ffmpeg could not read {path} (exit {done.returncode}): {done.stderr.decode(errors='replace')[-500:]}"
            )
        lines = [line for line in times_file.read_text().splitlines() if line.startswith("frame:")]
    times = np.array([round(float(line.rsplit("pts_time:", 1)[1]) * 1e6) for line in lines], dtype=np.int64)
    frames = np.frombuffer(done.stdout, np.uint8).reshape(-1, FRAME_HEIGHT, FRAME_WIDTH, 3)
    if len(frames) != len(times):
        raise RuntimeError(f"ffmpeg returned {len(frames)} frames but {len(times)} times for {path}")
    return frames, times


def detect(path: Path, skip_noref: bool, settings: ShotSettings) -> tuple[tuple[Transition, ...], float, int]:
    """Return a file's transitions, the seconds for features and detection (not decoding), and the frame count."""
    frames, times = read_frames(path, skip_noref)
    start = time.process_time()
    builder = FeatureBuilder()
    builder.add(frames, times)
    found = detect_transitions(builder.build(), settings)
    return found, time.process_time() - start, len(frames)


def detect_with_pyscenedetect(path: Path) -> list[int]:
    """Return cut times in microseconds from AdaptiveDetector with the best settings of its parameter sweep."""
    from scenedetect import AdaptiveDetector, SceneManager, open_video

    video = open_video(str(path))
    manager = SceneManager()
    manager.add_detector(
        AdaptiveDetector(adaptive_threshold=3.5, window_width=3, min_scene_len=round(0.6 * float(video.frame_rate)))
    )
    manager.detect_scenes(video)
    return [round(start.seconds * 1e6) for start, _ in manager.get_scene_list()[1:]]


def read_labels(path: Path) -> list[Label]:
    """Read labels from lines of `kind,start_s,end_s`.

    Raises:
        ValueError: a line is invalid.
    """
    labels = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            kind, start, end = (part.strip() for part in line.split(","))
            if kind not in ("cut", "dissolve", "fade", "wipe"):
                raise ValueError(f"kind is {kind!r}; it must be cut, dissolve, fade or wipe")
            labels.append(Label(kind, round(float(start) * 1e6), round(float(end) * 1e6)))  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {line!r} is not kind,start_s,end_s: {error}") from error
    return labels


def _explain(name: str, labels: Sequence[Label], detected_us: Sequence[int], kinds: Sequence[str]) -> None:
    found = match(labels, detected_us)
    for number, label in enumerate(labels):
        if number not in found:
            print(f"    {name}: missed {label.kind} {label.start_us / 1e6:.2f}-{label.end_us / 1e6:.2f} s")
    for other, at in enumerate(detected_us):
        if other not in found.values():
            print(f"    {name}: false {kinds[other]} at {at / 1e6:.2f} s")


_ROWS = ("all frames", "reference frames", "PySceneDetect")


def run_generated(
    halves: Sequence[Half], explain: bool, settings: ShotSettings, folder: Path, rows: Sequence[str] = _ROWS
) -> dict[tuple[Half, str], Tally]:
    """Run the detectors on the generated films; print the tallies, also by group, and return them.

    Films that are missing in `folder` are rendered first.
    """
    tallies = {(half, row): Tally() for half in halves for row in rows}
    groups = {(half, group, row): Tally() for half in halves for group in GROUPS for row in rows}
    spent, seen = 0.0, 0
    for half in halves:
        for plan in plan_films(half):
            path = folder / f"{plan.name}.mp4"
            if not path.exists():
                write_film(plan, folder)
            for row in rows:
                if row == "PySceneDetect":
                    at = detect_with_pyscenedetect(path)
                    kinds = ["cut"] * len(at)
                else:
                    found, seconds, count = detect(path, row == "reference frames", settings)
                    at, kinds = [t.at_us for t in found], [t.kind for t in found]
                    spent, seen = spent + seconds, seen + count
                tally = score(plan.labels, at, kinds)
                tallies[half, row].add(tally)
                groups[half, plan.group, row].add(tally)
                if explain:
                    _explain(f"{plan.name}, {row}", plan.labels, at, kinds)
    print("\n" + _HEAD)
    for half in halves:
        for row in rows:
            print(f"{half:7} {row:17} {tallies[half, row].row()}")
    for half in halves:
        for row in rows:
            print(f"\n{half}, {row}, by group")
            for group in GROUPS:
                print(f"{'':7} {group:17} {groups[half, group, row].row()}")
    print()
    if "REPORT" in halves and "PySceneDetect" in rows:
        for row in rows:
            if row != "PySceneDetect":
                _print_bars(row, tallies["REPORT", row], tallies["REPORT", "PySceneDetect"])
    print(f"features and detection: {seen / max(spent, 1e-9):,.0f} frames per CPU second")
    return tallies


def _print_bars(row: str, own: Tally, peer: Tally) -> None:
    cuts, overall = own.f1()
    print_bar(f"F1 on cuts, REPORT, {row}", f"{cuts:.3f} (peer {peer.f1()[0]:.3f})", ">= 0.98", cuts >= 0.98)
    print_bar(f"F1 overall, REPORT, {row}", f"{overall:.3f} (peer {peer.f1()[1]:.3f})", ">= 0.92", overall >= 0.92)


def run_real(path: Path, labels: Sequence[Label] | None, settings: ShotSettings) -> None:
    """Print the detections of both detectors in a real film and, with labels, their accuracy."""
    overall = {}
    for row in _ROWS:
        if row == "PySceneDetect":
            listed = [("cut", at, "") for at in detect_with_pyscenedetect(path)]
        else:
            found = detect(path, row == "reference frames", settings)[0]
            listed = [
                (t.kind, t.at_us, f" ({t.start_us / 1e6:.2f}-{t.end_us / 1e6:.2f}, score {t.score:.2f})") for t in found
            ]
        print(f"\n{path.name}, {row}: {len(listed)} found")
        for kind, at, more in listed:
            print(f"  {at / 1e6:8.3f} s  {kind}{more}")
        if labels is not None:
            tally = score(labels, [at for _, at, _ in listed], [kind for kind, _, _ in listed])
            print(f"{_HEAD}\n{row:25} {tally.row()}")
            _explain(row, labels, [at for _, at, _ in listed], [kind for kind, _, _ in listed])
            overall[row] = tally.f1()[1]
    if overall:
        own, peer = min(overall[row] for row in _ROWS[:2]), overall["PySceneDetect"]
        print_bar(f"F1 overall, {path.name}", f"{own:.3f} (peer {peer:.3f})", ">= peer", own >= peer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=_HALVES, help="only this half of the generated films")
    parser.add_argument("--explain", action="store_true", help="print all missed labels and false detections")
    parser.add_argument("--no-peer", action="store_true", help="skip PySceneDetect on the generated films")
    parser.add_argument("--keep", type=Path, help="store generated films in this folder and reuse them")
    parser.add_argument("--real", type=Path, nargs="+", help="real films to use instead of the generated ones")
    parser.add_argument("--labels", type=Path, nargs="+", help="one labels file per --real film")
    options = parser.parse_args()
    if options.labels and len(options.labels) != len(options.real or ()):
        parser.error(
            f"--labels has {len(options.labels)} files; it needs one per --real film ({len(options.real or ())})"
        )
    if options.real:
        for number, path in enumerate(options.real):
            run_real(path, read_labels(options.labels[number]) if options.labels else None, ShotSettings())
        return
    halves: tuple[Half, ...] = (options.half,) if options.half else _HALVES
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        rows = _ROWS[:2] if options.no_peer else _ROWS
        run_generated(halves, options.explain, ShotSettings(), folder, rows)


if __name__ == "__main__":
    main()
