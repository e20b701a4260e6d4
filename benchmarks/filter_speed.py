"""Time of filter searches over a million segments: the examples of docs/filters.md, first and second page.

    python -m benchmarks filter_speed [--segments N] [--keep DIR]

Commits one run of N segments (200 per item) with nested fields and searches it as the service does: Parquet files, through
one DuckDB in the process. The figure is the best of three. The CPU time next to it shows how much other load on the machine
contributed. Each example should take less than a second.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.report import print_bar, print_table
from benchmarks.scratch import work_folder
from promptreel.api.db.models import RunRecord
from promptreel.api.runs.run_tables import run_tables
from promptreel.api.search.filter_engine import FilterEngine, ScopedRun
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.schemas.settings import RunSettings
from promptreel.schemas.wire.filter import FilterSearch
from promptreel.tables.layout import request_file
from promptreel.tables.manifest import commit_manifest
from promptreel.tables.parts import Part, shard_writer
from promptreel.tables.request import RunRequest, TargetItem, write_request
from promptreel.tables.shards import shard_of, shards_for
from promptreel.tables.storage import LocalStorage
from promptreel.tables.table_schemas import table_schemas

_BAR_S: Final = 1.0
_SEGMENTS_OF_ITEM: Final = 200
_PAGE: Final = 50
_WORDS: Final = 500
PROMPT = prompt_from_dict(
    {
        "name": "products",
        "prompt_text": "Describe the segment and the products in it.",
        "json_schema": {
            "type": "object",
            "properties": {
                "summary": {"type": "string"},
                "scene": {
                    "type": "object",
                    "properties": {"location": {"type": "string"}, "people_count": {"type": "integer"}},
                },
                "products": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string"},
                            "price": {"type": "number"},
                            "tags": {"type": "array", "items": {"type": "string"}},
                        },
                    },
                },
                "keywords": {"type": "array", "items": {"type": "string"}},
            },
        },
    }
)
EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "text contains, rare": {"field": "summary", "type": "string", "operator": "contains", "value": "zebra crossing"},
    "text contains, frequent": {"field": "summary", "type": "string", "operator": "contains", "value": "a"},
    "number over most": {"field": "scene.people_count", "type": "integer", "operator": "greater_than", "value": 98},
    "element of a list, rare": {
        "field": "products[].price",
        "type": "number",
        "operator": "greater_than",
        "value": 99.9999,
    },
    "text of a list": {"field": "products[].name", "type": "string", "operator": "equals", "value": "no such product"},
    "list of a list": {"field": "products[].tags", "type": "array", "operator": "item_contains", "value": "zebra"},
    "length of a list": {"field": "keywords", "type": "array", "operator": "length_greater", "value": 5},
    "any text at all": {"field": "metadata_text", "type": "string", "operator": "contains", "value": "zebra crossing"},
    "four at once": {
        "all": [
            {"field": "summary", "type": "string", "operator": "contains", "value": "ab"},
            {"field": "products[].name", "type": "string", "operator": "starts_with", "value": "b"},
            {"field": "scene.people_count", "type": "integer", "operator": "equals", "value": 7},
            {"field": "keywords", "type": "array", "operator": "is_not_empty"},
        ]
    },
    "any of ten, and not": {
        "all": [
            {
                "any": [
                    {"field": "scene.location", "type": "string", "operator": "equals", "value": f"zebra {number}"}
                    for number in range(10)
                ]
            },
            {"not": {"field": "keywords", "type": "array", "operator": "is_empty"}},
        ]
    },
}


def write_run(storage: LocalStorage, run_id: str, segments: int) -> None:
    """Commit one run with generated results; they depend on the number of segments only."""
    request = RunRequest(run_id, PROMPT, RunSettings(), ("generated",), datetime.now(UTC).isoformat())
    write_request(storage, request, [TargetItem("generated.mp4", "generated.mp4")])
    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefghijklmnop", k=7)) for _ in range(_WORDS)]
    video_ids = [f"vid_{number:024x}" for number in range(-(-segments // _SEGMENTS_OF_ITEM))]
    shards, schemas = shards_for(len(video_ids)), table_schemas(PROMPT)
    parts: list[Part] = []
    for shard in range(shards):
        with shard_writer(storage, run_id, shard, schemas) as writer:
            for video_id in (name for name in video_ids if shard_of(name, shards) == shard):
                for number in range(_SEGMENTS_OF_ITEM):
                    writer.write("results", _row(run_id, video_id, number, _answer(rng, words)))
            parts += writer.commit()
    commit_manifest(storage, run_id, attempt=1, token="t", status="completed", counts={}, parts=parts, shards=shards)


def _answer(rng: random.Random, words: list[str]) -> dict[str, Any]:
    return {
        "summary": " ".join(rng.choices(words, k=8)),
        "scene": {"location": rng.choice(words), "people_count": rng.randrange(100)},
        "products": [
            {
                "name": rng.choice(words),
                "price": rng.random() * 100,
                "tags": rng.choices(words, k=rng.randrange(3)),
            }
            for _ in range(rng.randrange(4))
        ],
        "keywords": rng.choices(words, k=rng.randrange(5)),
    }


def _row(run_id: str, video_id: str, number: int, answer: dict[str, Any]) -> dict[str, Any]:
    start_us = number * 5_000_000
    return {
        "run_id": run_id,
        "video_id": video_id,
        "segment_id": f"seg_{video_id[4:]}{number:04x}",
        "prompt_id": PROMPT.prompt_id,
        "model": "generated",
        "media_type": "video",
        "start_us": start_us,
        "end_us": start_us + 5_000_000,
        "start_time": number * 5.0,
        "end_time": number * 5.0 + 5.0,
        "metadata": json.dumps(answer),
        "metadata_text": f"{answer['summary']} {answer['scene']['location']}",
        "warning": None,
        "reused": False,
        "operation_key": "generated",
        "llm_call_ids": [],
        "executed_at": "2026-04-20T10:00:00Z",
        "fields": answer,
    }


def measure(engine: FilterEngine, scoped: ScopedRun, group: dict[str, Any]) -> tuple[int, float, float, float]:
    """Return (hits, wall seconds and CPU seconds of the first page, wall seconds of the second page), best of three."""
    nodes = FilterSearch.model_validate({"groups": [group]}).groups or []
    best = (0, float("inf"), float("inf"), float("inf"))
    for _ in range(3):
        wall, cpu = time.perf_counter(), time.process_time()
        page = engine.find(scoped, nodes, None, _PAGE + 1)
        first = (time.perf_counter() - wall, time.process_time() - cpu)
        wall = time.perf_counter()
        if len(page) > _PAGE:
            engine.find(scoped, nodes, page[_PAGE - 1].position, _PAGE + 1)
        second = time.perf_counter() - wall
        best = (min(len(page), _PAGE), min(best[1], first[0]), min(best[2], first[1]), min(best[3], second))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=1_000_000, help="segments in the run (default: a million)")
    parser.add_argument("--keep", type=Path, help="keep the run in this folder and reuse it")
    options = parser.parse_args()
    with work_folder(options.keep) as folder:
        storage, run_id = LocalStorage(folder / "data"), f"run_filter_{options.segments}"
        if not storage.exists(request_file(run_id)):
            print(f"writing {options.segments:,} segments ...", flush=True)
            write_run(storage, run_id, options.segments)
        tables = run_tables(storage, run_id)
        assert tables is not None
        scoped = ScopedRun(RunRecord(run_id=run_id, prompt=PROMPT.to_dict()), tables, None)
        engine = FilterEngine()
        figures = {name: measure(engine, scoped, group) for name, group in EXAMPLES.items()}
    rows = [
        (name, hits, f"{wall:.3f}", f"{cpu:.3f}", f"{second:.3f}")
        for name, (hits, wall, cpu, second) in figures.items()
    ]
    print_table(["example", "hits", "first page s", "CPU s", "next page s"], rows)
    slowest = max(max(figure[1], figure[3]) for figure in figures.values())
    print_bar("slowest example", f"{slowest:.2f} s", f"{_BAR_S:.0f} s", slowest <= _BAR_S)


if __name__ == "__main__":
    main()
