"""Generate runs of up to millions of segments, with the parts, row groups and manifest that the pipeline writes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from promptreel.api.db.models import RunRecord
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.settings import RunSettings
from promptreel.tables.layout import run_folder
from promptreel.tables.manifest import commit_manifest
from promptreel.tables.parts import ROWS_PER_GROUP, Part
from promptreel.tables.request import RunRequest, TargetItem, write_request
from promptreel.tables.shards import shard_of, shards_for
from promptreel.tables.storage import LocalStorage
from promptreel.tables.table_schemas import table_schemas

PROMPT: Final = Prompt(
    name="benchmark",
    prompt_text="Describe the segment and list what is seen in it.",
    json_schema={
        "type": "object",
        "properties": {
            "summary": {"type": "string"},
            "scene": {
                "type": "object",
                "properties": {"location": {"type": "string"}, "people": {"type": "integer"}},
            },
            "things": {"type": "array", "items": {"type": "string"}},
        },
    },
)
_WORDS: Final = ("dock", "yard", "road", "hall", "room", "wood", "roof", "lake")


def commit_large_run(storage: LocalStorage, run_id: str, segments: int, items: int) -> None:
    """Commit a run with a number of segments in a number of items; every twentieth segment failed."""
    request = RunRequest(run_id, PROMPT, RunSettings(), ("generated",), datetime.now(UTC).isoformat())
    write_request(storage, request, [TargetItem("/generated/film.mp4", "film.mp4")])
    shards = shards_for(items)
    of_item = np.arange(segments).reshape(items, -1)
    shard_of_item = np.array([shard_of(video_id_of(item), shards) for item in range(items)])
    parts: list[Part] = []
    for shard in range(shards):
        numbers = of_item[shard_of_item == shard].reshape(-1)
        if len(numbers):
            for table, columns in _columns(numbers, of_item.shape[1]).items():
                parts.append(_write_part(storage, run_id, table, shard, columns))
    commit_manifest(storage, run_id, attempt=1, token="t", status="completed", counts={}, parts=parts, shards=shards)


def video_id_of(item: int) -> str:
    """Return the id of an item of a generated run."""
    return f"vid_{item:06d}"


def _columns(numbers: np.ndarray[Any, Any], per_item: int) -> dict[str, dict[str, pa.Array]]:
    """Return the columns with varying values, by table."""
    random = np.random.default_rng(int(numbers[0]))
    items = numbers // per_item

    def of(selected: np.ndarray[Any, Any]) -> dict[str, pa.Array]:
        start = (numbers[selected] % per_item) * 5_000_000
        return {
            "video_id": pa.array([video_id_of(item) for item in items[selected]]),
            "segment_id": pa.array([f"seg_{number:028x}" for number in numbers[selected]]),
            "name": pa.array([f"{item}.mp4" for item in items[selected]]),
            "start_us": pa.array(start),
            "end_us": pa.array(start + 5_000_000),
            "start_time": pa.array(start / 1e6),
            "end_time": pa.array(start / 1e6 + 5),
        }

    failed = numbers % 20 == 7
    everything, succeeded = np.ones(len(numbers), bool), ~failed
    words = [_WORDS[index] for index in random.integers(0, len(_WORDS), int(succeeded.sum()))]
    fields = pa.StructArray.from_arrays(
        [
            pa.array([f"a {word} is seen with many people in it" for word in words]),
            pa.StructArray.from_arrays(
                [pa.array(words), pa.array(random.integers(0, 12, len(words)))], ["location", "people"]
            ),
            pa.array([[word, "person", f"thing {index % 50}"] for index, word in enumerate(words)]),
        ],
        ["summary", "scene", "things"],
    )
    outcome = pa.array(["failed" if has_failed else "succeeded" for has_failed in failed])
    heads = np.flatnonzero(np.diff(items, prepend=-1))
    return {
        "media": {**of(heads), "duration_seconds": pa.array([5.0 * per_item] * len(heads)),
                  "segment_count": pa.array([per_item] * len(heads)), "status": pa.array(["partial"] * len(heads))},
        "segments": {**of(everything), "status": outcome, "field_extraction": outcome},
        "results": {**of(succeeded), "fields": fields, "metadata_text": pa.array([f"summary: a {word}" for word in words]),
                    "metadata": pa.array([json.dumps(answer) for answer in fields.to_pylist()])},
        "transcripts": {**of(everything), "text": pa.array([f"so many {_WORDS[n % 8]} and the rest" for n in numbers])},
        "failures": {**of(failed), "operation": pa.array(["field_extraction"] * int(failed.sum())),
                     "code": pa.array([("model_timeout", "model_blocked")[int(n % 40 == 7)] for n in numbers[failed]]),
                     "message": pa.array(["the service did not answer"] * int(failed.sum()))},
    }  # fmt: skip


def _write_part(storage: LocalStorage, run_id: str, table: str, shard: int, columns: dict[str, pa.Array]) -> Part:
    schema = table_schemas(PROMPT)[table]
    count = len(columns["video_id"])
    arrays = []
    for column in schema:
        if column.name in columns:
            arrays.append(columns[column.name].cast(column.type))
        elif column.name == "run_id":
            arrays.append(pa.array([run_id] * count))
        elif column.nullable:
            arrays.append(pa.nulls(count, column.type))
        else:
            arrays.append(pa.array([_filler(column.type)] * count, column.type))
    name = f"parts/{table}/part-{shard:05d}.parquet"
    path = storage.path / run_folder(run_id) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = pa.Table.from_arrays(arrays, schema=schema)
    pq.write_table(rows, path, compression="zstd", row_group_size=ROWS_PER_GROUP)
    ids = columns["video_id"]
    return Part(table, name, count, path.stat().st_size, ids[0].as_py(), ids[-1].as_py(), shard)


def _filler(kind: pa.DataType) -> Any:
    if pa.types.is_string(kind):
        return "video"
    if pa.types.is_list(kind):
        return []
    return False if pa.types.is_boolean(kind) else 0


def finished_run(account: str, run_id: str) -> RunRecord:
    """Return the database row that assigns a generated run to an account."""
    return RunRecord(
        run_id=run_id,
        account_id=account,
        prompt_id="prompt_x",
        prompt_name=PROMPT.name,
        prompt=PROMPT.to_dict(),
        settings=RunSettings().to_dict(),
        target={},
        index_id=None,
        status="completed",
        summary={},
        created_at=datetime.now(UTC),
        manifest_number=1,
    )
