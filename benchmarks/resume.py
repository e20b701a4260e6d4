"""What a killed runner costs: kill -9 at half of 400 calls, then resume.

    python -m benchmarks resume

The runner process is killed with SIGKILL as soon as the service's ledger shows half of the calls answered, and started
again on the same run folder. Repeated calls are answers beyond the first to the same question, by the ledger. They should
be no more than the calls that were in flight at the moment of death: begun by the runner's own records, and not yet kept
in its cache. Some of those the service has answered already (the answer was on its way, or being written), so the number
that it had not answered yet is smaller; it is shown too. The tables are compared, row by row, with those of an undisturbed
run in another data folder, in every column but those that name the run, its moments and its calls. The film is the one of
`model_calls`, analysed beforehand.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from pathlib import Path
from typing import Any

from benchmarks.model_calls import IN_FLIGHT, LATENCY_S, prepare
from benchmarks.processes import run_measured
from benchmarks.rehearsal import (
    ENVIRONMENT,
    Service,
    create_run,
    fake_service,
    gemini_settings,
    runner_command,
    start_runner,
)
from benchmarks.report import print_bar, print_table
from benchmarks.scratch import work_folder
from promptreel.tables.call_log import read_calls
from promptreel.tables.layout import operation_file
from promptreel.tables.reader import committed_run, read_rows
from promptreel.tables.storage import LocalStorage

TABLES = ("media", "segments", "results", "frames", "video_results", "failures")
# Columns that name the run itself, its moments or its calls: they differ between any two runs.
_OF_THE_RUN = frozenset({"run_id", "executed_at", "llm_call_ids"})
_DEADLINE_S = 120.0


def kill_at(service: Service, data: Path, run_id: str, answered: int) -> tuple[int, int]:
    """Starts a runner and kills it once so many calls are answered: (answered, not answered) at its death, by the ledger.

    Raises:
        RuntimeError: it ended, or two minutes passed, before so many were answered.
    """
    runner = start_runner(data, run_id)
    until = time.monotonic() + _DEADLINE_S
    while len(service.ledger().answered()) < answered:
        if runner.poll() is not None or time.monotonic() > until:
            runner.kill()
            raise RuntimeError(f"the runner did not reach {answered} answered calls; its log lies beside {data}")
        time.sleep(0.01)
    os.kill(runner.pid, signal.SIGKILL)
    runner.wait()
    calls = service.ledger().calls()
    unanswered = sum(entry.status is None for entry in calls)
    return len(calls) - unanswered, unanswered


def calls_in_flight(data: Path, run_id: str) -> int:
    """Calls that a dead runner had begun, by its own records, and whose results it had not kept."""
    storage = LocalStorage(data)
    begun = {call.operation_key for call in read_calls(storage, run_id, shard=0).values()}
    return sum(not storage.exists(operation_file(key)) for key in begun)


def stable_rows(data: Path, run_id: str) -> dict[str, list[dict[str, Any]]]:
    """The committed rows of every table, without what differs between any two runs."""
    storage = LocalStorage(data)
    run = committed_run(storage, run_id)
    return {
        table: [
            {name: value for name, value in row.items() if name not in _OF_THE_RUN}
            for row in read_rows(storage, run, table)
        ]
        for table in TABLES
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=400, help="(default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=2, help="runs killed and resumed (default: %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work in this folder and leave it")
    options = parser.parse_args()
    rows, held = [], True
    with work_folder(options.keep) as folder:
        film, data = prepare(folder, options.calls)
        with fake_service(folder, latency_s=LATENCY_S) as service:
            undisturbed = create_run(data, [film], gemini_settings(service, window_s=1, max_in_flight=IN_FLIGHT))
            run_measured(runner_command(data, undisturbed), ENVIRONMENT)
        wanted = stable_rows(data, undisturbed)
        for _ in range(options.repeat):
            film, data = prepare(folder, options.calls)
            with fake_service(folder, latency_s=LATENCY_S) as service:
                run_id = create_run(data, [film], gemini_settings(service, window_s=1, max_in_flight=IN_FLIGHT))
                answered, unanswered = kill_at(service, data, run_id, options.calls // 2)
                in_flight = calls_in_flight(data, run_id)
                run_measured(runner_command(data, run_id), ENVIRONMENT)
                time.sleep(LATENCY_S)  # calls of the dead runner are answered by now
                ledger = service.ledger()
            found = stable_rows(data, run_id)
            equal = found == wanted
            held = held and ledger.repeated() <= min(in_flight, IN_FLIGHT) and equal
            counts = f"{len(found['results'])} rows"
            rows.append(
                [
                    answered,
                    unanswered,
                    in_flight,
                    len(ledger.calls()),
                    ledger.repeated(),
                    f"{counts}, {_verdict(equal)}",
                ]
            )
    print(f"\nkill -9 at half of {options.calls} calls, {LATENCY_S} s each, {IN_FLIGHT} in flight; then resumed")
    head = ["answered at the kill", "not answered", "in flight", "calls in all", "repeated", "tables"]
    print_table(head, rows)
    worst = max(row[4] for row in rows)
    print_bar("repeated calls, worst run; tables as undisturbed", str(worst), "<= in flight at the kill; equal", held)


def _verdict(equal: bool) -> str:
    return "equal to the undisturbed run's" if equal else "DIFFERENT from the undisturbed run's"


if __name__ == "__main__":
    main()
