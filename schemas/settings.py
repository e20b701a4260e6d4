"""Run settings, frozen when a run starts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import TypeAdapter, ValidationError

from promptreel.schemas.decoding import FORBID_UNKNOWN, first_problem
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.evidence import EvidenceSettings
from promptreel.schemas.prices import ModelPrice
from promptreel.schemas.sampling import SampleSettings
from promptreel.schemas.segmentation import SegmentationSettings
from promptreel.schemas.tiers import Tier

MediaInput = Literal["clips", "frames", "files"]
MediaResolution = Literal["low", "medium", "high", "ultra_high"]
ThinkingLevel = Literal["minimal", "low", "medium", "high"]

MAX_FRAMES_PER_SEGMENT: Final = 300


@dataclass(frozen=True)
class SamplingSettings:
    """Sampling of frames in the decode pass.

    Attributes:
        frames_per_second: sampled frames per second of media, 0.1 to 5.
        max_width, max_height: maximum frame size in pixels; frames are scaled down to fit, never up.
        jpeg_quality: ffmpeg's q:v, 2 (best) to 15.
    """

    __pydantic_config__ = FORBID_UNKNOWN

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
    """The model and its parameters. All fields except `max_output_tokens`, `tier` and the access fields are part of an
    operation's key.

    Attributes:
        model: "signals", a Gemini model name, or "openai:NAME" for a model of an OpenAI-compatible server.
        media_input: "clips" sends a small proxy clip per segment, "frames" sends its sampled JPEGs, "files" uploads a
            proxy of the complete item once and refers to segments by offset.
        frames_per_segment: send only this many frames of a video's segment, chosen by content, 1 to 300; None sends all
            sampled frames. "clips" then sends a clip that shows each chosen frame for a second.
        sound: False omits the sound of videos; None and True send it.
        media_resolution: resolution at which the model processes frames; None uses the service's default. "ultra_high" is
            for images sent to models from Gemini 3 on; videos then have "high".
        temperature: 0 to 2.
        max_output_tokens: token limit of one answer; a truncated answer is requested once more with four times the limit.
        thinking_budget: thinking tokens, for models before Gemini 3; None uses the service's default, 0 disables thinking.
        thinking_level: thinking level, for models from Gemini 3; None uses the service's default.
        tier: service tier of the calls: "flex" and "batch" cost half the standard price and may take longer. Flex calls are
            answered directly if the service has capacity; batch calls are collected into jobs of the Batch API.
        base_url: address of the service; None uses the client library's default.
        vertex_project, vertex_location: use Vertex AI with this project and region instead of an API key.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    model: str = "signals"
    media_input: MediaInput = "clips"
    frames_per_segment: int | None = None
    sound: bool | None = None
    media_resolution: MediaResolution | None = None
    temperature: float = 0.0
    max_output_tokens: int = 8192
    thinking_budget: int | None = None
    thinking_level: ThinkingLevel | None = None
    tier: Tier = "standard"
    base_url: str | None = None
    vertex_project: str | None = None
    vertex_location: str | None = None

    def __post_init__(self) -> None:
        if self.media_input not in ("clips", "frames", "files"):
            raise SettingsError(f"media_input is {self.media_input!r}; use clips, frames or files")
        if self.frames_per_segment is not None:
            _in_range("frames_per_segment", self.frames_per_segment, 1, MAX_FRAMES_PER_SEGMENT)
        if self.media_input == "files" and (self.frames_per_segment is not None or self.sound is False):
            name = "sound" if self.frames_per_segment is None else "frames_per_segment"
            raise SettingsError(
                f"{name} is {getattr(self, name)}, but media_input is 'files', which sends complete items; "
                "use clips or frames"
            )
        if self.media_resolution not in (None, "low", "medium", "high", "ultra_high"):
            raise SettingsError(f"media_resolution is {self.media_resolution!r}; use low, medium, high or ultra_high")
        if self.thinking_level not in (None, "minimal", "low", "medium", "high"):
            raise SettingsError(f"thinking_level is {self.thinking_level!r}; use minimal, low, medium or high")
        if self.thinking_level is not None and self.thinking_budget is not None:
            raise SettingsError(
                f"thinking_budget is {self.thinking_budget} and thinking_level is {self.thinking_level!r}; give one of them"
            )
        if self.tier not in ("standard", "flex", "batch"):
            raise SettingsError(f"tier is {self.tier!r}; use standard, flex or batch")
        _in_range("temperature", self.temperature, 0, 2)
        _in_range("max_output_tokens", self.max_output_tokens, 1, 65_536)
        if bool(self.vertex_project) != bool(self.vertex_location):
            raise SettingsError("only one of vertex_project and vertex_location is set; set both or neither")
        if self.base_url is not None and not re.match(r"https?://[^/\s]", self.base_url):
            raise SettingsError(f"base_url is {self.base_url!r}; it must be a complete URL, e.g. http://127.0.0.1:8089")


@dataclass(frozen=True)
class TranscriptionSettings:
    """Local transcription of video and audio.

    Attributes:
        enabled: False disables transcription.
        model: a public Whisper name ("tiny", "base", "small", "large-v3", ...), or the path of a folder in CTranslate2
            format, with a separator ("./base"). The default transcribes clear speech well at several times real time on
            two cores.
        language: ISO 639-1 code of the spoken language, or several, separated by commas, to choose from; None detects
            the language of each stretch of speech.
        compute_type: CTranslate2 compute type; "int8" is the fastest on a CPU.
        beam_size: beam search width, 1 to 10.
    """

    __pydantic_config__ = FORBID_UNKNOWN

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
    """Local embeddings of sampled frames.

    Attributes:
        enabled: False disables image embeddings.
        model: `ARCHITECTURE:WEIGHTS` with open-clip names, where WEIGHTS is a public tag or the path of a file, with a
            separator ("./mine.safetensors"); or `local-dir:FOLDER`.
        frames_per_segment: maximum number of embedded frames per segment, 1 to 16: the first sharp frame, the middle
            frame, and evenly spaced others.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    enabled: bool = True
    model: str = "ViT-B-32:datacomp_xl_s13b_b90k"
    frames_per_segment: int = 3

    def __post_init__(self) -> None:
        _in_range("frames_per_segment", self.frames_per_segment, 1, 16)
        _not_blank("image embedding model", self.model)


@dataclass(frozen=True)
class TextEmbeddingSettings:
    """Embeddings of results and transcripts for semantic search.

    Attributes:
        enabled: False disables text embeddings.
        model: "wordllama", "sentence-transformers:NAME", "clip" (the text encoder of the image embedding model), or a
            Gemini embedding model.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    enabled: bool = True
    model: str = "wordllama"

    def __post_init__(self) -> None:
        _not_blank("text embedding model", self.model)


@dataclass(frozen=True)
class CallSettings:
    """Limits on model calls. They do not affect answers, so they are not part of an operation's key.

    Attributes:
        max_in_flight: maximum concurrent calls per worker.
        max_calls_per_second: maximum call rate; None adapts to the service's own limit.
        deadline_s: timeout of one attempt in seconds; five times as long for a flex call, and not used for a batch.
        flex_fallback: make a flex call that the service keeps rejecting for lack of capacity at the standard tier.
        batch_deadline_s: seconds after which an unfinished batch job is cancelled and its remaining calls are made at the
            standard tier; None waits for the job.
        max_attempts: maximum attempts per operation, including the first. Faults that the service returns to nearly all
            calls do not count, and while it fails many, an operation has up to four times as many.
        max_outage_s: seconds that calls wait while the service is down or its rate limit grants none; then the run halts.
            0 disables waiting.
        max_total_tokens: token count after which the run makes no more calls; None means no limit.
        max_cost: cost of all calls after which the run makes no more calls, in the currency of the model's price; None
            means no limit.
        run_deadline_s: seconds after which the run makes no more calls; None means no limit.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    max_in_flight: int = 64
    max_calls_per_second: float | None = None
    deadline_s: float = 180.0
    flex_fallback: bool = False
    batch_deadline_s: float | None = None
    max_attempts: int = 5
    max_outage_s: float = 600.0
    max_total_tokens: int | None = None
    max_cost: float | None = None
    run_deadline_s: float | None = None

    def __post_init__(self) -> None:
        _in_range("max_in_flight", self.max_in_flight, 1, 1000)
        _in_range("max_attempts", self.max_attempts, 1, 20)
        _in_range("max_outage_s", self.max_outage_s, 0, 7 * 86_400)
        _positive("deadline_s", self.deadline_s)
        for name in ("max_calls_per_second", "max_total_tokens", "max_cost", "run_deadline_s", "batch_deadline_s"):
            if getattr(self, name) is not None:
                _positive(name, getattr(self, name))


@dataclass(frozen=True)
class MediaLimits:
    """Resource limits for one media item.

    Attributes:
        max_pixels: maximum width x height of a video frame; larger videos are rejected before decoding.
        max_image_pixels: the same for images, which are decoded one at a time and, where the format allows, scaled.
        max_duration_s: maximum duration of an item in seconds.
        decode_memory_bytes: address space limit of the decoder.
        decode_deadline_factor: time limit of the decoder as a multiple of the item's duration (at least a minute).
        max_damaged_share: share of an item, 0 to 1, that may be missing or concealed before it fails; 1 accepts any.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    max_pixels: int = 8192 * 4320
    max_image_pixels: int = 400_000_000
    max_duration_s: float = 12 * 3600
    decode_memory_bytes: int = 3 << 30
    decode_deadline_factor: float = 2.0
    max_damaged_share: float = 1.0

    def __post_init__(self) -> None:
        for name in (
            "max_pixels",
            "max_image_pixels",
            "max_duration_s",
            "decode_memory_bytes",
            "decode_deadline_factor",
        ):
            _positive(name, getattr(self, name))
        _in_range("max_damaged_share", self.max_damaged_share, 0, 1)


@dataclass(frozen=True)
class RunSettings:
    """All settings of a run. They are frozen when the run starts, like its prompt and target.

    Attributes:
        reuse_results: reuse finished operations of earlier runs from the cache.
        reuse_fields: reuse the fields of earlier answers too if the schema has changed, and request only the others.
        dedupe_segments: call the model once for neighbouring segments that are near-duplicates.
        sample: process only a sample of the target; None processes all of it.
        evidence: request evidence with the fields of segments; None requests none.
        commit_interval_s: seconds between commits of the segments that are finished while the run is in progress. It grows
            to ten times the duration of a commit; 0 commits only at the end.
        strict_models: reject the run if a transcription or embedding model cannot be loaded, instead of skipping that
            operation with a warning.
        prices: prices of the user, which replace the published ones; see `promptreel.providers.prices`.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    segmentation: SegmentationSettings = field(default_factory=SegmentationSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    calls: CallSettings = field(default_factory=CallSettings)
    limits: MediaLimits = field(default_factory=MediaLimits)
    transcription: TranscriptionSettings = field(default_factory=TranscriptionSettings)
    image_embedding: ImageEmbeddingSettings = field(default_factory=ImageEmbeddingSettings)
    text_embedding: TextEmbeddingSettings = field(default_factory=TextEmbeddingSettings)
    reuse_results: bool = True
    reuse_fields: bool = True
    dedupe_segments: bool = False
    strict_models: bool = False
    commit_interval_s: float = 5.0
    sample: SampleSettings | None = None
    prices: tuple[ModelPrice, ...] = ()
    evidence: EvidenceSettings | None = None

    def __post_init__(self) -> None:
        _in_range("commit_interval_s", self.commit_interval_s, 0, 3600)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values; `settings_from_dict` decodes them."""
        values: dict[str, Any] = _RUN_SETTINGS.dump_python(self, mode="json")
        return values


_RUN_SETTINGS: Final = TypeAdapter(RunSettings)


def settings_from_dict(values: Mapping[str, Any]) -> RunSettings:
    """Decode settings as written by `RunSettings.to_dict`. Missing settings get their defaults.

    Raises:
        SettingsError: a key is unknown, or a value has the wrong type or is out of range.
    """
    try:
        # Strict decoding rejects "64" and true as numbers. Only its JSON mode also builds dataclasses from objects.
        return _RUN_SETTINGS.validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        raise SettingsError(f"run settings: {first_problem(error)}") from error


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise SettingsError(f"{name} is {value!r}; it must be a number from {low} to {high}")


def _not_blank(name: str, value: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise SettingsError(f"{name} is {value!r}; set a model, or disable the operation")


def _positive(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise SettingsError(f"{name} is {value!r}; it must be a number above 0")
