"""Time of a results page over HTTP, from a run of 1,000 segments and from runs of a million.

    python -m benchmarks api_pages [--segments N] [--repeat N] [--keep FOLDER]

One `promptreel serve` has three finished runs: 1,000 segments in one item, a million in 1,000 items, and a million in one
item. The first and the last page of 50 results of each run are requested in turn over one keep-alive connection; the
figures are medians. The last page is requested with the cursor of the page before it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import httpx2 as httpx

from benchmarks.large_runs import commit_large_run, finished_run, video_id_of
from benchmarks.report import print_bar, print_table
from benchmarks.scratch import work_folder
from benchmarks.services import promptreel_serving
from promptreel.api.app import PREFIX
from promptreel.api.config import ApiConfig
from promptreel.api.db.engine import Database
from promptreel.api.db.migrate import migrate
from promptreel.api.db.models import RunItem
from promptreel.api.web.auth import create_account, create_key
from promptreel.api.web.pagination import encode_cursor
from promptreel.tables.storage import LocalStorage

_PAGE = 50
_SMALL = 1000
_BAR = 1.5


def main() -> None:
    """Print the time of each page, and compare the slowest with the small run's first page."""
    options = _options()
    shapes = {
        f"{_SMALL:,} in one item": (_SMALL, 1),
        f"{options.segments:,} in {options.segments // 1000:,} items": (options.segments, options.segments // 1000),
        f"{options.segments:,} in one item": (options.segments, 1),
    }
    with work_folder(options.keep) as folder:
        data = folder / f"data-{options.segments}"
        storage = LocalStorage(data)
        for number, (segments, items) in enumerate(shapes.values()):
            if not storage.exists(f"runs/{_run_id(number)}/request.json"):
                commit_large_run(storage, _run_id(number), segments, items)
        key = _register(data, list(shapes.values()))
        with promptreel_serving(data) as (port, _), _client(port, key) as client:
            paths = {
                (name, page): path
                for number, (name, (segments, items)) in enumerate(shapes.items())
                for page, path in _paths(number, segments, items).items()
            }
            times: dict[tuple[str, str], list[float]] = {page_key: [] for page_key in paths}
            for _ in range(options.repeat + 1):
                for page_key, path in paths.items():
                    times[page_key].append(_get_page(client, path, is_last=page_key[1] == "last"))
    medians = {page_key: statistics.median(seconds[1:]) for page_key, seconds in times.items()}
    baseline = medians[next(iter(shapes)), "first"]
    rows = [
        [f"{name}, {page} page", f"{seconds * 1000:.1f}", f"{seconds / baseline:.2f}"]
        for (name, page), seconds in medians.items()
    ]
    print_table([f"{_PAGE} results of", "ms", "x"], rows)
    worst = max(medians.values()) / baseline
    print_bar("slowest page", f"{worst:.2f} x the first of {_SMALL:,}", f"{_BAR} x", worst <= _BAR)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks api_pages")
    parser.add_argument("--segments", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--repeat", type=int, default=100, metavar="N", help="requests of each page [default: 100]")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work in this folder and keep it")
    return parser.parse_args()


def _run_id(number: int) -> str:
    return f"run_20260101-000000-00000000{number:02x}"


def _register(data: Path, shapes: list[tuple[int, int]]) -> str:
    """Assign the runs to a new account; return an API key of it."""
    (data / "promptreel.db").unlink(missing_ok=True)
    database = Database(ApiConfig(data_dir=str(data)).sqlalchemy_url)
    migrate(database)
    with database.write() as session:
        account = create_account(session, "benchmark").account_id
        _, key = create_key(session, account, "benchmark", ["read"])
        for number, (_, items) in enumerate(shapes):
            run = finished_run(account, _run_id(number))
            session.add(run)
            session.flush()
            session.add_all(
                RunItem(run_id=run.run_id, video_id=video_id_of(item), position=item) for item in range(items)
            )
    database.close()
    return key


def _paths(number: int, segments: int, items: int) -> dict[str, str]:
    """Return the paths of the first page of the first item and of the last page of the last item."""
    per_item, run_id = segments // items, _run_id(number)
    video_id = video_id_of(items - 1)
    before = items * per_item - _PAGE - 1  # the last segment of the previous page
    position = [1, (before % per_item) * 5_000_000, f"seg_{before:028x}"]
    cursor = encode_cursor(("results", run_id, video_id), position)
    url = f"/prompt-runs/{run_id}/results?limit={_PAGE}"
    return {"first": f"{url}&video_id={video_id_of(0)}", "last": f"{url}&video_id={video_id}&cursor={cursor}"}


def _client(port: int, key: str) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{port}{PREFIX}", headers={"X-API-Key": key}, timeout=60)


def _get_page(client: httpx.Client, path: str, *, is_last: bool) -> float:
    start = time.perf_counter()
    response = client.get(path)
    seconds = time.perf_counter() - start
    body: dict[str, Any] = json.loads(response.content)
    assert response.status_code == 200, body
    assert len(body["data"]) == _PAGE, (path, len(body["data"]))
    assert (body["pagination"]["next_cursor"] is None) == is_last, path
    return seconds
