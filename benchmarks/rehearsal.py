"""Complete runs for benchmarks: the real runner process with the fake Gemini service in a separate process."""

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
ENVIRONMENT = {"GEMINI_API_KEY": "the fake service accepts any key"}

# Without a synthesis, there is exactly one call per segment.
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
    """A running fake Gemini service.

    Attributes:
        url: its address.
        ledger_file: file in which it records all calls.
    """

    url: str
    ledger_file: Path

    def ledger(self) -> Ledger:
        """Return the calls so far."""
        return read_ledger(self.ledger_file)


@contextmanager
def fake_service(folder: Path, *, latency_s: float, rps: float | None = None) -> Iterator[Service]:
    """Run the fake service during the `with` block.

    Args:
        folder: folder for its ledger.
        rps: accepted calls per second; other calls are answered 429. None accepts all.
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
    """Read the service's ledger file; an unanswered call has no status."""
    entries: dict[int, Entry] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            values = json.loads(line)
        except ValueError:
            continue  # this line is still being written
        values.pop("event")
        entries[values["number"]] = Entry(**values)
    ledger = Ledger()
    ledger.entries = [entries[number] for number in sorted(entries)]
    return ledger


def gemini_settings(
    service: Service | None, *, window_s: int, max_in_flight: int = 64, media_input: str = "frames"
) -> RunSettings:
    """Return settings for fixed windows with the fake service, or with the built-in model if `service` is None.

    Local models are disabled; they have their own benchmark.
    """
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
    """Create a run and return its id; the default prompt depends on whether the model is the built-in one."""
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
    """Return the command that starts the runner of a run."""
    return runner_process_command(LocalStorage(data), run_id)


def start_runner(data: Path, run_id: str) -> subprocess.Popen[bytes]:
    """Start the runner of a run; its output goes to a log in the data folder."""
    with (data / f"{run_id}.log").open("ab") as log:
        return subprocess.Popen(
            runner_command(data, run_id),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **ENVIRONMENT},
        )


def make_film(path: Path, source: str, *options: str) -> Path:
    """Generate a film with ffmpeg from a lavfi source, unless it exists.

    Args:
        source: a lavfi graph, e.g. "testsrc2=s=1280x720:r=30:d=60".
        options: output options.

    Raises:
        RuntimeError: ffmpeg failed.
    """
    return run_ffmpeg(path, "-f", "lavfi", "-i", source, *options)


def run_ffmpeg(path: Path, *options: str) -> Path:
    """Generate a file with ffmpeg, unless it exists; it is renamed into place when complete.

    Raises:
        RuntimeError: ffmpeg failed.
    """
    if path.exists():
        return path
    unfinished = path.with_name(f"unfinished-{path.name}")
    command = [find_ffmpeg().path, "-nostdin", "-v", "error", "-y", *options, str(unfinished)]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"ffmpeg could not generate {path.name}: {done.stderr.decode('utf-8', 'replace')[-500:]}")
    unfinished.replace(path)
    return path


def distinct_copies(film: Path, folder: Path, count: int) -> list[Path]:
    """Copy an MP4 a number of times with distinct content, so that each copy is a separate item of the same cost."""
    folder.mkdir(exist_ok=True)
    content = film.read_bytes()
    copies = []
    for number in range(count):
        path = folder / f"{film.stem}-{number:05d}.mp4"
        note = f"copy {number}".encode()
        # A trailing "free" box changes the content hash; decoders ignore it.
        path.write_bytes(content + (8 + len(note)).to_bytes(4, "big") + b"free" + note)
        copies.append(path)
    return copies
