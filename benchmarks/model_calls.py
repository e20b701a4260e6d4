"""Rate of model calls, compared with plain asyncio and google-genai.

    python -m benchmarks model_calls

400 calls with 0.5 s latency and 64 in flight, first without a quota, then with a quota of 40 calls per second. The product
is the complete runner process on one 400 s film in windows of 1 s; each call sends one sampled frame. An earlier run in the
same data folder has analysed the film, so no media is decoded during the calls, and no clips are built. The peer sends the
same texts, frames, schema and settings. The service is a separate process. Both rates are computed from its ledger: answers
divided by the time from the first request to the last answer, so start-up time is excluded. Under the quota, the peer uses
the client's own retries.

The quota's token bucket holds one second of calls, so 400 calls can slightly exceed 40 calls per second. The share is
therefore reported both of 40 calls per second and of the calls that the bucket admitted in that time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import run_measured
from benchmarks.rehearsal import (
    ENVIRONMENT,
    MODEL,
    PROMPT,
    Service,
    create_run,
    fake_service,
    gemini_settings,
    make_film,
    runner_command,
)
from benchmarks.report import print_bar, print_table
from benchmarks.scratch import fresh_folder, work_folder
from promptreel.providers.extraction import extraction_request
from promptreel.schemas.mediatime import format_timecode
from promptreel.tables.reader import committed_run, read_rows
from promptreel.tables.request import list_run_ids
from promptreel.tables.storage import LocalStorage
from promptreel.transforms.extract_fields import segment_media_of
from promptreel.transforms.segment_media import plan_tasks, read_analysis
from tests.fake_gemini.ledger import Ledger

IN_FLIGHT = 64
LATENCY_S = 0.5
QUOTA = 40.0


@dataclass(frozen=True)
class Figures:
    """The figures of one side.

    Attributes:
        rate: answers per second, from the first request to the last answer.
        rejected: share of the requests that were answered 429.
        of_bucket: answers as a share of the calls that the quota's bucket admitted in that time.
        cpu_s, wall_s: cost of the side's process.
    """

    answered: int
    rate: float
    rejected: float
    of_bucket: float
    in_flight: int
    cpu_s: float
    wall_s: float


def prepare(folder: Path, calls: int) -> tuple[Path, Path]:
    """Return (film, data folder); the film is already analysed, so no decoding remains."""
    film = make_film(folder / f"film-{calls}.mp4", f"testsrc2=s=320x180:r=10:d={calls}", "-c:v", "libx264", "-g", "50")
    data = fresh_folder(folder)
    run_id = create_run(data, [film], gemini_settings(None, window_s=1))
    run_measured(runner_command(data, run_id))
    return film, data


def write_questions(path: Path, data: Path) -> None:
    """Write the peer's requests, equal to those that the product makes for the analysed film."""
    storage = LocalStorage(data)
    run = committed_run(storage, list_run_ids(storage)[0])
    frames = read_rows(storage, run, "frames")
    key = Path(frames[0]["file"]).parts[3]
    analysis, folder = read_analysis(storage, key)
    tasks = plan_tasks(frames[0]["video_id"], key, analysis, gemini_settings(None, window_s=1))
    questions = []
    for task in tasks:
        media = segment_media_of(storage, task)
        request = extraction_request(PROMPT, media)
        parts = []
        for frame in media.frames:
            timecode = format_timecode(max(0, frame.time_us - media.span.start_us))
            parts += [{"text": f"Frame at {timecode} of the segment:"}, {"jpeg": str(folder / frame.file)}]
        questions.append([*parts, {"text": request.text}])
    head = {"model": MODEL, "instruction": request.instruction, "json_schema": PROMPT.json_schema}
    path.write_text(json.dumps({**head, "questions": questions}))


def measure_product(service: Service, film: Path, data: Path) -> Figures:
    """Run the complete runner with an empty operation cache."""
    settings = gemini_settings(service, window_s=1, max_in_flight=IN_FLIGHT)
    run_id = create_run(data, [film], settings)
    cost = run_measured(runner_command(data, run_id), ENVIRONMENT)
    for file in (data / "cache" / "operations").rglob("*.json"):
        file.unlink()  # so that the next repetition makes all calls again
    return _figures(service.ledger(), cost.cpu_s, cost.wall_s)


def measure_plain(service: Service, questions: Path, attempts: int) -> Figures:
    """Run plain asyncio with google-genai, with a number of attempts per question."""
    words = ["benchmarks.plain_client", str(questions), service.url, str(IN_FLIGHT), str(attempts)]
    cost = run_measured([sys.executable, "-m", *words])
    return _figures(service.ledger(), cost.cpu_s, cost.wall_s)


def _figures(ledger: Ledger, cpu_s: float, wall_s: float) -> Figures:
    answered = ledger.answered()
    elapsed_s = max(entry.answered_at for entry in answered) - min(entry.arrived_at for entry in ledger.calls())
    allowed = QUOTA + QUOTA * max(0.0, elapsed_s - LATENCY_S)
    return Figures(
        answered=len(answered),
        rate=ledger.rate(),
        rejected=ledger.rejected_share(),
        of_bucket=len(answered) / allowed,
        in_flight=ledger.max_in_flight(),
        cpu_s=cpu_s,
        wall_s=wall_s,
    )


def _median(figures: list[Figures]) -> Figures:
    return sorted(figures, key=lambda side: side.rate)[len(figures) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=400, help="number of calls (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="runs per side, in turn (default: %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work in this folder and keep it")
    options = parser.parse_args()
    with work_folder(options.keep) as folder:
        film, data = prepare(folder, options.calls)
        questions = folder / "questions.json"
        write_questions(questions, data)
        for quota in (None, QUOTA):
            product, plain = [], []
            for _ in range(options.repeat):
                with fake_service(folder, latency_s=LATENCY_S, rps=quota) as service:
                    product.append(measure_product(service, film, data))
                with fake_service(folder, latency_s=LATENCY_S, rps=quota) as service:
                    plain.append(measure_plain(service, questions, attempts=1 if quota is None else 10))
            report(quota, product, plain, options.calls)


def report(quota: float | None, product: list[Figures], plain: list[Figures], calls: int) -> None:
    """Print the figures of both sides and the bars."""
    print(f"\n{calls} calls, {LATENCY_S} s each, {IN_FLIGHT} in flight, quota: {f'{quota:g}/s' if quota else 'none'}")
    rows = []
    for name, figures in (("promptreel", product), ("asyncio + google-genai", plain)):
        for found in figures:
            numbers = [f"{found.rate:.1f}", f"{found.rejected:.1%}", found.in_flight]
            rows.append([name, found.answered, *numbers, f"{found.cpu_s:.1f}", f"{found.wall_s:.1f}"])
    print_table(["", "answered", "answers/s", "429", "in flight", "CPU s", "wall s"], rows)
    if quota is None:
        pairs = [own.rate / peer.rate for own, peer in zip(product, plain, strict=True)]
        ratio = statistics.median(pairs)
        figure = f"{ratio:.2f} (each pair: {', '.join(f'{pair:.2f}' for pair in pairs)})"
        print_bar("rate relative to the peer, median of pairs", figure, ">= 0.90", ratio >= 0.90)
        return
    median = _median(product)
    figure = f"{median.rate / quota:.1%} of {quota:g}/s, {median.of_bucket:.1%} of the calls admitted by the bucket"
    print_bar("share of the quota, median run", figure, ">= 95 %", median.rate / quota >= 0.95)
    rejected = statistics.median(found.rejected for found in product)
    peer_rejected = statistics.median(found.rejected for found in plain)
    print_bar("answered 429, median", f"{rejected:.1%} (peer {peer_rejected:.1%})", "<= 7 %", rejected <= 0.07)


if __name__ == "__main__":
    main()
