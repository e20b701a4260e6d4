"""The frozen settings of one run."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from promptreel.schemas.errors import SettingsError
from promptreel.schemas.segmentation import SegmentationSettings

MediaInput = Literal["clips", "frames", "files"]
MediaResolution = Literal["low", "medium", "high"]
ThinkingLevel = Literal["minimal", "low", "medium", "high"]


@dataclass(frozen=True)
class SamplingSettings:
    """What the decode pass keeps of the pictures.

    Attributes:
        frames_per_second: sampled frames for each second of media, 0.1 to 5.
        max_width, max_height: frames are fitted into this box in pixels, never enlarged.
        jpeg_quality: ffmpeg's q:v, 2 (best) to 15.
    """

    frames_per_second: float = 1.0
    max_width: int = 854
    max_height: int = 480
    jpeg_quality: int = 5

    def __post_init__(self) -> None:
        _in_range("frames_per_second", self.frames_per_second, 0.1, 5)
        _in_range("max_width", self.max_width, 64, 3840)
        _in_range("max_height", self.max_height, 64, 2160)
        _in_range("jpeg_quality", self.jpeg_quality, 2, 15)


@dataclass(frozen=True)
class ModelSettings:
    """How the model is asked. Every field but `model` and the access ones is part of an operation's key.

    Attributes:
        model: "signals", or a name of the Gemini family.
        media_input: "clips" sends a small proxy clip for each segment, "frames" its sampled JPEGs, "files" uploads a
            proxy of the whole item once and names the segment by offsets.
        media_resolution: how finely the model looks at frames; None leaves it to the service.
        temperature: 0 to 2.
        max_output_tokens: budget of one answer; an answer cut by it is asked once more with four times as much.
        thinking_budget: tokens for thinking, for models before Gemini 3; None leaves it to the service, 0 switches it off.
        thinking_level: how much models from Gemini 3 on think; None leaves it to the service.
        base_url: address of the service; None is the library's own.
        vertex_project, vertex_location: use Vertex AI in this project and region instead of a key.
    """

    model: str = "signals"
    media_input: MediaInput = "clips"
    media_resolution: MediaResolution | None = None
    temperature: float = 0.0
    max_output_tokens: int = 8192
    thinking_budget: int | None = None
    thinking_level: ThinkingLevel | None = None
    base_url: str | None = None
    vertex_project: str | None = None
    vertex_location: str | None = None

    def __post_init__(self) -> None:
        if self.media_input not in ("clips", "frames", "files"):
            raise SettingsError(f"media_input is {self.media_input!r}; use clips, frames or files")
        if self.media_resolution not in (None, "low", "medium", "high"):
            raise SettingsError(f"media_resolution is {self.media_resolution!r}; use low, medium or high")
        if self.thinking_level not in (None, "minimal", "low", "medium", "high"):
            raise SettingsError(f"thinking_level is {self.thinking_level!r}; use minimal, low, medium or high")
        if self.thinking_level is not None and self.thinking_budget is not None:
            raise SettingsError(
                f"thinking_budget is {self.thinking_budget} and thinking_level is {self.thinking_level!r}; give one of them"
            )
        _in_range("temperature", self.temperature, 0, 2)
        _in_range("max_output_tokens", self.max_output_tokens, 1, 65_536)
        if bool(self.vertex_project) != bool(self.vertex_location):
            raise SettingsError("vertex_project and vertex_location go together; give both or neither")
        if self.base_url is not None and not re.match(r"https?://[^/\s]", self.base_url):
            raise SettingsError(f"base_url is {self.base_url!r}; write a whole address, e.g. http://127.0.0.1:8089")


@dataclass(frozen=True)
class TranscriptionSettings:
    """Speech to text of video and audio, on this machine.

    Attributes:
        enabled: False leaves transcripts out.
        model: a public Whisper name ("tiny", "base", "small", "large-v3", ...), or a folder in CTranslate2 form. The
            default hears clear speech well at several times real time on two cores.
        language: ISO 639-1 code of the language spoken; None lets the model find it, for each item.
        compute_type: arithmetic, as CTranslate2 names it; "int8" is the fastest on a CPU.
        beam_size: hypotheses kept, 1 to 10.
    """

    enabled: bool = True
    model: str = "base"
    language: str | None = None
    compute_type: str = "int8"
    beam_size: int = 1

    def __post_init__(self) -> None:
        _in_range("beam_size", self.beam_size, 1, 10)
        _not_blank("transcription model", self.model)


@dataclass(frozen=True)
class ImageEmbeddingSettings:
    """Embeddings of sampled frames, on this machine.

    Attributes:
        enabled: False leaves image embeddings out.
        model: `ARCHITECTURE:WEIGHTS` as open-clip names them, WEIGHTS being a public tag or a local file; or
            `local-dir:FOLDER`.
        frames_per_segment: most frames that are embedded of one segment, 1 to 16: its first sharp one, its middle, and
            others spread evenly.
    """

    enabled: bool = True
    model: str = "ViT-B-32:datacomp_xl_s13b_b90k"
    frames_per_segment: int = 3

    def __post_init__(self) -> None:
        _in_range("frames_per_segment", self.frames_per_segment, 1, 16)
        _not_blank("image embedding model", self.model)


@dataclass(frozen=True)
class TextEmbeddingSettings:
    """Embeddings of results and transcripts, for semantic search.

    Attributes:
        enabled: False leaves text embeddings out.
        model: "wordllama", "sentence-transformers:NAME", "clip" (the text tower of the image embedding model), or a
            Gemini embedding model.
    """

    enabled: bool = True
    model: str = "wordllama"

    def __post_init__(self) -> None:
        _not_blank("text embedding model", self.model)


@dataclass(frozen=True)
class CallSettings:
    """How calls are made. None of it changes an answer, so none of it is part of an operation's key.

    Attributes:
        max_in_flight: calls under way at once in one worker.
        max_calls_per_second: upper limit of the rate; None lets the service's own limit be found.
        deadline_s: seconds after which one attempt is given up.
        max_attempts: attempts for one operation, the first among them.
        max_total_tokens: tokens after which a run makes no further call; None has no limit.
        run_deadline_s: seconds after which a run makes no further call; None has no limit.
    """

    max_in_flight: int = 64
    max_calls_per_second: float | None = None
    deadline_s: float = 180.0
    max_attempts: int = 5
    max_total_tokens: int | None = None
    run_deadline_s: float | None = None

    def __post_init__(self) -> None:
        _in_range("max_in_flight", self.max_in_flight, 1, 1000)
        _in_range("max_attempts", self.max_attempts, 1, 20)
        _positive("deadline_s", self.deadline_s)
        for name in ("max_calls_per_second", "max_total_tokens", "run_deadline_s"):
            if getattr(self, name) is not None:
                _positive(name, getattr(self, name))


@dataclass(frozen=True)
class MediaLimits:
    """What one media item may cost.

    Attributes:
        max_pixels: width x height of a picture; larger ones are refused before they are decoded.
        max_duration_s: length of an item.
        decode_memory_bytes: address space of the decoder.
        decode_deadline_factor: the decoder may run this many times the item's length (at least a minute).
        max_damaged_share: share of an item, 0 to 1, that may be missing or concealed before it fails; 1 accepts any.
    """

    max_pixels: int = 8192 * 4320
    max_duration_s: float = 12 * 3600
    decode_memory_bytes: int = 3 << 30
    decode_deadline_factor: float = 2.0
    max_damaged_share: float = 1.0

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_duration_s", "decode_memory_bytes", "decode_deadline_factor"):
            _positive(name, getattr(self, name))
        _in_range("max_damaged_share", self.max_damaged_share, 0, 1)


@dataclass(frozen=True)
class RunSettings:
    """Everything that a run is frozen with beside its prompt and its target.

    Attributes:
        reuse_results: take finished operations of earlier runs from the cache.
        strict_models: refuse a run whose transcription or embedding model cannot be loaded, instead of leaving that
            operation out with a warning.
    """

    segmentation: SegmentationSettings = field(default_factory=SegmentationSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    calls: CallSettings = field(default_factory=CallSettings)
    limits: MediaLimits = field(default_factory=MediaLimits)
    transcription: TranscriptionSettings = field(default_factory=TranscriptionSettings)
    image_embedding: ImageEmbeddingSettings = field(default_factory=ImageEmbeddingSettings)
    text_embedding: TextEmbeddingSettings = field(default_factory=TextEmbeddingSettings)
    reuse_results: bool = True
    strict_models: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values; `settings_from_dict` reads them back."""
        return dataclasses.asdict(self)


def settings_from_dict(values: Mapping[str, Any]) -> RunSettings:
    """Reads settings as `RunSettings.to_dict` writes them.

    Raises:
        SettingsError: a key is unknown or a value is out of range.
    """
    parts: dict[str, type] = {
        "segmentation": SegmentationSettings,
        "sampling": SamplingSettings,
        "model": ModelSettings,
        "calls": CallSettings,
        "limits": MediaLimits,
        "transcription": TranscriptionSettings,
        "image_embedding": ImageEmbeddingSettings,
        "text_embedding": TextEmbeddingSettings,
    }
    flags = {name: values[name] for name in ("reuse_results", "strict_models") if name in values}
    try:
        groups = {name: kind(**values.get(name, {})) for name, kind in parts.items()}
        return RunSettings(**groups, **flags)
    except TypeError as error:
        raise SettingsError(f"run settings: {error}") from error


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise SettingsError(f"{name} is {value!r}; it must be a number from {low} to {high}")


def _not_blank(name: str, value: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise SettingsError(f"{name} is {value!r}; name a model, or switch the operation off")


def _positive(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise SettingsError(f"{name} is {value!r}; it must be a number above 0")
