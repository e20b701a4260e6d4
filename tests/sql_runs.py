"""Committed runs of two accounts for SQL tests, written row by row. Data of the second account contains the word SECRET."""

import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from promptreel.schemas.prompt import prompt_from_dict
from promptreel.schemas.settings import RunSettings
from promptreel.tables.live_parts import publish_parts
from promptreel.tables.manifest import commit_manifest
from promptreel.tables.parts import shard_writer
from promptreel.tables.request import RunRequest, TargetItem, write_request
from promptreel.tables.storage import open_storage
from promptreel.tables.table_schemas import table_schemas
from tests.prompts import NESTED

SECRET = "SECRET-of-the-other-account"
SEGMENTS = 12  # per run, in three items; every fourth segment failed
# Fields whose types differ from the first prompt: `summary` is a list, `start_time` an integer; `status` is new.
SECOND = prompt_from_dict(
    {
        "name": "second",
        "prompt_text": "Count what is seen in the segment.",
        "json_schema": {
            "type": "object",
            "properties": {
                "summary": {"type": "array", "items": {"type": "string"}},
                "start_time": {"type": "integer"},
                "status": {"type": "string"},
                "count": {"type": "integer"},
            },
        },
    }
)
FIRST_RUN, SECOND_RUN, OTHER_RUN = (
    "run_20260101-100000-aaaaaa",
    "run_20260102-100000-bbbbbb",
    "run_20260103-100000-cccccc",
)


def first_fields(number, word="a word"):
    return {
        "summary": f"{word} {number}",
        "scene": {"location": "dock" if number % 2 else "yard", "people_count": number, "bright": number % 3 == 0},
        "products": [{"name": f"p{number}", "price": number / 2, "tags": ["x"], "first_seen": None}],
        "keywords": ["k", f"k{number % 3}"],
        "start_time": number + 0.5,
        "extra": None,
    }


def second_fields(number, word="a word"):
    return {"summary": [word, str(number)], "start_time": number, "status": "good", "count": number}


def commit_run(data, run_id, prompt=NESTED, fields_of=first_fields, word="a word", segments=SEGMENTS):
    """Commit a run of three items with segments, results, transcripts, frames, failures and syntheses."""
    storage = open_storage(data)
    request = RunRequest(run_id, prompt, RunSettings(), ("x",), datetime.now(UTC).isoformat())
    write_request(storage, request, [TargetItem("/x/a.mp4", "a.mp4")])
    schemas = table_schemas(prompt)

    def row(table, **values):
        filled = {column.name: None if column.nullable else _filler(column.type) for column in schemas[table]}
        return {**filled, "run_id": run_id, **{key: value for key, value in values.items() if key in filled}}

    with shard_writer(storage, run_id, 0, schemas) as writer:
        for item in range(3):
            video_id = f"vid_{item}"
            numbers = [number for number in range(segments) if number % 3 == item]
            writer.write(
                "media", row("media", video_id=video_id, name=f"{word} {item}.mp4", uri=f"{data}/media/{item}.mp4",
                             media_type="video", duration_seconds=60.0, segment_count=len(numbers), status="partial"),
            )  # fmt: skip
            for number in numbers:
                start = number * 1_000_000
                position = {
                    "video_id": video_id, "segment_id": f"seg_{number}", "media_type": "video", "start_us": start,
                    "end_us": start + 1_000_000, "start_time": float(number), "end_time": number + 1.0,
                    "segment_number": number, "name": f"{item}.mp4",
                }  # fmt: skip
                failed = number % 4 == 3
                outcome = "failed" if failed else "succeeded"
                writer.write("segments", row("segments", **position, status=outcome, field_extraction=outcome))
                if failed:
                    writer.write(
                        "failures", row("failures", **position, operation="field_extraction", code="model_timeout",
                                        message=f"{word}: late", retryable=True, attempts=2),
                    )  # fmt: skip
                    continue
                fields = fields_of(number, word)
                writer.write(
                    "results", row("results", **position, fields=fields, metadata=json.dumps(fields), metadata_text=word,
                                   model="m", prompt_id="p"),
                )  # fmt: skip
                writer.write("transcripts", row("transcripts", **position, text=f"{word} the {number}", language="en"))
                writer.write(
                    "frames", row("frames", **position, time_us=start, time=float(number), file=f"f/{number}.jpg")
                )
            if prompt.video_level is not None:
                writer.write(
                    "video_results", row("video_results", video_id=video_id, media_type="video", metadata="{}",
                                         fields={"topic": word, "count": item}),
                )  # fmt: skip
        parts = writer.commit()
    manifest = commit_manifest(storage, run_id, attempt=1, token="t", status="completed", counts={}, parts=parts)
    publish_parts(storage, manifest)
    return manifest


def tree_hash(folder):
    """Return (mode, size, modification time, content hash) of all files below a folder."""
    states = {}
    for path in sorted(Path(folder).rglob("*")):
        state = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        states[path.relative_to(folder).as_posix()] = (state.st_mode, state.st_size, state.st_mtime_ns, content)
    return states


def _filler(kind):
    if pa.types.is_string(kind):
        return ""
    if pa.types.is_list(kind):
        return []
    if pa.types.is_boolean(kind):
        return False
    return 0.0 if pa.types.is_floating(kind) else 0


def corpus(name):
    """Return (statement with placeholders, whether it may return rows) of each line of a corpus."""
    lines = (Path(__file__).parent / "sql_corpus" / name).read_text().splitlines()
    statements = [line for line in lines if line.strip() and not line.startswith("#")]
    return [(line.removeprefix("quiet: ").replace("\\n", "\n"), line.startswith("quiet: ")) for line in statements]


_MANY = """
import json, os, sys
sys.path.append(sys.argv[1])
from promptreel.api.sql import child
child._lock_down(int(sys.argv[2]))
child._warm_up()
sys.setrecursionlimit(child._MAX_RECURSION)
for request in json.load(sys.stdin):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, json.dumps(child._answer(request)).encode()[:60000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    print(json.dumps([os.waitstatus_to_exitcode(status), text.decode()]), flush=True)
"""


def answers_of_children(requests, memory_bytes):
    """Run each request in its own process; return (exit code, answer text) of each.

    The processes are forked from one warm process, which saves starting Python each time. The lockdown is the product's.
    """
    command = [sys.executable, "-I", "-c", _MANY, str(Path(__file__).parent.parent), str(memory_bytes)]
    done = subprocess.run(command, input=json.dumps(requests), capture_output=True, text=True, check=True, env={})
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]
