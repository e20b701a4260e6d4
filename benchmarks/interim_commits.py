"""Cost of making finished segments readable while a run is in progress.

    python -m benchmarks interim_commits

The complete runner process with the default interval of interim commits and without them, in turn, over the same film and
service as the benchmark `model_calls`. Each repetition makes all calls again. The rate is that of the service's ledger.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from benchmarks.model_calls import IN_FLIGHT, LATENCY_S, Figures, _figures, _median, prepare
from benchmarks.processes import run_measured
from benchmarks.rehearsal import ENVIRONMENT, Service, create_run, fake_service, gemini_settings, runner_command
from benchmarks.report import print_table
from benchmarks.scratch import work_folder
from promptreel.schemas.settings import RunSettings

INTERVALS_S = (RunSettings().commit_interval_s, 0.0)


def measure(service: Service, film: Path, data: Path, interval_s: float) -> Figures:
    """Run the complete runner with an empty operation cache."""
    settings = gemini_settings(service, window_s=1, max_in_flight=IN_FLIGHT)
    run_id = create_run(data, [film], dataclasses.replace(settings, commit_interval_s=interval_s))
    cost = run_measured(runner_command(data, run_id), ENVIRONMENT)
    for file in (data / "cache" / "operations").rglob("*.json"):
        file.unlink()  # so that the next repetition makes all calls again
    return _figures(service.ledger(), cost.cpu_s, cost.wall_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000, help="number of calls (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="runs per side, in turn (default: %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work in this folder and keep it")
    options = parser.parse_args()
    figures: dict[float, list[Figures]] = {interval_s: [] for interval_s in INTERVALS_S}
    with work_folder(options.keep) as folder:
        film, data = prepare(folder, options.calls)
        for _ in range(options.repeat):
            for interval_s in INTERVALS_S:
                with fake_service(folder, latency_s=LATENCY_S, rps=None) as service:
                    figures[interval_s].append(measure(service, film, data, interval_s))
    rows = []
    for interval_s, found in figures.items():
        middle = _median(found)
        cpu = " ".join(f"{side.cpu_s:.1f}" for side in found)
        rows.append(
            [
                f"every {interval_s:g} s" if interval_s else "off",
                middle.answered,
                f"{middle.rate:.1f}",
                cpu,
                f"{middle.wall_s:.1f}",
            ]
        )
    print_table(["interim commits", "answers", "calls/s", "CPU s of each run", "wall s"], rows)


if __name__ == "__main__":
    main()
