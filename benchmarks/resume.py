"""Calls repeated after a crash: kill -9 at half of 400 calls, then resume.

    python -m benchmarks resume

The runner process is killed with SIGKILL as soon as the service's ledger shows half of the calls answered, then restarted on
the same run folder. Repeated calls are all answers to the same question after the first, according to the ledger. Their
number should not exceed the calls in flight when the runner was killed: calls recorded as started whose results were not
yet cached. The service had already answered some of them (the answer was in transit or being written), so the number of
unanswered calls, also shown, is smaller. The tables are compared row by row with those of an uninterrupted run in another
data folder, except columns with run ids, timestamps and call ids. The film is that of `model_calls`, already analysed.
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
# Run ids, timestamps and call ids differ between any two runs.
_VOLATILE_COLUMNS = frozenset({"run_id", "executed_at", "llm_call_ids"})
_TIMEOUT_S = 120.0


def kill_at(service: Service, data: Path, run_id: str, answered: int) -> tuple[int, int]:
    """Start a runner and kill it after a number of answers; return (answered, unanswered) calls in the ledger.

    Raises:
        RuntimeError: the runner exited or two minutes passed before that number was reached.
    """
    runner = start_runner(data, run_id)
    deadline = time.monotonic() + _TIMEOUT_S
    while len(service.ledger().answered()) < answered:
        if runner.poll() is not None or time.monotonic() > deadline:
            runner.kill()
            raise RuntimeError(f"the runner did not reach {answered} answered calls; see its log in {data}")
        time.sleep(0.01)
    os.kill(runner.pid, signal.SIGKILL)
    runner.wait()
    calls = service.ledger().calls()
    unanswered = sum(entry.status is None for entry in calls)
    return len(calls) - unanswered, unanswered


def calls_in_flight(data: Path, run_id: str) -> int:
    """Count the calls that a killed runner had started without caching a result."""
    storage = LocalStorage(data)
    started = {call.operation_key for call in read_calls(storage, run_id, shard=0).values()}
    return sum(not storage.exists(operation_file(key)) for key in started)


def stable_rows(data: Path, run_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return the committed rows of every table, without volatile columns."""
    storage = LocalStorage(data)
    run = committed_run(storage, run_id)
    return {
        table: [
            {name: value for name, value in row.items() if name not in _VOLATILE_COLUMNS}
            for row in read_rows(storage, run, table)
        ]
        for table in TABLES
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=400, help="number of calls (default: %(default)s)")
    parser.add_argument(
        "--repeat", type=int, default=2, help="number of killed and resumed runs (default: %(default)s)"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work in this folder and keep it")
    options = parser.parse_args()
    rows, is_met = [], True
    with work_folder(options.keep) as folder:
        film, data = prepare(folder, options.calls)
        with fake_service(folder, latency_s=LATENCY_S) as service:
            uninterrupted = create_run(data, [film], gemini_settings(service, window_s=1, max_in_flight=IN_FLIGHT))
            run_measured(runner_command(data, uninterrupted), ENVIRONMENT)
        expected = stable_rows(data, uninterrupted)
        for _ in range(options.repeat):
            film, data = prepare(folder, options.calls)
            with fake_service(folder, latency_s=LATENCY_S) as service:
                run_id = create_run(data, [film], gemini_settings(service, window_s=1, max_in_flight=IN_FLIGHT))
                answered, unanswered = kill_at(service, data, run_id, options.calls // 2)
                in_flight = calls_in_flight(data, run_id)
                run_measured(runner_command(data, run_id), ENVIRONMENT)
                time.sleep(LATENCY_S)  # the killed runner's calls have been answered by now
                ledger = service.ledger()
            found = stable_rows(data, run_id)
            equal = found == expected
            is_met = is_met and ledger.repeated() <= min(in_flight, IN_FLIGHT) and equal
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
    print(f"\nkill -9 at half of {options.calls} calls, {LATENCY_S} s each, {IN_FLIGHT} in flight, then resume")
    head = ["answered at the kill", "unanswered", "in flight", "total calls", "repeated", "tables"]
    print_table(head, rows)
    worst = max(row[4] for row in rows)
    print_bar("repeated calls, worst run; tables", str(worst), "<= in flight at the kill; equal", is_met)


def _verdict(equal: bool) -> str:
    return "equal to the uninterrupted run's" if equal else "DIFFERENT from the uninterrupted run's"


if __name__ == "__main__":
    main()
