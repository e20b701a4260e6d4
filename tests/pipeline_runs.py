"""Test helpers for runs: generate media, run it with a fake service, and read the tables as rows."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from promptreel.cli.target import expand_target
from promptreel.media.ffmpeg import find_ffmpeg
from promptreel.pipelines.runner import execute_run
from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL
from promptreel.schemas.ids import new_run_id
from promptreel.schemas.segmentation import SegmentationSettings
from promptreel.schemas.settings import (
    CallSettings,
    ImageEmbeddingSettings,
    ModelSettings,
    RunSettings,
    TextEmbeddingSettings,
    TranscriptionSettings,
)
from promptreel.schemas.table_rows import TABLES
from promptreel.tables.manifest import newest_manifest
from promptreel.tables.reader import committed_run, read_rows
from promptreel.tables.request import RunRequest, write_request
from promptreel.tables.runner_command import runner_command
from promptreel.tables.storage import open_storage
from tests.media_files import write_sound
from tests.prompts import NESTED
from tests.voices import draw_voice

CHECKOUT = Path(__file__).parent.parent
MODEL = DEFAULT_GEMINI_MODEL
# Columns that differ between two equal runs: run id, times, and call ids.
_VARIABLE_COLUMNS = {"run_id", "llm_call_ids", "executed_at", "reused"}


def make_media(path, source, *arguments):
    """Generate a file from a lavfi graph with the product's ffmpeg."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [find_ffmpeg().path, "-v", "error", "-y", "-f", "lavfi", "-i", source, *arguments, str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


def make_video(path, seconds=4, pattern="testsrc2", sound=True):
    """Generate a 160x90 video, by default with a tone."""
    source = f"{pattern}=size=160x90:rate=10:duration={seconds}"
    tone = ["-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=16000:duration={seconds}"]
    return make_media(
        path, source, *(tone if sound else ()), "-c:v", "libx264", "-preset", "ultrafast", "-g", "10", "-c:a", "aac"
    )


def make_audio(path, seconds=4, frequency=330):
    """Generate an audio file with a tone."""
    return make_media(path, f"sine=frequency={frequency}:sample_rate=16000:duration={seconds}")


def make_speech(path, seconds=8, seed=1, picture=None):
    """Generate voice-like sound, optionally with pictures from a lavfi source."""
    with tempfile.TemporaryDirectory() as scratch:
        sound = write_sound(Path(scratch) / "voice.wav", draw_voice(seconds, seed).samples)
        pictures = ["-f", "lavfi", "-i", picture, "-c:v", "libx264", "-preset", "ultrafast"] if picture else []
        path.parent.mkdir(parents=True, exist_ok=True)
        # With -shortest alone, the end of an endless source depends on the load of the machine.
        length = ["-t", str(seconds), "-shortest"]
        command = [find_ffmpeg().path, "-v", "error", "-y", "-i", str(sound), *pictures, *length, str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


def make_image(path):
    """Generate a 160x90 image."""
    return make_media(path, "testsrc2=size=160x90:rate=1:duration=1", "-frames:v", "1")


def settings_for(server=None, *, window_s=1, model=MODEL, reuse=True, media_input="clips", **calls):
    """Return run settings with fixed windows and a fake service; without a server, with the built-in model."""
    segmentation = SegmentationSettings("fixed", "fixed", window_s, window_s)
    if server is None:
        return RunSettings(segmentation=segmentation, reuse_results=reuse)
    return RunSettings(
        segmentation=segmentation,
        model=ModelSettings(model=model, base_url=server.base_url, media_input=media_input),
        calls=CallSettings(**calls),
        reuse_results=reuse,
    )


def with_models(settings, *, whisper=None, clip=None, text=None, **more):
    """Return the settings with the given local models enabled and all others disabled."""
    return replace(
        settings,
        transcription=TranscriptionSettings(enabled=whisper is not None, model=str(whisper)),
        image_embedding=ImageEmbeddingSettings(enabled=clip is not None, model=str(clip)),
        text_embedding=TextEmbeddingSettings(enabled=text is not None, model=str(text)),
        **more,
    )


def create_run(data, target, settings, prompt=NESTED, run_id=None):
    """Create a run as `promptreel run` does; return its id."""
    paths = [str(part) for part in (target if isinstance(target, list | tuple) else [target])]
    request = RunRequest(run_id or new_run_id(), prompt, settings, tuple(paths), datetime.now(UTC).isoformat())
    write_request(open_storage(data), request, expand_target(paths).items)
    return request.run_id


def run_media(data, target, settings, prompt=NESTED):
    """Execute a run in this process; return its id."""
    run_id = create_run(data, target, settings, prompt)
    execute_run(str(data), run_id)
    return run_id


def manifest_of(data, run_id):
    """Return the newest manifest."""
    return newest_manifest(open_storage(data), run_id)


def rows_of(data, run_id, table, where="true", **parameters):
    """Return the rows of a table in table order."""
    storage = open_storage(data)
    return read_rows(storage, committed_run(storage, run_id), table, where, **parameters)


def plain_rows(data, run_id, table):
    """Return the rows of a table with DuckDB alone, from the files in the newest manifest."""
    manifest = manifest_of(data, run_id)
    files = [str(Path(data) / "runs" / run_id / part.file) for part in manifest.parts if part.table == table]
    if not files:
        return []
    with duckdb.connect() as connection:
        cursor = connection.execute("SELECT * FROM read_parquet(?)", [files])
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def comparable_rows(data, run_id):
    """Return the rows of all tables except call records, without columns that differ between equal runs."""
    found = {}
    for table in TABLES:
        if table != "llm_calls":
            rows = [
                {k: v for k, v in row.items() if k not in _VARIABLE_COLUMNS} for row in plain_rows(data, run_id, table)
            ]
            found[table] = sorted(map(repr, rows))
    return found


def check_counts(data, run_id):
    """Check invariants of a run: counts, manifest and rows agree; segments are unique; results have their calls."""
    manifest = manifest_of(data, run_id)
    counts = manifest.counts
    rows = {table: plain_rows(data, run_id, table) for table in TABLES}
    assert {table: manifest.rows_of(table) for table in TABLES} == {table: len(rows[table]) for table in TABLES}
    for table in ("media", "segments", "results", "video_results", "failures"):
        assert counts.get(f"{table}.total", 0) == len(rows[table]), table
    assert counts.get("calls.total", 0) == len(rows["llm_calls"])
    assert counts.get("tokens.total", 0) == sum(call["total_tokens"] for call in rows["llm_calls"])
    for operation in ("field_extraction", "transcription", "image_embedding"):
        outcomes = Counter(row[operation] for row in rows["segments"] if row[operation] is not None)
        reported = {name: counts.get(f"{operation}.{name}", 0) for name in ("succeeded", "failed", "cancelled")}
        assert reported == {name: outcomes[name] for name in reported}, operation
        failed = {row["segment_id"] for row in rows["failures"] if row["operation"] == operation}
        assert failed == {row["segment_id"] for row in rows["segments"] if row[operation] == "failed"}, operation
    transcribed = Counter(row["segment_id"] for row in rows["segments"] if row["transcription"] == "succeeded")
    assert Counter(row["segment_id"] for row in rows["transcripts"]) == transcribed
    embedded = {row["segment_id"] for row in rows["segments"] if row["image_embedding"] == "succeeded"}
    assert {row["segment_id"] for row in rows["image_embeddings"]} <= embedded
    text_keys = [(row["video_id"], row["segment_id"], row["instance"]) for row in rows["text_embeddings"]]
    assert len(set(text_keys)) == len(text_keys)
    outcomes = [counts.get(f"segments.{name}", 0) for name in ("succeeded", "failed", "cancelled")]
    assert sum(outcomes) == len(rows["segments"])
    assert len({row["segment_id"] for row in rows["segments"]}) == len(rows["segments"])
    succeeded = {row["segment_id"] for row in rows["segments"] if row["field_extraction"] == "succeeded"}
    assert succeeded == {row["segment_id"] for row in rows["results"]}
    assert len(rows["results"]) == len(succeeded)
    call_ids = {call["llm_call_id"] for call in rows["llm_calls"]}
    for row in rows["results"]:
        sources = json.loads(row["merged_from"] or "[]")
        earlier = {call_id for source in sources for call_id in source["llm_call_ids"]}
        assert row["reused"] or set(row["llm_call_ids"]) - earlier <= call_ids
    return rows


def start_runner(data, run_id, *words, **options):
    """Start the runner process of a run."""
    command = [*runner_command(open_storage(data), run_id), *words]
    return start(command, **options)


def start_promptreel(*words, **options):
    """Start the command line as a separate process."""
    return start([sys.executable, "-m", "promptreel", *map(str, words)], **options)


def start(command, **options):
    """Start a child process with a key in its environment; its output is captured as text."""
    environment = {**os.environ, "GEMINI_API_KEY": "any", "PYTHONPATH": str(CHECKOUT), **options.pop("env", {})}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with default_interrupt_handling():
        return subprocess.Popen(command, text=True, env=environment, **{**pipes, **options})


@contextmanager
def default_interrupt_handling():
    """Start child processes with the default handling of SIGINT.

    Shells ignore SIGINT in background processes, and child processes would inherit that.
    """
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)  # handlers are not inherited, unlike SIG_IGN
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def promptreel(*words, **options):
    """Run the command line; return (exit code, standard output, standard error)."""
    child = start_promptreel(*words, **options)
    out, err = child.communicate(timeout=120)
    return child.returncode, out, err


def wait_for(condition, seconds=60):
    """Poll a condition until it holds; fail after a timeout."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"condition did not hold within {seconds} s: {condition}")
        time.sleep(0.005)


def kill(child):
    """Kill a process with SIGKILL, like the kernel does when out of memory."""
    child.send_signal(signal.SIGKILL)
    child.communicate()


# A runner that kills itself after a number of model answers.
_KILLED_AT_ANSWER = """
import os, signal, sys
from promptreel.tables.call_log import CallLog
remaining, end = int(sys.argv.pop(1)), CallLog.end
def end_or_die(self, call):
    global remaining
    end(self, call)
    remaining -= 1
    if remaining == 0:
        os.kill(os.getpid(), signal.SIGKILL)
CallLog.end = end_or_die
from promptreel.pipelines.runner import main
main(sys.argv[1:])
"""


def kill_runner_after(answers, data, run_id, *words):
    """Run a runner process that is killed after a number of model answers."""
    command = [sys.executable, "-c", _KILLED_AT_ANSWER, str(answers), "--data-dir", str(data), "--run-id", run_id]
    child = start([*command, *words])
    _, err = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL, err
