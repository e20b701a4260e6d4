"""CPU seconds of the decode pass, beside ffmpeg decoding the same file to nowhere.

    python -m benchmarks decode_cost [FILE ...]

The product's side is `probe_media` and `analyze_media` in a process of its own: pictures for shots, 1 fps frames on disk,
16 kHz sound on disk, speech, shots, timeline; CPU of that process and of the ffmpeg that it starts, from the first line of
work to the last. Imports are left out, for they are paid once in a run (they are printed). The peer is
`ffmpeg -i FILE -f null -`, pictures and sound, the same ffmpeg. Both run in turn, and the median of the ratios counts.

Without FILE the films are made here with ffmpeg: a zooming Mandelbrot set under moving noise, and the test picture, so that
every block of every frame changes; tone as sound. H.264 with B-frames (where frames that no other refers to can be skipped),
H.264 without, and VP9.
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
    """CPU seconds of both sides of one repetition."""

    product_s: float
    children_s: float
    imports_s: float
    peer_s: float
    frames: int

    @property
    def ratio(self) -> float:
        return self.product_s / self.peer_s


def make_films(folder: Path) -> list[tuple[str, Path]]:
    """The generated films, by name."""
    made = []
    for name, size, rate, seconds, coding in _FILMS:
        suffix = "webm" if "VP9" in name else "mp4"
        sound = ["-c:a", "libopus"] if "VP9" in name else ["-c:a", "aac"]
        path = folder / f"{name.replace(' ', '-').replace(',', '').replace('.', '')}-{seconds}s.{suffix}"
        pictures = ["-f", "lavfi", "-i", _TEXTURED.format(size=size, rate=rate)]
        tone = ["-f", "lavfi", "-i", "sine=f=330:r=48000"]
        made.append((name, run_ffmpeg(path, *pictures, *tone, "-t", str(seconds), *coding, *sound)))
    return made


def analyse(path: Path) -> None:
    """The child: analyses one file and prints what that cost, as JSON."""
    from promptreel.media.analysis import analyze_media
    from promptreel.media.probe import probe_media
    from promptreel.media.speech import detector_name
    from promptreel.schemas.settings import MediaLimits, SamplingSettings

    detector = detector_name()
    find_ffmpeg()
    imports = _cpu_s()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        limits = MediaLimits()
        analysis = analyze_media(probe_media(path, limits), Path(folder), SamplingSettings(), limits)
    own, children = (after - before for after, before in zip(_cpu_s(), imports, strict=True))
    found = {
        "own_s": own,
        "children_s": children,
        "imports_s": sum(imports),
        "wall_s": time.monotonic() - begun,
        "frames": analysis.frame_count,
        "detector": detector,
    }
    print(json.dumps(found))


def _cpu_s() -> tuple[float, float]:
    """CPU seconds of this process and of its children so far."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    own, children = (usage.ru_utime + usage.ru_stime for usage in usages)
    return own, children


def measure(path: Path) -> Pair:
    """One repetition of both sides."""
    found = json.loads(run_measured([sys.executable, "-m", "benchmarks.decode_cost", "--analyse", str(path)]).output)
    peer = run_measured([find_ffmpeg().path, "-nostdin", "-v", "error", "-i", str(path), "-f", "null", "-"])
    return Pair(
        found["own_s"] + found["children_s"], found["children_s"], found["imports_s"], peer.cpu_s, found["frames"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help="instead of the generated films")
    parser.add_argument("--repeat", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep generated films here, and find them again")
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
    head = ["film", "frames seen", "CPU s", "of it ffmpeg", "Python", "ffmpeg to null", "ratio", "imports"]
    print_table(head, rows)
    for name, ratio in medians.items():
        skippable = "B-frames" in name
        bar = 1.0 if skippable else 1.2
        held = ratio < bar if skippable else ratio <= bar
        print_bar(f"{name}, median", f"{ratio:.2f} x", "< 1 x" if skippable else "<= 1.2 x", held)


if __name__ == "__main__":
    main()
