"""Search speed: exact nearest vectors compared with plain numpy, and text search over HTTP.

    python -m benchmarks search_speed [--segments N] [--queries N] [--keep FOLDER] [--only vectors|text]

Vectors: the exact top 10 of 100,000 x 512 and 1,000,000 x 512 float32 vectors, memory-mapped like an index, compared with
matmul and argpartition on the same array in memory. The sides take turns; the figure is the median of the ratios. Then the
same with a filter that selects 1 % of the rows.

Text: the service searches a run with N segments (a summary, a location and two tags each, with WordLlama vectors). All
queries are different, so that no cache answers them, and request 10 hits. Then a new manifest is committed, and one client
continues to search while its index is built.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import uvicorn

from benchmarks.report import print_bar, print_table
from benchmarks.scratch import fresh_folder, work_folder
from promptreel.api.app import PREFIX, create_app
from promptreel.api.config import ApiConfig, RateLimitSettings
from promptreel.api.web.auth import create_account, create_key
from promptreel.tables.vectors import Vectors, nearest, open_vectors, write_vectors
from tests.search_runs import Segment, Shelf

_DIMENSION = 512
_ROUNDS = 15
_COUNT = 10

_SUBJECTS = (
    "a crane|two dogs|the chef|an old man|children|a red car|the orchestra|a nurse|the farmer|a cyclist|three boats"
)
_VERBS = "lifts|passes|watches|repairs|carries|paints|waits beside|films|follows|cleans|opens|draws|photographs|sells"
_OBJECTS = (
    "a container|the gate|an onion|a bicycle|the window|a violin|the harvest|a letter|the bridge|a lamp|the train"
)
_MANNERS = "in the rain|at night|near the harbour|on a hill|behind the station|at dawn|in the snow|by the river|quickly"


def plain_nearest(vectors: Vectors, query: Vectors, count: int) -> Any:
    """Return the nearest vectors with plain numpy."""
    scores = vectors @ query
    best = np.argpartition(-scores, count)[:count]
    return best[np.argsort(-scores[best])]


def timed(call: Callable[[], Any]) -> float:
    """Return the wall time of a call in seconds."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure_vectors(folder: Path) -> None:
    """Measure the exact top 10 with and without a filter."""
    rows = []
    for count in (100_000, 1_000_000):
        rng = np.random.default_rng(count)
        vectors = rng.standard_normal((count, _DIMENSION), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        path = folder / f"{count}.npy"
        write_vectors(path, count, _DIMENSION, [vectors])
        mapped = open_vectors(path)
        query = vectors[count // 3]
        selected = np.flatnonzero(rng.random(count) < 0.01)
        assert nearest(mapped, query, _COUNT)[0].tolist() == plain_nearest(vectors, query, _COUNT).tolist()
        times: dict[str, list[float]] = {"plain": [], "product": [], "filtered": []}
        for _ in range(_ROUNDS):
            times["plain"].append(timed(lambda v=vectors, q=query: plain_nearest(v, q, _COUNT)))
            times["product"].append(timed(lambda m=mapped, q=query: nearest(m, q, _COUNT)))
            times["filtered"].append(timed(lambda m=mapped, q=query, s=selected: nearest(m, q, _COUNT, s)))
        ratio = statistics.median(b / a for a, b in zip(times["plain"], times["product"], strict=True))
        share = statistics.median(b / a for a, b in zip(times["product"], times["filtered"], strict=True))
        medians = [f"{statistics.median(part) * 1000:.1f}" for part in times.values()]
        rows.append([f"{count:,} x {_DIMENSION}", *medians, f"{ratio:.2f}", f"{share:.2f}"])
        print_bar(f"top {_COUNT} of {count:,}", f"{ratio:.2f} x plain numpy", "1.2 x", ratio <= 1.2)
        print_bar(f"top {_COUNT} of a filtered 1 % of {count:,}", f"{share:.2f} x unfiltered", "< 1 x", share < 1)
        del vectors, mapped
        path.unlink()
    print_table(["vectors", "plain ms", "product ms", "filtered ms", "ratio", "filtered ratio"], rows)


def generate_segments(count: int, seed: int) -> dict[str, list[Segment]]:
    """Generate films of 1,000 segments each."""
    rng = np.random.default_rng(seed)
    words = [part.split("|") for part in (_SUBJECTS, _VERBS, _OBJECTS, _MANNERS)]
    films: dict[str, list[Segment]] = {}
    for number in range(count):
        summary = " ".join(str(rng.choice(part)) for part in words) + f", take {number}"
        tags = [str(rng.choice(words[2])), str(rng.choice(words[0]))]
        segment = Segment(summary=summary, scene={"location": str(rng.choice(words[3]))}, tags=tags)
        films.setdefault(f"vid_{number // 1000:05d}", []).append(segment)
    return films


def generate_query(number: int) -> str:
    """Return a distinct query for each number."""
    rng = np.random.default_rng(10_000 + number)
    words = [str(rng.choice(part.split("|"))) for part in (_SUBJECTS, _VERBS, _OBJECTS, _MANNERS)]
    return " ".join(words[: 2 + number % 3]) + f" {number}"


@contextmanager
def service(data: Path) -> Iterator[tuple[Any, str]]:
    """Run the service in a thread; yield (app, address)."""
    limits = RateLimitSettings(search=10**6)
    app = create_app(ApiConfig(data_dir=str(data), supervise=False, default_model="signals", rate_limits=limits))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="critical", access_log=False, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield app, f"http://127.0.0.1:{listener.getsockname()[1]}{PREFIX}"
        server.should_exit = True
        thread.join(timeout=30)
        app.state.search.library.stop()


def measure_search(client: httpx.Client, index_id: str, number: int) -> float:
    """Return the seconds of one search."""
    start = time.perf_counter()
    response = client.post(f"/indexes/{index_id}/search", json={"query": generate_query(number), "top_k": _COUNT})
    seconds = time.perf_counter() - start
    assert response.status_code == 200, response.text
    assert len(response.json()) == _COUNT
    return seconds


def percentile(times: Sequence[float], share: float) -> float:
    """Return a quantile of the times in milliseconds."""
    return float(np.quantile(times, share) * 1000)


def measure_text(folder: Path, segments: int, queries: int) -> None:
    """Measure text search over HTTP, idle and while an index is built."""
    with service(fresh_folder(folder)) as (app, address):
        with app.state.database.write() as session:
            account_id = create_account(session, "bench").account_id
            _, key = create_key(session, account_id, "k", ["search"])
        shelf = Shelf(app.state.database, app.state.storage, account_id)
        index_id = shelf.index()
        films = generate_segments(segments, 1)
        run_id = shelf.run(index_id, films)
        client = httpx.Client(base_url=address, headers={"X-API-Key": key}, timeout=60)
        start = time.perf_counter()
        while client.post(f"/indexes/{index_id}/search", json={"query": "any"}).status_code == 503:
            time.sleep(0.5)
        built_s = time.perf_counter() - start
        for number in range(5):
            measure_search(client, index_id, 10**6 + number)
        idle = [measure_search(client, index_id, number) for number in range(queries)]
        shelf.recommit(run_id, films)
        during: list[float] = []
        start = time.perf_counter()
        while _built_manifest(app, run_id) < 2:
            during.append(measure_search(client, index_id, queries + len(during)))
        rebuilt_s = time.perf_counter() - start
        client.close()
    rows = [
        [name, len(times), *(f"{percentile(times, share):.0f}" for share in (0.5, 0.99)), f"{max(times) * 1000:.0f}"]
        for name, times in (("idle", idle), ("while the index is built", during))
    ]
    print_table([f"text search, {segments:,} segments", "queries", "p50 ms", "p99 ms", "max ms"], rows)
    print(f"first index built in {built_s:.1f} s; second index, during queries, in {rebuilt_s:.1f} s")
    p50, p99 = percentile(idle, 0.5), percentile(idle, 0.99)
    print_bar("text search, p50", f"{p50:.0f} ms", "50 ms", p50 <= 50)
    print_bar("text search, p99", f"{p99:.0f} ms", "150 ms", p99 <= 150)
    longest = max(during) if during else 0.0
    is_met = len(during) > 1 and longest < rebuilt_s / 4
    print_bar("longest query while an index is built", f"{longest * 1000:.0f} ms", "no rebuild", is_met)


def _built_manifest(app: Any, run_id: str) -> int:
    index = app.state.search.library._open.get(run_id)
    return index.number if index is not None else 0


def main() -> None:
    """Run the benchmarks and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--keep", type=Path, default=None, help="keep generated data in this folder")
    parser.add_argument("--only", choices=["vectors", "text"], default=None)
    options = parser.parse_args()
    with work_folder(options.keep) as folder:
        if options.only != "text":
            measure_vectors(folder)
        if options.only != "vectors":
            measure_text(folder, options.segments, options.queries)


if __name__ == "__main__":
    main()
