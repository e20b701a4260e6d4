"""Peak memory of the runner for a long film and for many short items.

    python -m benchmarks memory [--quick]

The complete runner process, with the built-in model, processes a two-hour 1080p film with a cut every six seconds, then 20,
200 and 2,000 short items. The figure is the runner's peak resident memory as recorded by the kernel (VmHWM). The largest
ffmpeg child and the largest probe child are shown separately. The runner should stay below 1 GB, and its memory should not
grow with the number of items.

The film is one encoded minute, repeated by stream copy; it takes long to decode. `--quick` uses ten minutes of film, and 20
and 200 items. With --keep, generated media is reused.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import MemoryWatch
from benchmarks.rehearsal import create_run, distinct_copies, gemini_settings, run_ffmpeg, start_runner
from benchmarks.report import print_bar, print_table
from benchmarks.scratch import fresh_folder, work_folder
from promptreel.tables.reader import committed_run
from promptreel.tables.storage import LocalStorage

MB = 1_000_000
_FILM_S = 7200
_QUICK_FILM_S = 600
_ITEMS = (20, 200, 2000)
_QUICK_ITEMS = (20, 200)
_MINUTE_S = 60
# Peaks of identical runs differ by a few per cent; a larger increase counts as growth.
_MAX_GROWTH = 0.10


@dataclass(frozen=True)
class Peak:
    """Peak memory of one run, in bytes; `children` by program."""

    runner: int
    children: dict[str, int]
    together: int
    segments: int
    wall_s: float


def long_film(folder: Path, length_s: int) -> Path:
    """Generate a 1080p film: mostly still, with a cut every six seconds and audio; `length_s` in full minutes."""
    still = "color=c=0x204060:s=1920x1080:r=24"
    hue = "hue='h=floor(t/6)*73':b='mod(floor(t/6)*3\\,5)-2'"
    picture = f"{still},drawbox=x='mod(t*160\\,1700)':y=300:w=220:h=420:color=orange:t=fill,{hue}"
    inputs = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=f=330:r=44100", "-t", str(_MINUTE_S)]
    coding = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "144", "-c:a", "aac"]
    minute = run_ffmpeg(folder / "minute.mp4", *inputs, *coding)
    repeats = ["-stream_loop", str(length_s // _MINUTE_S - 1), "-i", str(minute), "-t", str(length_s), "-c", "copy"]
    return run_ffmpeg(folder / f"film-{length_s}s.mp4", *repeats)


def short_items(folder: Path, count: int) -> list[Path]:
    """Generate a number of two-second films with distinct content."""
    picture = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=12:d=2", "-f", "lavfi", "-i", "sine=f=440:r=16000:d=2"]
    coding = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    return distinct_copies(run_ffmpeg(folder / "item.mp4", *picture, *coding), folder / "items", count)


def peak_of(folder: Path, films: list[Path], window_s: int) -> Peak:
    """Run the films with the built-in model and record the peak memory.

    Raises:
        RuntimeError: the run did not complete.
    """
    data = fresh_folder(folder)
    run_id = create_run(data, films, gemini_settings(None, window_s=window_s))
    start = time.monotonic()
    runner = start_runner(data, run_id)
    with MemoryWatch(runner.pid) as watch:
        code = runner.wait()
    wall_s = time.monotonic() - start
    manifest = committed_run(LocalStorage(data), run_id).manifest if code == 0 else None
    if manifest is None or manifest.status != "completed":
        raise RuntimeError(f"run {run_id} did not complete (exit code {code}); see {data}/{run_id}.log")
    children = {name: peak for name, peak in watch.peaks.items() if name in ("ffmpeg", "probe")}
    return Peak(watch.peaks["runner"], children, watch.peak_sum, manifest.counts["segments.total"], wall_s)


def measure(peaks: dict[str, Peak], name: str, folder: Path, films: list[Path]) -> None:
    """Record the peak of one run and print it immediately, as the next run may take long."""
    peaks[name] = peak_of(folder, films, window_s=10)
    print(f"{name}: runner {peaks[name].runner / MB:.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="ten minutes of film; 20 and 200 items")
    parser.add_argument("--only", choices=("film", "items"), help="run only this half")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep generated media in this folder and reuse it")
    options = parser.parse_args()
    peaks: dict[str, Peak] = {}
    counts = _QUICK_ITEMS if options.quick else _ITEMS
    length_s = _QUICK_FILM_S if options.quick else _FILM_S
    with work_folder(options.keep) as folder:
        if options.only != "items":
            measure(peaks, f"one film of {length_s // 60} min, 1080p", folder, [long_film(folder, length_s)])
        for count in counts if options.only != "film" else ():
            measure(peaks, f"{count} items of 2 s", folder, short_items(folder, count))
    rows = []
    for name, peak in peaks.items():
        parts = [peak.children.get("ffmpeg", 0), peak.children.get("probe", 0), peak.together]
        megabytes = [f"{size / MB:.0f}" for size in (peak.runner, *parts)]
        rows.append([name, peak.segments, *megabytes, f"{peak.wall_s:.0f}"])
    print()
    print_table(["", "segments", "runner MB", "ffmpeg MB", "probe MB", "all processes MB", "wall s"], rows)
    for name, peak in peaks.items():
        print_bar(f"runner, {name}", f"{peak.runner / MB:.0f} MB", "< 1000 MB", peak.runner < 1000 * MB)
    if options.only != "film":
        low, high = (peaks[f"{count} items of 2 s"].runner / MB for count in (counts[0], counts[-1]))
        slope = (high - low) / (counts[-1] - counts[0]) * 1000
        figure = f"{low:.0f} MB to {high:.0f} MB, {slope:+.0f} MB per 1,000 items"
        grown = high > low * (1 + _MAX_GROWTH)
        print_bar(f"growth from {counts[0]} to {counts[-1]} items", figure, "none, within 10 %", not grown)


if __name__ == "__main__":
    main()
