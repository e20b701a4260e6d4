"""A page of results over HTTP: from a run of a thousand segments, and from runs of a million.

    python -m benchmarks api_pages [--segments N] [--repeat N] [--keep FOLDER]

Three finished runs lie behind one `promptreel serve`: 1,000 segments in one item, a million in 1,000 items, and a million in
one item. Of each the first and the last page of 50 results are asked for, in turns, over one kept-alive connection; the
medians count. The last page is what the cursor after the last but one gives.
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
    """Prints the time of each page, and how the slowest compares with the small run's first."""
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
            times: dict[tuple[str, str], list[float]] = {which: [] for which in paths}
            for _ in range(options.repeat + 1):
                for which, path in paths.items():
                    times[which].append(_ask(client, path, is_last=which[1] == "last"))
    medians = {which: statistics.median(found[1:]) for which, found in times.items()}
    least = medians[next(iter(shapes)), "first"]
    rows = [
        [f"{name}, {page} page", f"{spent * 1000:.1f}", f"{spent / least:.2f}"]
        for (name, page), spent in medians.items()
    ]
    print_table([f"{_PAGE} results of", "ms", "x"], rows)
    worst = max(medians.values()) / least
    print_bar("slowest page", f"{worst:.2f} x the first of {_SMALL:,}", f"{_BAR} x", worst <= _BAR)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks api_pages")
    parser.add_argument("--segments", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--repeat", type=int, default=100, metavar="N", help="pages of each kind [default: 100]")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work here and leave everything")
    return parser.parse_args()


def _run_id(number: int) -> str:
    return f"run_20260101-000000-00000000{number:02x}"


def _register(data: Path, shapes: list[tuple[int, int]]) -> str:
    """Makes the runs those of a new account; gives a key to it."""
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
    """The first page of the first item, and the last page of the last."""
    per_item, run_id = segments // items, _run_id(number)
    video_id = video_id_of(items - 1)
    before = items * per_item - _PAGE - 1  # the last segment of the page before
    place = [1, (before % per_item) * 5_000_000, f"seg_{before:028x}"]
    cursor = encode_cursor(("results", run_id, video_id), place)
    at = f"/prompt-runs/{run_id}/results?limit={_PAGE}"
    return {"first": f"{at}&video_id={video_id_of(0)}", "last": f"{at}&video_id={video_id}&cursor={cursor}"}


def _client(port: int, key: str) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{port}{PREFIX}", headers={"X-API-Key": key}, timeout=60)


def _ask(client: httpx.Client, path: str, *, is_last: bool) -> float:
    begun = time.perf_counter()
    answer = client.get(path)
    spent = time.perf_counter() - begun
    body: dict[str, Any] = json.loads(answer.content)
    assert answer.status_code == 200, body
    assert len(body["data"]) == _PAGE, (path, len(body["data"]))
    assert (body["pagination"]["next_cursor"] is None) == is_last, path
    return spent
