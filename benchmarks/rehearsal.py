"""Whole runs for benchmarks: the true runner process against the fake Gemini service in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from promptreel.media.ffmpeg import find_ffmpeg
from promptreel.prompts import find_prompt
from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL
from promptreel.schemas.ids import new_run_id
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.segmentation import SegmentationSettings
from promptreel.schemas.settings import (
    CallSettings,
    ImageEmbeddingSettings,
    ModelSettings,
    RunSettings,
    TextEmbeddingSettings,
    TranscriptionSettings,
)
from promptreel.tables.request import RunRequest, TargetItem, write_request
from promptreel.tables.runner_command import runner_command as runner_process_command
from promptreel.tables.storage import LocalStorage
from tests.fake_gemini.ledger import Entry, Ledger

MODEL = DEFAULT_GEMINI_MODEL
ENVIRONMENT = {"GEMINI_API_KEY": "the fake service takes any key"}

# No synthesis: every call is one segment's.
PROMPT = Prompt(
    name="benchmark",
    prompt_text="Describe the segment and list what is seen in it.",
    json_schema={
        "type": "object",
        "properties": {
            "summary": {"type": "string"},
            "scene": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
            "things": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["summary", "scene"],
    },
)


@dataclass(frozen=True)
class Service:
    """A fake Gemini service that is up.

    Attributes:
        url: its address.
        ledger_file: where it writes every call through to.
    """

    url: str
    ledger_file: Path

    def ledger(self) -> Ledger:
        """The calls so far."""
        return read_ledger(self.ledger_file)


@contextmanager
def fake_service(folder: Path, *, latency_s: float, rps: float | None = None) -> Iterator[Service]:
    """Runs the fake service while the block lasts.

    Args:
        folder: where its ledger is put.
        rps: calls that it takes in a second; others are answered 429. None takes all.
    """
    ledger_file = folder / f"ledger-{len(list(folder.glob('ledger-*')))}.jsonl"
    command = [sys.executable, "-m", "tests.fake_gemini", "--port", "0", "--latency", str(latency_s)]
    command += ["--ledger", str(ledger_file), *(["--rps", str(rps)] if rps else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Service(process.stdout.readline().split()[0], ledger_file)
        finally:
            process.terminate()
            process.wait()


def read_ledger(path: Path) -> Ledger:
    """A ledger from the file that the service wrote; a call that was never answered has no status."""
    entries: dict[int, Entry] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            values = json.loads(line)
        except ValueError:
            continue  # the line that is just being written
        values.pop("event")
        entries[values["number"]] = Entry(**values)
    ledger = Ledger()
    ledger.entries = [entries[number] for number in sorted(entries)]
    return ledger


def gemini_settings(
    service: Service | None, *, window_s: int, max_in_flight: int = 64, media_input: str = "frames"
) -> RunSettings:
    """Settings of a run over fixed windows, asked of the fake service, or of the built-in model where there is none. Local
    models are left out: they have a benchmark of their own."""
    settings = RunSettings(
        segmentation=SegmentationSettings(video_strategy="fixed", video_duration_s=window_s),
        calls=CallSettings(max_in_flight=max_in_flight),
        transcription=TranscriptionSettings(enabled=False),
        image_embedding=ImageEmbeddingSettings(enabled=False),
        text_embedding=TextEmbeddingSettings(enabled=False),
    )
    if service is None:
        return settings
    model = ModelSettings(model=MODEL, media_input=media_input, base_url=service.url)  # type: ignore[arg-type]
    return replace(settings, model=model)


def create_run(data: Path, films: Sequence[Path], settings: RunSettings, prompt: Prompt | None = None) -> str:
    """Freezes a run, with the benchmark's prompt, or for the built-in model with its own; returns its id."""
    built_in = settings.model.model == "signals"
    request = RunRequest(
        new_run_id(),
        prompt or (find_prompt("measure") if built_in else PROMPT),
        settings,
        tuple(str(film) for film in films),
        datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
    write_request(LocalStorage(data), request, [TargetItem(str(film), film.name) for film in films])
    return request.run_id


def runner_command(data: Path, run_id: str) -> list[str]:
    """What starts the runner of a run."""
    return runner_process_command(LocalStorage(data), run_id)


def start_runner(data: Path, run_id: str) -> subprocess.Popen[bytes]:
    """Starts the runner of a run; its messages go to a log beside the data."""
    with (data / f"{run_id}.log").open("ab") as log:
        return subprocess.Popen(
            runner_command(data, run_id),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **ENVIRONMENT},
        )


def make_film(path: Path, source: str, *options: str) -> Path:
    """Makes a film with ffmpeg from a lavfi source, where it is not there yet.

    Args:
        source: a lavfi graph, e.g. "testsrc2=s=1280x720:r=30:d=60".
        options: output options.

    Raises:
        RuntimeError: ffmpeg refused.
    """
    return run_ffmpeg(path, "-f", "lavfi", "-i", source, *options)


def run_ffmpeg(path: Path, *options: str) -> Path:
    """Makes a file with ffmpeg, where it is not there yet; it gets its name when it is whole.

    Raises:
        RuntimeError: ffmpeg refused.
    """
    if path.exists():
        return path
    unfinished = path.with_name(f"unfinished-{path.name}")
    command = [find_ffmpeg().path, "-nostdin", "-v", "error", "-y", *options, str(unfinished)]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"ffmpeg could not make {path.name}: {done.stderr.decode('utf-8', 'replace')[-500:]}")
    unfinished.replace(path)
    return path


def distinct_copies(film: Path, folder: Path, count: int) -> list[Path]:
    """So many copies of an MP4, no two with the same bytes: each is an item of its own, of the same cost."""
    folder.mkdir(exist_ok=True)
    content = film.read_bytes()
    made = []
    for number in range(count):
        path = folder / f"{film.stem}-{number:05d}.mp4"
        note = f"copy {number}".encode()
        # A box of the type "free" at the end: decoders pass over it, and the content hash differs.
        path.write_bytes(content + (8 + len(note)).to_bytes(4, "big") + b"free" + note)
        made.append(path)
    return made
