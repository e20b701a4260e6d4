"""Time to the pages of a browser under load: the list of 10,000 runs, and an item of 5,000 segments.

    python -m benchmarks page_speed [--runs N] [--segments N] [--connections N] [--seconds S]

One `promptreel serve` answers this process, which keeps a number of connections busy with one page after the other. The
floor is `/healthz` under the same load: what the HTTP server costs without a page.
"""

from __future__ import annotations

import argparse
import re
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx2 as httpx

from benchmarks.http_load import Load, put_under_load, request_bytes
from benchmarks.large_runs import commit_large_run, finished_run, video_id_of
from benchmarks.report import print_bar, print_table
from benchmarks.scratch import work_folder
from benchmarks.services import promptreel_serving
from promptreel.api.config import ApiConfig
from promptreel.api.db.engine import Database
from promptreel.api.db.migrate import migrate
from promptreel.api.db.models import RunItem
from promptreel.api.web.auth import create_account, create_key
from promptreel.tables.storage import LocalStorage

_RUN: Final = "run_20260101-000000-0000000000"
_BAR_P50_MS: Final = 150
_BAR_P99_MS: Final = 400
_BAR_BYTES: Final = 500_000


def main() -> None:
    """Print the latency and the size of each page, and compare them with the bars."""
    options = _options()
    with work_folder(None) as folder:
        data = folder / "data"
        commit_large_run(LocalStorage(data), _RUN, options.segments, 1)
        key = _register(data, options.runs)
        item = f"/runs/{_RUN}/items/{video_id_of(0)}"
        last = options.segments // 25
        pages = {
            "floor: /healthz": ("/healthz",),
            f"list of {options.runs:,} runs": tuple(f"/runs?page={number}" for number in (1, 2, options.runs // 50)),
            f"list of {options.runs:,} runs by cost": ("/runs?sort=-cost",),
            f"item of {options.segments:,} segments": tuple(f"{item}?page={n}" for n in (1, last // 2, last)),
            "run": (f"/runs/{_RUN}",),
        }
        with promptreel_serving(data) as (port, _):
            cookie = _sign_in(port, key)
            sizes = {name: max(_size(port, path, cookie) for path in paths) for name, paths in pages.items()}
            loads = {
                name: _load(port, paths, cookie, options.connections, options.seconds) for name, paths in pages.items()
            }
    floor = loads["floor: /healthz"].quantile_ms(0.5)
    rows = [
        [name, f"{load.quantile_ms(0.5):.0f}", f"{load.quantile_ms(0.99):.0f}", f"{load.quantile_ms(0.5) / floor:.0f}",
         f"{load.rate:.0f}", f"{sizes[name] / 1000:.0f}"]
        for name, load in loads.items()
    ]  # fmt: skip
    print_table([f"page at {options.connections} connections", "p50 ms", "p99 ms", "x floor", "1/s", "kB"], rows)
    for name, load in list(loads.items())[1:]:
        p50, p99 = load.quantile_ms(0.5), load.quantile_ms(0.99)
        bar = f"p50 {_BAR_P50_MS} ms, p99 {_BAR_P99_MS} ms, {_BAR_BYTES // 1000} kB"
        is_met = p50 <= _BAR_P50_MS and p99 <= _BAR_P99_MS and sizes[name] <= _BAR_BYTES
        print_bar(name, f"{p50:.0f} ms, {p99:.0f} ms, {sizes[name] / 1000:.0f} kB", bar, is_met)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks page_speed")
    parser.add_argument("--runs", type=int, default=10_000, metavar="N")
    parser.add_argument("--segments", type=int, default=5_000, metavar="N")
    parser.add_argument("--connections", type=int, default=8, metavar="N")
    parser.add_argument("--seconds", type=float, default=10, metavar="S", help="of load on each page [default: 10]")
    return parser.parse_args()


def _register(data: Path, runs: int) -> str:
    """Add the generated run and `runs - 1` others to a new account; return an API key of it."""
    database = Database(ApiConfig(data_dir=str(data)).sqlalchemy_url)
    migrate(database)
    with database.write() as session:
        account = create_account(session, "benchmark").account_id
        _, key = create_key(session, account, "benchmark", ["read"])
        session.add(finished_run(account, _RUN))
        for number in range(1, runs):
            run = finished_run(account, f"run_20260101-000000-{number:010x}")
            run.created_at -= timedelta(seconds=number)
            session.add(run)
        session.flush()
        session.add(RunItem(run_id=_RUN, video_id=video_id_of(0), position=0))
    database.close()
    return key


def _sign_in(port: int, key: str) -> str:
    """Return the `Cookie` header of a browser that is signed in."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        form = re.search(r'name="form_token" value="([^"]+)"', client.get("/sign-in").text)
        assert form is not None
        client.post("/sign-in", data={"form_token": form[1], "api_key": key})
        return "; ".join(f"{name}={value}" for name, value in client.cookies.items())


def _size(port: int, path: str, cookie: str) -> int:
    response = httpx.get(f"http://127.0.0.1:{port}{path}", headers={"Cookie": cookie}, timeout=60)
    assert response.status_code == 200, (path, response.status_code)
    return len(response.content)


def _load(port: int, paths: tuple[str, ...], cookie: str, connections: int, seconds: float) -> Load:
    requests = [request_bytes("GET", path, {"Cookie": cookie}) for path in paths]
    load = put_under_load(port, lambda number: requests[number % len(requests)], connections, seconds)
    assert set(load.statuses) == {200}, load.statuses
    return load
