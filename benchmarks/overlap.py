"""Overlap of media processing and model calls in a local run.

    python -m benchmarks overlap

The same run in four variants, each the complete runner process, in wall time:

    start-up S      everything is cached: no decoding, no calls
    media work W    nothing is cached, and the service has no latency: decoding, clips and the overhead of calls
    call time C     the items are already analysed, and the service has a latency
    both            nothing is cached, and the service has a latency

The bar is both <= 1.25 x max(W - S, C - S) + S. The latency is derived from W so that the calls alone take as long as the
media work alone. Overlap matters most there: sequentially, the two would take twice as long. (C is longer, because it also
builds the clips to send.) The prompt has no synthesis, as a synthesis can only start after all calls of an item.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from benchmarks.processes import run_measured
from benchmarks.rehearsal import (
    ENVIRONMENT,
    create_run,
    distinct_copies,
    fake_service,
    gemini_settings,
    run_ffmpeg,
    runner_command,
)
from benchmarks.report import print_bar, print_table
from benchmarks.scratch import fresh_folder, work_folder

ITEMS = 8
ITEM_S = 12
WINDOW_S = 2
CALLS = ITEMS * ITEM_S // WINDOW_S


def make_items(folder: Path) -> list[Path]:
    """Generate copies of a textured, moving 720p film with a tone; each is a separate item."""
    picture = "mandelbrot=s=320x180:r=30:start_scale=3:end_scale=0.3,scale=1280x720,format=yuv420p,noise=alls=10:allf=t"
    inputs = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=f=330:r=44100", "-t", str(ITEM_S)]
    coding = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    return distinct_copies(run_ffmpeg(folder / "overlap.mp4", *inputs, *coding), folder / "items", ITEMS)


def measure_walls(folder: Path, films: list[Path], media_input: str, in_flight: int) -> dict[str, float]:
    """Return the wall seconds of the four variants."""
    analysed = fresh_folder(folder)
    walls = {}
    with fake_service(folder, latency_s=0.0) as service:
        settings = gemini_settings(service, window_s=WINDOW_S, max_in_flight=in_flight, media_input=media_input)
        for name in ("media work W", "start-up S"):
            run_id = create_run(analysed, films, settings)
            walls[name] = run_measured(runner_command(analysed, run_id), ENVIRONMENT).wall_s
    for file in (analysed / "cache" / "operations").rglob("*.json"):
        file.unlink()
    latency_s = (walls["media work W"] - walls["start-up S"]) * in_flight / CALLS
    with fake_service(folder, latency_s=latency_s) as service:
        settings = gemini_settings(service, window_s=WINDOW_S, max_in_flight=in_flight, media_input=media_input)
        for name, data in (("call time C", analysed), ("both", fresh_folder(folder))):
            run_id = create_run(data, films, settings)
            walls[name] = run_measured(runner_command(data, run_id), ENVIRONMENT).wall_s
        if len(service.ledger().answered()) != 2 * CALLS:
            raise RuntimeError(
                f"{len(service.ledger().answered())} of {2 * CALLS} calls were answered; the figures are invalid"
            )
    return walls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--media-input",
        choices=("clips", "frames"),
        default="clips",
        help="media sent to the model (default: %(default)s)",
    )
    parser.add_argument("--in-flight", type=int, default=4, help="maximum concurrent calls (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=2, help="repetitions (default: %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work in this folder and keep it")
    options = parser.parse_args()
    rows, ratios = [], []
    with work_folder(options.keep) as folder:
        films = make_items(folder)
        for _ in range(options.repeat):
            walls = measure_walls(folder, films, options.media_input, options.in_flight)
            start, media, calls = walls["start-up S"], walls["media work W"], walls["call time C"]
            ratios.append((walls["both"] - start) / (max(media, calls) - start))
            sequential = media + calls - start
            rows.append(
                [*(f"{value:.1f}" for value in (start, media, calls, walls["both"], sequential)), f"{ratios[-1]:.2f}"]
            )
    print(
        f"\n{ITEMS} films of {ITEM_S} s, windows of {WINDOW_S} s as {options.media_input}, {options.in_flight} in flight"
    )
    print_table(
        ["start-up S", "media work W", "call time C", "both", "sequential", "(both - S) / (max(W, C) - S)"], rows
    )
    ratio = statistics.median(ratios)
    print_bar(
        "wall time after start-up relative to the longer of the two, median", f"{ratio:.2f}", "<= 1.25", ratio <= 1.25
    )


if __name__ == "__main__":
    main()
