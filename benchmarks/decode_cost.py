"""CPU time of the decode pass, compared with ffmpeg decoding the same file to null output.

    python -m benchmarks decode_cost [FILE ...]

The product runs `probe_media` and `analyze_media` in a separate process: frames for shot detection, 1 fps frames and 16 kHz
audio on disk, speech, shots, timeline. Its figure is the CPU time of that process and its ffmpeg children. Imports are
excluded, because a run pays for them once; they are printed separately. The peer is `ffmpeg -i FILE -f null -` with video
and audio, by the same ffmpeg. Both run in turn; the figure is the median of the ratios.

Without FILE, films are generated with ffmpeg: a zooming Mandelbrot set under moving noise, blended with the test picture, so
that every block of every frame changes; the audio is a tone. The codecs are H.264 with B-frames (non-reference frames can be
skipped), H.264 without B-frames, and VP9.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import run_measured
from benchmarks.rehearsal import run_ffmpeg
from benchmarks.report import print_bar, print_table
from benchmarks.scratch import work_folder
from promptreel.media.ffmpeg import find_ffmpeg

_TEXTURED = (
    "mandelbrot=s=480x270:r={rate}:start_scale=3:end_scale=0.4,scale={size},format=yuv420p,noise=alls=12:allf=t[m];"
    "testsrc2=s={size}:r={rate}[t];[m][t]blend=all_mode=average,format=yuv420p"
)
_X264 = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "26"]
_WITH_B = ["-bf", "3", "-b_strategy", "0", "-x264-params", "b-pyramid=none"]
_VP9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "3M", "-row-mt", "1"]

# name, size, frames a second, seconds, coding
_FILMS: tuple[tuple[str, str, int, int, list[str]], ...] = (
    ("720p30 H.264, B-frames", "1280x720", 30, 60, [*_X264, *_WITH_B]),
    ("720p30 H.264, none", "1280x720", 30, 60, [*_X264, "-bf", "0"]),
    ("1080p30 H.264, B-frames", "1920x1080", 30, 30, [*_X264, *_WITH_B]),
    ("1080p30 H.264, none", "1920x1080", 30, 30, [*_X264, "-bf", "0"]),
    ("720p30 VP9", "1280x720", 30, 60, _VP9),
)


@dataclass(frozen=True)
class Pair:
    """CPU seconds of both sides in one repetition."""

    product_s: float
    children_s: float
    imports_s: float
    peer_s: float
    frames: int

    @property
    def ratio(self) -> float:
        return self.product_s / self.peer_s


def make_films(folder: Path) -> list[tuple[str, Path]]:
    """Generate the films; return (name, path) of each."""
    films = []
    for name, size, rate, seconds, coding in _FILMS:
        suffix = "webm" if "VP9" in name else "mp4"
        sound = ["-c:a", "libopus"] if "VP9" in name else ["-c:a", "aac"]
        path = folder / f"{name.replace(' ', '-').replace(',', '').replace('.', '')}-{seconds}s.{suffix}"
        pictures = ["-f", "lavfi", "-i", _TEXTURED.format(size=size, rate=rate)]
        tone = ["-f", "lavfi", "-i", "sine=f=330:r=48000"]
        films.append((name, run_ffmpeg(path, *pictures, *tone, "-t", str(seconds), *coding, *sound)))
    return films


def analyse(path: Path) -> None:
    """Analyse one file and print the cost as JSON; runs in the child process."""
    from promptreel.media.analysis import analyze_media
    from promptreel.media.probe import probe_media
    from promptreel.media.speech import detector_name
    from promptreel.schemas.settings import MediaLimits, SamplingSettings

    detector = detector_name()
    find_ffmpeg()
    imports = _cpu_s()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        limits = MediaLimits()
        analysis = analyze_media(probe_media(path, limits), Path(folder), SamplingSettings(), limits)
    own, children = (after - before for after, before in zip(_cpu_s(), imports, strict=True))
    cost = {
        "own_s": own,
        "children_s": children,
        "imports_s": sum(imports),
        "wall_s": time.monotonic() - start,
        "frames": analysis.frame_count,
        "detector": detector,
    }
    print(json.dumps(cost))


def _cpu_s() -> tuple[float, float]:
    """Return the CPU seconds used so far by this process and by its children."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    own, children = (usage.ru_utime + usage.ru_stime for usage in usages)
    return own, children


def measure(path: Path) -> Pair:
    """Run one repetition of both sides."""
    cost = json.loads(run_measured([sys.executable, "-m", "benchmarks.decode_cost", "--analyse", str(path)]).output)
    peer = run_measured([find_ffmpeg().path, "-nostdin", "-v", "error", "-i", str(path), "-f", "null", "-"])
    return Pair(cost["own_s"] + cost["children_s"], cost["children_s"], cost["imports_s"], peer.cpu_s, cost["frames"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "files", type=Path, nargs="*", metavar="FILE", help="files to use instead of the generated films"
    )
    parser.add_argument("--repeat", type=int, default=3, help="repetitions (default: %(default)s)")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep generated films in this folder and reuse them"
    )
    parser.add_argument("--analyse", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.analyse:
        analyse(options.analyse)
        return
    with work_folder(options.keep) as folder:
        films = [(path.name, path) for path in options.files] or make_films(folder)
        medians, rows = {}, []
        for name, path in films:
            pairs = [measure(path) for _ in range(options.repeat)]
            medians[name] = statistics.median(pair.ratio for pair in pairs)
            for pair in pairs:
                own = pair.product_s - pair.children_s
                numbers = [pair.product_s, pair.children_s, own, pair.peer_s, pair.ratio, pair.imports_s]
                rows.append([name, pair.frames, *(f"{number:.2f}" for number in numbers)])
    print()
    head = ["film", "frames", "CPU s", "ffmpeg part", "Python part", "ffmpeg to null", "ratio", "imports"]
    print_table(head, rows)
    for name, ratio in medians.items():
        skippable = "B-frames" in name
        bar = 1.0 if skippable else 1.2
        is_met = ratio < bar if skippable else ratio <= bar
        print_bar(f"{name}, median", f"{ratio:.2f} x", "< 1 x" if skippable else "<= 1.2 x", is_met)


if __name__ == "__main__":
    main()
