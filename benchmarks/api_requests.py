"""Rate and latency of getting and starting runs under load, compared with a bare FastAPI and SQLite service.

    python -m benchmarks api_requests [--connections N] [--seconds S] [--rounds N]

Each side is one process, started as a user would start it (`promptreel serve`, with `PROMPTREEL_SUPERVISE=0`: runs are
stored but not executed, because running runners would distort the figures). This process generates the load over
keep-alive connections. The sides take turns; the figures are medians over the rounds. Each start of a run has its own
idempotency key and targets an index of three items; on both sides it is one synced transaction.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.http_load import Load, put_under_load, request_bytes
from benchmarks.processes import cpu_seconds
from benchmarks.report import print_bar, print_table
from benchmarks.scratch import fresh_folder, work_folder
from benchmarks.services import free_port, post, promptreel_serving, serving
from promptreel.api.app import PREFIX
from promptreel.api.config import ApiConfig
from promptreel.api.db.clock import now
from promptreel.api.db.engine import Database
from promptreel.api.db.migrate import migrate
from promptreel.api.db.models import MediaIndex, Video
from promptreel.api.web.auth import create_account, create_key

_PROMPT = {
    "name": "lengths",
    "prompt_text": "Say how long the segment is.",
    "json_schema": {"type": "object", "properties": {"duration_seconds": {"type": "number"}}},
}


def main() -> None:
    """Print rate and latency of each route for each side, and the bars."""
    options = _options()
    with work_folder(options.keep) as folder, _product(folder) as product, _plain(folder) as plain:
        sides = {"promptreel": product, "plain": plain}
        loads: dict[tuple[str, str], list[Load]] = {}
        cpu_ms: dict[tuple[str, str], list[float]] = {}
        for _ in range(options.rounds):
            for route in ("get", "execute"):
                for name, side in sides.items():
                    before = cpu_seconds(side["pid"])
                    load = put_under_load(side["port"], side[route], options.connections, options.seconds)
                    request_ms = (cpu_seconds(side["pid"]) - before) * 1000 / len(load.latencies)
                    cpu_ms.setdefault((route, name), []).append(request_ms)
                    assert set(load.statuses) <= {200, 202}, load.statuses
                    loads.setdefault((route, name), []).append(load)
    rows = []
    for (route, name), rounds in loads.items():
        request_cpu_ms = f"{statistics.median(cpu_ms[route, name]):.2f}"
        rows.append([f"{route}, {name}", *(f"{value:.0f}" for value in _figures(rounds)), request_cpu_ms])
    print_table(["route", "per second", "p50 ms", "p99 ms", "CPU ms per request"], rows)
    for route, min_rate, max_ms in (("get", 1000, 100), ("execute", 200, 500)):
        rate, _, p99 = _figures(loads[route, "promptreel"])
        peer = _figures(loads[route, "plain"])[0]
        name = f"{route} at {options.connections} connections"
        print_bar(name, f"{rate:.0f}/s, {rate / peer:.2f} x plain", f"{min_rate}/s", rate >= min_rate)
        print_bar(name, f"p99 {p99:.0f} ms", f"{max_ms} ms", p99 <= max_ms)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks api_requests")
    parser.add_argument("--connections", type=int, default=32, metavar="N")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="duration of one round [default: 5]")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work in this folder and keep it")
    return parser.parse_args()


def _figures(loads: list[Load]) -> tuple[float, float, float]:
    """Return (responses per second, p50 ms, p99 ms), each as the median over the rounds."""
    return (
        statistics.median(load.rate for load in loads),
        statistics.median(load.quantile_ms(0.5) for load in loads),
        statistics.median(load.quantile_ms(0.99) for load in loads),
    )


@contextmanager
def _product(folder: Path) -> Iterator[dict[str, Any]]:
    data = fresh_folder(folder)
    config = ApiConfig(data_dir=str(data))
    database = Database(config.sqlalchemy_url)
    migrate(database)
    key, index_id = _account_with_media(database)
    database.close()
    headers = {"X-API-Key": key}
    with promptreel_serving(data) as (port, pid):
        prompt_id = post(port, f"{PREFIX}/prompts", headers, _PROMPT)["prompt_id"]
        body = {
            "prompt_id": prompt_id,
            "target": {"type": "index", "index_id": index_id},
            "processing_model": "signals",
            "enable_transcription": False,
            "enable_image_embedding": False,
        }
        run_id = post(port, f"{PREFIX}/prompt-runs/execute", headers, body)["run_id"]
        encoded = json.dumps(body).encode()
        stamp = time.time_ns()

        def execute(number: int) -> bytes:
            keyed = {**headers, "Idempotency-Key": f"prompt-run-execute:{stamp}-{number}-{time.perf_counter_ns()}"}
            return request_bytes("POST", f"{PREFIX}/prompt-runs/execute", keyed, encoded)

        get_request = request_bytes("GET", f"{PREFIX}/prompt-runs/{run_id}", headers)
        yield {"port": port, "pid": pid, "get": lambda number: get_request, "execute": execute}


@contextmanager
def _plain(folder: Path) -> Iterator[dict[str, Any]]:
    port = free_port()
    with serving(["-m", "benchmarks.plain_api", str(fresh_folder(folder) / "plain.db"), str(port)], port, {}) as pid:
        body = {"prompt_id": "prompt_1", "target": {"type": "index", "index_id": "idx_1"}}
        run_id = post(port, "/runs", {}, body)["run_id"]
        get = request_bytes("GET", f"/runs/{run_id}", {})
        execute = request_bytes("POST", "/runs", {}, json.dumps(body).encode())
        yield {"port": port, "pid": pid, "get": lambda number: get, "execute": lambda number: execute}


def _account_with_media(database: Database) -> tuple[str, str]:
    """Create an account with an index of three one-minute films; return (API key, index id)."""
    with database.write() as session:
        account = create_account(session, "benchmark").account_id
        _, key = create_key(session, account, "benchmark", ["admin"])
        session.add(MediaIndex(index_id="idx_bench", account_id=account, name="films", created_at=now()))
        session.flush()
        for number in range(3):
            session.add(
                Video(
                    video_id=f"vid_bench_{number}",
                    account_id=account,
                    index_id="idx_bench",
                    title=f"film {number}",
                    video_uri=f"file:///films/{number}.mp4",
                    media_uri=f"/films/{number}.mp4",
                    source_kind="uri",
                    media_type="video",
                    duration_us=60_000_000,
                    size_bytes=10_000_000,
                    status="not_processed",
                    created_at=now(),
                    updated_at=now(),
                )
            )
    return key, "idx_bench"
