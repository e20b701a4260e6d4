"""How fast calls are made, beside plain asyncio with google-genai in the same run.

    python -m benchmarks model_calls

400 calls at 0.5 s latency with 64 in flight, first without a quota, then with one of 40 calls a second. The product's
side is the whole runner process over one film of 400 s, cut into windows of 1 s, each asked with its one sampled frame.
The film was analysed by an earlier run of the same data folder, so no media is decoded while calls are made, and without
sound no clip is built. The peer sends the same texts, frames, schema and settings. The service is a process of its own;
both rates are read from its ledger: answers divided by the time from the first request to the last answer, so that no
side's start-up counts. Under the quota the peer uses the client's own retries.

The quota's bucket holds one second's worth, so a run of 400 calls may exceed 40 calls a second a little: the share is
given of 40 calls a second and of what the bucket would have let through in that time.
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
    """What the service saw of one side.

    Attributes:
        rate: answers a second, from the first request to the last answer.
        refused: share of the requests that were answered 429.
        of_bucket: answers as a share of those that the quota's bucket would have let through meanwhile.
        cpu_s, wall_s: of the side's whole process.
    """

    answered: int
    rate: float
    refused: float
    of_bucket: float
    in_flight: int
    cpu_s: float
    wall_s: float


def prepare(folder: Path, calls: int) -> tuple[Path, Path]:
    """(film, data folder) with the film already analysed: no decoding is left to do."""
    film = make_film(folder / f"film-{calls}.mp4", f"testsrc2=s=320x180:r=10:d={calls}", "-c:v", "libx264", "-g", "50")
    data = fresh_folder(folder)
    run_id = create_run(data, [film], gemini_settings(None, window_s=1))
    run_measured(runner_command(data, run_id))
    return film, data


def write_questions(path: Path, data: Path) -> None:
    """Writes what the peer asks: the requests that the product makes of the analysed film."""
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
            at = format_timecode(max(0, frame.time_us - media.span.start_us))
            parts += [{"text": f"Frame at {at} of the segment:"}, {"jpeg": str(folder / frame.file)}]
        questions.append([*parts, {"text": request.text}])
    head = {"model": MODEL, "instruction": request.instruction, "json_schema": PROMPT.json_schema}
    path.write_text(json.dumps({**head, "questions": questions}))


def measure_product(service: Service, film: Path, data: Path) -> Figures:
    """The whole runner, asking everything anew."""
    settings = gemini_settings(service, window_s=1, max_in_flight=IN_FLIGHT)
    run_id = create_run(data, [film], settings)
    cost = run_measured(runner_command(data, run_id), ENVIRONMENT)
    for file in (data / "cache" / "operations").rglob("*.json"):
        file.unlink()  # the next repetition shall ask again
    return _figures(service.ledger(), cost.cpu_s, cost.wall_s)


def measure_plain(service: Service, questions: Path, attempts: int) -> Figures:
    """Plain asyncio with google-genai, with so many attempts at each question."""
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
        refused=ledger.refused_share(),
        of_bucket=len(answered) / allowed,
        in_flight=ledger.max_in_flight(),
        cpu_s=cpu_s,
        wall_s=wall_s,
    )


def _median(figures: list[Figures]) -> Figures:
    return sorted(figures, key=lambda found: found.rate)[len(figures) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=400, help="(default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each side, in turn (default: %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work in this folder and leave it")
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
    """Prints both sides and the bars."""
    print(f"\n{calls} calls, {LATENCY_S} s each, {IN_FLIGHT} in flight, quota: {f'{quota:g}/s' if quota else 'none'}")
    rows = []
    for name, figures in (("promptreel", product), ("asyncio + google-genai", plain)):
        for found in figures:
            numbers = [f"{found.rate:.1f}", f"{found.refused:.1%}", found.in_flight]
            rows.append([name, found.answered, *numbers, f"{found.cpu_s:.1f}", f"{found.wall_s:.1f}"])
    print_table(["", "answered", "answers/s", "429", "in flight", "CPU s", "wall s"], rows)
    if quota is None:
        pairs = [mine.rate / theirs.rate for mine, theirs in zip(product, plain, strict=True)]
        ratio = statistics.median(pairs)
        figure = f"{ratio:.2f} (each pair: {', '.join(f'{pair:.2f}' for pair in pairs)})"
        print_bar("rate beside the peer, median of pairs", figure, ">= 0.90", ratio >= 0.90)
        return
    median = _median(product)
    figure = f"{median.rate / quota:.1%} of {quota:g}/s, {median.of_bucket:.1%} of what the bucket let through"
    print_bar("share of the quota, median run", figure, ">= 95 %", median.rate / quota >= 0.95)
    refused = statistics.median(found.refused for found in product)
    theirs = statistics.median(found.refused for found in plain)
    print_bar("answered 429, median", f"{refused:.1%} (peer {theirs:.1%})", "<= 7 %", refused <= 0.07)


if __name__ == "__main__":
    main()
