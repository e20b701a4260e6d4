"""Transcribe speech with faster-whisper, with weights from a local folder or of a public model."""

from __future__ import annotations

import dataclasses
import functools
import importlib.machinery
import importlib.util
import itertools
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from promptreel.providers.language_tracking import LanguageDetector, samples_before, track_languages
from promptreel.providers.local_models import COMPUTE, cores, shared_model
from promptreel.providers.sound_samples import SAMPLE_RATE, sample_at, samples_of_spans
from promptreel.providers.transcript import Language, Transcript, Utterance
from promptreel.providers.transcription import (
    CHUNK_US,
    VERSION,
    Chunk,
    Hypothesis,
    is_loop,
    join_pieces,
    pack_speech,
    spoken_words,
    utterances_of,
)
from promptreel.providers.weights import (
    Weights,
    as_path,
    file_identity,
    is_explicit_path,
    is_installed,
    models_folder,
    path_hint,
)
from promptreel.schemas.errors import ModelError, SettingsError
from promptreel.schemas.media import TimeSpan
from promptreel.schemas.mediatime import US_PER_SECOND, us_from_seconds
from promptreel.schemas.settings import TranscriptionSettings
from promptreel.schemas.speech_rows import Word

# Chunks decoded together. More than the number of CPU cores is hardly faster; 8 chunks of 30 s limit the memory.
BATCH: Final = 8

_FILES: Final = ("model.bin", "config.json", "tokenizer.json")

_EDGE_US: Final = US_PER_SECOND  # a word that ends closer to the end of a window may be truncated

_ChunkSamples = tuple[Chunk, NDArray[np.float32]]  # a chunk with its samples, float32[n] in -1..1


class WhisperTranscriber:
    """A Whisper model. The settings are picklable; the loaded model is shared within the process."""

    def __init__(self, settings: TranscriptionSettings) -> None:
        self._settings = settings
        self._weights = find_weights(settings.model)

    @property
    def name(self) -> str:
        """The model's name in transcripts. Weights from a local folder are identified by their content."""
        return f"whisper:{_identity(self._weights)}"

    def fingerprint(self) -> Mapping[str, Any]:
        """Return everything that affects a transcript, as part of its key."""
        settings = self._settings
        return {
            "provider": "whisper",
            "version": VERSION,
            "model": self.name,
            "language": settings.language,
            "compute_type": settings.compute_type,
            "beam_size": settings.beam_size,
        }

    def transcribe(
        self,
        audio_file: Path,
        speech: Sequence[TimeSpan],
        duration_us: int,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Transcript | None:
        """Transcribe an item. The model is not loaded if the item has no speech.

        Args:
            audio_file: the item's sound, 16 kHz mono.
            speech: the stretches of speech, in item time.
            should_stop: checked between batches; cancels the transcription.

        Returns:
            The transcript, or None if cancelled.

        Raises:
            ModelError: the weights are missing or cannot be loaded, the sound cannot be read, or the model does not
                support the language.
        """
        chunks = pack_speech(speech, duration_us)
        if not chunks:
            return Transcript(self.name, ())
        model = self._model()
        detector = LanguageDetector(
            lambda part: _stoppable(_with_samples(audio_file, part), should_stop),
            lambda samples: _language_probabilities(model, samples),
            _allowed_languages(model, self._settings.language),
        )
        utterances: list[Utterance] = []
        try:
            tracked = track_languages(chunks, detector)
            language_of = {piece.speech: language for chunk, language in tracked for piece in chunk.pieces}
            for code, group in _groups(_with_samples(audio_file, [chunk for chunk, _ in tracked]), language_of):
                if should_stop():
                    return None
                with COMPUTE:
                    found = self._recognise(model, group, code)
                for chunk, hypotheses in found:
                    utterances += utterances_of(chunk, hypotheses, language_of[chunk.pieces[0].speech], speech)
        except _CancelledWhileReading:
            return None
        return Transcript(self.name, tuple(utterances))

    def _model(self) -> Any:
        weights = self._weights
        if weights.path is None:
            raise ModelError("weights_missing", f"{weights.reason}; {weights.fix}", retryable=True)
        key = (self.name, str(weights.path), self._settings.compute_type)
        return shared_model(key, lambda: _load(weights, self._settings.compute_type))

    def _recognise(
        self, model: Any, group: Sequence[_ChunkSamples], language: str
    ) -> list[tuple[Chunk, list[Hypothesis]]]:
        """Transcribe the chunks of one batch, or a single chunk that is longer than the model's window.

        If the model loops on a chunk, its halves are transcribed separately, down to single pieces, so that the loop
        loses no other words.
        """
        # Temperatures above 0 sample words at random, so the same sound would not give the same words.
        options = {
            "language": language,
            "beam_size": self._settings.beam_size,
            "word_timestamps": True,
            "temperature": 0.0,
        }
        if len(group) == 1 and group[0][0].duration_us > CHUNK_US:
            return [(group[0][0], _recognise_long(model, group[0][1], options))]
        found: list[tuple[Chunk, list[Hypothesis]]] = []
        for read, hypotheses in zip(group, _recognise_batch(model, [read[1] for read in group], options), strict=True):
            if len(read[0].pieces) > 1 and any(is_loop(hypothesis) for hypothesis in hypotheses):
                found += self._recognise(model, _halves(*read), language)
            else:
                found.append((read[0], hypotheses))
        return found


def find_weights(model: str) -> Weights:
    """Find the weights of a model: a folder in CTranslate2 format, or the name of a public model that was pulled.

    See `promptreel.providers.weights.as_path` for what is a folder.
    """
    if not is_installed("faster_whisper"):
        reason = "faster-whisper is not installed"
        return Weights(model, None, reason=reason, fix="pip install 'promptreel[speech]'")
    folder = as_path(model)
    if folder is not None and folder.is_dir():
        missing = [name for name in _FILES if not (folder / name).is_file()]
        if missing:
            reason = f"{folder} lacks {', '.join(missing)}"
            fix = "use a folder in CTranslate2 format (run ct2-transformers-converter and add tokenizer.json)"
            return Weights(model, None, reason=reason, fix=fix)
        return Weights(model, folder, "path")
    if folder is not None and is_explicit_path(folder, model):
        return Weights(model, None, reason=f"{folder} does not exist", fix="check the path")
    fix = f"run: promptreel models pull whisper:{model}{path_hint(model)}"
    try:
        found = _hub_folder(model, local_files_only=True)
    except SettingsError as error:
        return Weights(model, None, reason=str(error), fix=f"use one of these names, or a folder{path_hint(model)}")
    if found is None:
        return Weights(model, None, reason=f"the weights of whisper model {model!r} are not on this machine", fix=fix)
    return Weights(model, found, "models folder")


def pull_weights(model: str) -> Weights:
    """Download the weights of a public model for offline use.

    Raises:
        SettingsError: the model is unknown, or faster-whisper is not installed.
        ModelError: the model hub cannot be reached.
    """
    found = find_weights(model)
    if found.available:
        return found
    if not is_installed("faster_whisper"):
        raise SettingsError(f"{found.reason}; {found.fix}")
    _hub_folder(model, local_files_only=False)
    return find_weights(model)


def _hub_folder(model: str, *, local_files_only: bool) -> Path | None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(_hub_names().download_model(model, local_files_only=local_files_only, cache_dir=models_folder()))
    except LocalEntryNotFoundError as error:
        if local_files_only:
            return None
        raise ModelError("weights_missing", f"whisper model {model!r}: cannot be fetched ({error})") from error
    except ValueError as error:  # unknown name
        raise SettingsError(str(error)) from error
    except Exception as error:
        if local_files_only:
            return None
        raise ModelError("weights_missing", f"whisper model {model!r}: cannot be fetched ({error})") from error
    return folder if all((folder / name).is_file() for name in _FILES) else None


@functools.cache
def _hub_names() -> Any:
    """Return the module of faster-whisper with the public names, without importing the package, which is slow."""
    package = importlib.util.find_spec("faster_whisper")
    assert package is not None, "callers check that it is installed"
    file = Path(str(package.origin)).with_name("utils.py")
    loader = importlib.machinery.SourceFileLoader("_faster_whisper_utils", str(file))
    module = types.ModuleType(loader.name)
    loader.exec_module(module)
    return module


def _identity(weights: Weights) -> str:
    if weights.source == "path" and weights.path is not None:
        return f"{weights.path.name}-{file_identity(weights.path / 'model.bin')}"
    return weights.model


def _load(weights: Weights, compute_type: str) -> Any:
    from faster_whisper import WhisperModel

    try:
        return WhisperModel(str(weights.path), device="auto", compute_type=compute_type, cpu_threads=cores())
    except Exception as error:  # ctranslate2 and tokenizers each raise their own
        message = f"whisper weights {weights.path}: cannot be loaded ({error}); pull or convert them again"
        raise ModelError("weights_missing", message) from error


def _allowed_languages(model: Any, setting: str | None) -> tuple[str, ...]:
    """Return the languages to choose from; empty for all. A monolingual model has no choice."""
    if not model.model.is_multilingual:
        return ("en",)
    languages = tuple(code.strip() for code in setting.split(",")) if setting is not None else ()
    for language in languages:
        if language not in model.supported_languages:
            known = ", ".join(sorted(model.supported_languages))
            raise ModelError("transcription_failed", f"language is {language!r}; the model supports {known}")
    return languages


def _language_probabilities(model: Any, samples: NDArray[np.float32]) -> Mapping[str, float]:
    with COMPUTE:
        _, _, probabilities = model.detect_language(audio=samples)
    return dict(probabilities)


class _CancelledWhileReading(Exception):
    """The transcription was cancelled."""


def _stoppable(reads: Iterable[_ChunkSamples], should_stop: Callable[[], bool]) -> Iterator[_ChunkSamples]:
    for read in reads:
        if should_stop():
            raise _CancelledWhileReading
        yield read


def _recognise_long(model: Any, samples: NDArray[np.float32], options: Mapping[str, Any]) -> list[Hypothesis]:
    """Transcribe speech without a pause window by window.

    Each window starts between two words of the previous one, in its second half.
    """
    found: list[Hypothesis] = []
    first, window_us = 0, CHUNK_US
    while True:
        window = samples[first : first + sample_at(window_us)]
        (hypotheses,) = _recognise_batch(model, [window], options)
        is_last = first + len(window) >= len(samples)
        cut_us = len(window) * US_PER_SECOND // SAMPLE_RATE if is_last else _next_window_start(hypotheses, window_us)
        found += [_shifted(hypothesis, cut_us, first * US_PER_SECOND // SAMPLE_RATE) for hypothesis in hypotheses]
        if is_last:
            return found
        first += sample_at(cut_us)


def _next_window_start(hypotheses: Sequence[Hypothesis], window_us: int) -> int:
    """Return where the next window starts: in the widest gap between words in the second half, or else at the end."""
    words = [word for hypothesis in hypotheses for word in spoken_words(hypothesis)]
    gaps = [
        (after.start_us - word.end_us, (word.end_us + after.start_us) // 2)
        for word, after in itertools.pairwise(words)
        if window_us // 2 <= word.end_us <= after.start_us and after.end_us <= window_us - _EDGE_US
    ]
    return max(gaps)[1] if gaps else window_us


def _shifted(hypothesis: Hypothesis, end_us: int, by_us: int) -> Hypothesis:
    """Return a hypothesis with only the words that end by `end_us`, shifted in time."""
    words = (
        Word(word.start_us + by_us, word.end_us + by_us, word.text, word.probability)
        for word in hypothesis.words
        if word.end_us <= end_us
    )
    return dataclasses.replace(hypothesis, words=tuple(words))


def _recognise_batch(
    model: Any, group: Sequence[NDArray[np.float32]], options: Mapping[str, Any]
) -> list[list[Hypothesis]]:
    """Return the hypotheses of each chunk of samples, in chunk time."""
    from faster_whisper import BatchedInferencePipeline

    clips, starts, at = [], [], 0
    for samples in group:
        starts.append(at)
        clips.append({"start": at / SAMPLE_RATE, "end": (at + len(samples)) / SAMPLE_RATE})
        at += len(samples)
    joined = np.concatenate(list(group))
    pipeline = BatchedInferencePipeline(model)
    segments, _ = pipeline.transcribe(
        joined, clip_timestamps=clips, batch_size=len(group), without_timestamps=True, vad_filter=False, **options
    )
    found: list[list[Hypothesis]] = [[] for _ in group]
    for segment in segments:
        first = segment.seek * SAMPLE_RATE // 100  # the library counts a chunk's start in hundredths of a second
        number = max(0, int(np.searchsorted(starts, first + SAMPLE_RATE // 50, side="right")) - 1)
        found[number].append(_hypothesis(segment, starts[number] * US_PER_SECOND // SAMPLE_RATE))
    return found


def _hypothesis(segment: Any, offset_us: int) -> Hypothesis:
    words = tuple(
        Word(
            max(0, us_from_seconds(float(word.start)) - offset_us),
            max(0, us_from_seconds(float(word.end)) - offset_us),
            word.word,
            round(float(word.probability), 4),
        )
        for word in segment.words or ()
        if word.word.strip()
    )
    return Hypothesis(words, segment.no_speech_prob, segment.avg_logprob, segment.compression_ratio)


def _halves(chunk: Chunk, samples: NDArray[np.float32]) -> list[_ChunkSamples]:
    index = len(chunk.pieces) // 2
    at = samples_before(chunk, index)
    return [(join_pieces(chunk.pieces[:index]), samples[:at]), (join_pieces(chunk.pieces[index:]), samples[at:])]


def _groups(
    chunks: Iterable[_ChunkSamples], language_of: Mapping[TimeSpan, Language]
) -> Iterator[tuple[str, list[_ChunkSamples]]]:
    """Yield (language, chunks) batches in order; a chunk longer than the model's window is a separate batch."""
    batch: list[_ChunkSamples] = []
    code = ""
    for read in chunks:
        is_long = read[0].duration_us > CHUNK_US
        next_code = language_of[read[0].pieces[0].speech].code
        if batch and (is_long or next_code != code or len(batch) == BATCH):
            yield code, batch
            batch = []
        code = next_code
        if is_long:
            yield code, [read]
        else:
            batch.append(read)
    if batch:
        yield code, batch


def _with_samples(audio_file: Path, chunks: Sequence[Chunk]) -> Iterator[_ChunkSamples]:
    """Yield each chunk with its samples; one chunk at a time is in memory."""
    spans = [piece.span for chunk in chunks for piece in chunk.pieces]
    pieces = samples_of_spans(audio_file, spans)
    for chunk in chunks:
        yield chunk, np.concatenate(list(islice(pieces, len(chunk.pieces))))
