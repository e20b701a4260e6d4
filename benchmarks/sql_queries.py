"""Time of SQL queries over a million segments, compared with plain DuckDB, and termination of endless queries.

    python -m benchmarks sql_queries

A run of a million segments in 1,000 items is committed with results, transcripts and failures, in the parts and row groups
that the pipeline writes. Each example of its catalog runs in the sandbox, every time in a fresh pre-started process, and in
plain DuckDB in this process, on the same view, over an open connection and with files in the page cache. Times include the
complete call: the request to the process, the views, the query, its rows as JSON, and the response. Then, endless statements
run with a short deadline while another client polls a run's status over HTTP. The figures are the time from the deadline to
the end of each statement, and the latency of the other client.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import httpx2 as httpx
import uvicorn

from benchmarks.large_runs import commit_large_run, finished_run
from benchmarks.report import print_bar, print_table
from benchmarks.scratch import work_folder
from promptreel.api.app import create_app
from promptreel.api.config import ApiConfig
from promptreel.api.sql.catalog import examples
from promptreel.api.sql.limits import SqlLimits
from promptreel.api.sql.sandbox import Sandbox, SqlError
from promptreel.api.web.auth import create_account, create_key
from promptreel.tables.analyst_views import AnalystViews, analyst_views
from promptreel.tables.layout import run_folder
from promptreel.tables.reader import committed_run
from promptreel.tables.storage import LocalStorage

RUN_ID = "run_20260101-000000-abcdef"
ITEMS = 1000
BOMBS = (
    "SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000000) c",
    "SELECT levenshtein(repeat('ab', 100000), repeat('ba', 100000))",
    "SELECT length(repeat(repeat('x', 100000), 100000))",
    "SELECT list_sum(range(400000000))",
    "SELECT list_transform(range(100000), lambda x: list_transform(range(100000), lambda y: x * y))",
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
    "SELECT range, row_number() OVER (ORDER BY hash(range)) AS n FROM range(500000000) QUALIFY n = 7",
    "SELECT string_agg(range::VARCHAR || repeat('x', 1000), '') FROM range(100000000)",
    "SELECT count(DISTINCT hash(range)) FROM range(1000000000)",
    "SELECT regexp_replace(repeat('a', 100000000) || range, '(a+)+b', 'x', 'g') FROM range(1000)",
)


def time_examples(catalog: AnalystViews, repeat: int) -> list[list[Any]]:
    """Return (title, median sandbox seconds, median plain seconds, row count) of each example."""
    views = {view.name: view.sql for view in catalog.views}
    sandbox = Sandbox(SqlLimits(timeout_s=60))
    rows: list[list[Any]] = []
    with duckdb.connect(":memory:", config={"threads": sandbox.limits.threads}) as plain:
        for name, select in views.items():
            plain.execute(f'CREATE VIEW "{name}" AS {select}')
        for example in examples(catalog):
            inside, outside, count = [], [], 0
            for _ in range(repeat):
                _wait_until_ready(sandbox)
                started = time.perf_counter()
                answer = sandbox.run(example["query"], views, catalog.files, row_limit=100)
                inside.append(time.perf_counter() - started)
                count = len(answer["rows"])
                started = time.perf_counter()
                plain.execute(f"SELECT * FROM ({example['query']}) LIMIT 101").fetchall()
                outside.append(time.perf_counter() - started)
            rows.append([example["title"], statistics.median(inside), statistics.median(outside), count])
    sandbox.close()
    return rows


def _wait_until_ready(sandbox: Sandbox) -> None:
    """Wait until the pool of warm processes is full, so that no process start disturbs the measurement."""
    sandbox.warm()
    while len(sandbox._ready) < sandbox.limits.warm:
        time.sleep(0.02)


def time_bombs(catalog: AnalystViews, folder: Path, timeout_s: float) -> tuple[list[list[Any]], list[float]]:
    """Return (statement, outcome, seconds after its deadline) of each bomb, and the other client's latencies in seconds."""
    views = {view.name: view.sql for view in catalog.views}
    sandbox = Sandbox(SqlLimits(timeout_s=timeout_s))
    _wait_until_ready(sandbox)
    rows: list[list[Any]] = []
    with other_client(folder) as waits:
        for statement in BOMBS:
            started = time.perf_counter()
            try:
                sandbox.run(statement, views, catalog.files, row_limit=100)
                ended = "answered"
            except SqlError as error:
                ended = error.code
            rows.append([statement[:70], ended, time.perf_counter() - started - timeout_s])
    sandbox.close()
    return rows, waits


@contextmanager
def other_client(folder: Path) -> Iterator[list[float]]:
    """Poll a run's status over HTTP during the `with` block; yield the list of latencies in seconds."""
    app = create_app(ApiConfig(data_dir=str(folder / "service"), supervise=False))
    with app.state.database.write() as session:
        account = create_account(session, "other").account_id
        _, key = create_key(session, account, "k", ["read"])
        session.add(finished_run(account, RUN_ID))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    serving = threading.Thread(target=server.run, daemon=True)
    serving.start()
    while not server.started:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    waits: list[float] = []
    done = threading.Event()

    def poll() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": key}) as client:
            while not done.wait(0.02):
                started = time.perf_counter()
                client.get(f"/api/v2/prompt-runs/{RUN_ID}").raise_for_status()
                waits.append(time.perf_counter() - started)

    poller = threading.Thread(target=poll)
    poller.start()
    try:
        yield waits
    finally:
        done.set()
        poller.join()
        server.should_exit = True
        serving.join()


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=1_000_000, help="segments in the run (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions of each example (default: %(default)s)")
    parser.add_argument(
        "--deadline", type=float, default=2.0, help="of endless statements, in seconds (default: %(default)s)"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work in this folder and keep it")
    options = parser.parse_args()
    with work_folder(options.keep) as folder:
        storage = LocalStorage(folder / "data")
        if not (storage.path / run_folder(RUN_ID)).exists():
            commit_large_run(storage, RUN_ID, options.segments, ITEMS)
        catalog = analyst_views(storage, [committed_run(storage, RUN_ID)])
        timed = time_examples(catalog, options.repeat)
        bombs, waits = time_bombs(catalog, folder, options.deadline)
    print(f"\ncatalog examples over {options.segments:,} segments, median of {options.repeat}, ms")
    print_table(
        ["example", "sandbox", "plain DuckDB", "rows"],
        [[title, f"{inside * 1000:.0f}", f"{plain * 1000:.0f}", count] for title, inside, plain, count in timed],
    )
    worst = max(inside for _, inside, _, _ in timed)
    print_bar("slowest example in the sandbox", f"{worst * 1000:.0f} ms", "< 1000 ms", worst < 1)
    print(f"\nendless statements, deadline {options.deadline:g} s")
    print_table(["statement", "outcome", "s after the deadline"], [[*row[:2], f"{row[2]:+.2f}"] for row in bombs])
    late = max(row[2] for row in bombs)
    print_bar("longest time after the deadline", f"{late:.2f} s", "<= 0.5 s", late <= 0.5)
    p99 = _quantile(waits, 0.99)
    figure = f"p50 {_quantile(waits, 0.5) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms of {len(waits)}"
    print_bar("status latency of another client", figure, "p99 < 250 ms", p99 < 0.25)


if __name__ == "__main__":
    main()
