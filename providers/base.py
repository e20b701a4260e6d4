"""The provider interface: a picklable description of a model that opens into a connection that answers requests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from promptreel.providers.batch_jobs import BatchJobs
from promptreel.schemas.media import MediaType, SampledFrame, TimeSpan
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.speech_rows import Word
from promptreel.schemas.tiers import Tier

Purpose = Literal["segmentation", "metadata_extraction", "video_level_synthesis", "text_embedding"]


@dataclass(frozen=True, slots=True)
class SegmentInput:
    """One segment's media on local disk.

    Attributes:
        folder: the item's analysis folder: sampled frames, sound, timeline.
        span: the segment; an image has [0, 0).
        frames: the sampled frames that belong to the segment, in order.
        audio_file: the item's sound (16 kHz mono FLAC), relative to the folder; None without sound.
        item_key: identifies the item's analysis, for what a provider stores per item (an upload).
        item_duration_us, item_frames: the complete item, for providers that upload it once.
        words: the words spoken in the segment; None without a transcript.
        has_chosen_frames: the frames were chosen for their content, so they are not evenly spaced.
    """

    media_type: MediaType
    folder: Path
    span: TimeSpan
    frames: tuple[SampledFrame, ...]
    audio_file: str | None
    item_key: str
    item_duration_us: int
    item_frames: tuple[SampledFrame, ...]
    words: tuple[Word, ...] | None = None
    has_chosen_frames: bool = False


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One request to a model.

    Attributes:
        instruction: shared by all segments of a run; sent as the system instruction so that a service can cache it.
        text: specific to this segment or item.
        json_schema: JSON Schema of the answer; its root is an object.
        answer_schema: the user's part of `json_schema`, if evidence is requested too; see
            `promptreel.providers.evidence_format`.
        media: None for a synthesis.
        output_token_factor: multiplies `max_output_tokens` of the settings.
        texts: the texts to embed; empty for every other purpose.
        is_query: the texts are search queries, not documents.
        problem_of: returns what is wrong with an answer that fits the schema, or None; see `schema_invalid`.
        tier: service tier of the call; set by the call policy.
        fields: the top-level fields that are requested; empty if these are all fields of the prompt.
    """

    purpose: Purpose
    instruction: str
    text: str
    json_schema: Mapping[str, Any]
    media: SegmentInput | None = None
    output_token_factor: int = 1
    texts: tuple[str, ...] = ()
    is_query: bool = False
    problem_of: Callable[[Mapping[str, Any]], str | None] | None = None
    tier: Tier = "standard"
    fields: tuple[str, ...] = ()
    answer_schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call as the service reports them; `media_reported` is true if it reports the input by modality.

    Services report wrong usage: a count that is not a number of 0 or more becomes 0, and a total that is less than its parts
    becomes their sum, so that it counts towards the limits of a run.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    thought_tokens: int = 0
    cached_tokens: int = 0
    total_tokens: int = 0
    text_tokens: int = 0
    image_tokens: int = 0
    video_tokens: int = 0
    audio_tokens: int = 0
    media_reported: bool = False

    def __post_init__(self) -> None:
        for part in fields(self):
            count = getattr(self, part.name)
            if part.name != "media_reported" and not (isinstance(count, int) and count >= 0):
                object.__setattr__(self, part.name, 0)
        parts = self.input_tokens + self.output_tokens + self.thought_tokens
        object.__setattr__(self, "total_tokens", max(self.total_tokens, parts))

    @property
    def media_tokens(self) -> int:
        return self.image_tokens + self.video_tokens + self.audio_tokens


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """The answer of a model.

    Attributes:
        text: empty if the model returned no text.
        finish_reason: as the service names it.
        failure: (code, message) if the finish reason makes the answer unusable.
        warning: a warning for readers of the answer.
        vectors: float32[n, d], one row for each text of an embedding; None for every other purpose.
        model_version: the model that answered, as the service names it; None if it reports none.
        request_form: which optional parts of a request the service supports, if that was found out; for the call record.
        max_output_tokens: of an answer from a call record, the limit under which it was requested; None if unknown.
    """

    text: str
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    failure: tuple[str, str] | None = None
    warning: str | None = None
    vectors: NDArray[np.float32] | None = None
    model_version: str | None = None
    request_form: str | None = None
    max_output_tokens: int | None = None


class Provider(ABC):
    """A model described by picklable settings. `open` acquires its clients, `close` releases them."""

    name: str
    is_called: bool = True  # False for a model built into this process: no policy, no call records
    uploads_media: bool = False  # `prepare` calls the service
    gives_evidence: bool = True  # False for a model that does not read the schema of its answer
    tiers: tuple[Tier, ...] = ("standard",)  # those that calls may have

    @abstractmethod
    def fingerprint(self) -> Mapping[str, Any]:
        """Return everything about the model that can change a finished answer: part of an operation's key."""

    def earlier_fingerprint(self) -> Mapping[str, Any]:
        """Return the fingerprint that an earlier version used, to find the results that it stored."""
        return self.fingerprint()

    def output_budget(self, request: ModelRequest) -> int | None:
        """Return the token limit of the answer to a request; None if the model has none."""
        return None

    def may_move(self, version: str) -> bool:
        """Return whether another version than this one may answer for the model's name now."""
        return False

    def is_served_by(self, version: str) -> bool:
        """Return whether an answer of this version comes from the model that was asked for."""
        return True

    async def served_version(self) -> str | None:
        """Ask the service for the version that answers now, at the cost of a few tokens; None if it does not say.

        Raises:
            ModelError: the service did not answer.
        """
        return None

    def check_prompt(self, prompt: Prompt) -> None:
        """Reject a prompt that this model cannot answer.

        Raises:
            PromptError: names the fields that the model cannot fill, and those that it can.
        """

    def reads_transcript(self, prompt: Prompt) -> bool:
        """Return whether answers to the prompt need the transcript, which must then be made first."""
        return False

    def material(self, prompt: Prompt) -> Mapping[str, Any]:
        """Return what else on this machine can change an answer to the prompt: part of an operation's key."""
        return {}

    def check_access(self) -> None:
        """Reject a run that cannot make any call.

        Raises:
            SettingsError: names the missing key or setting.
        """

    async def open(self) -> None:
        """Acquire clients; called once, in the event loop that makes the calls."""

    async def close(self) -> None:
        """Release what `open` acquired."""

    async def prepare(self, request: ModelRequest) -> Any:
        """Build what is sent for a request (a proxy clip, an upload), once for all attempts at it.

        Raises:
            ModelError: the build or the upload failed.
        """
        return None

    def batch_jobs(self) -> BatchJobs | None:
        """Return the batch jobs of the service, after `open`; None if it has none."""
        return None

    async def batch_request(self, request: ModelRequest, prepared: Any) -> Mapping[str, Any]:
        """Return a request as JSON values for a batch job.

        Args:
            prepared: what `prepare` returned for it.

        Raises:
            ModelError: the request cannot be built.
        """
        raise NotImplementedError(f"model {self.name!r} has no batch jobs")

    @abstractmethod
    async def call(self, request: ModelRequest, prepared: Any) -> ModelAnswer:
        """Make exactly one call, without retries.

        Args:
            prepared: what `prepare` returned for the first request of this operation.

        Raises:
            ModelError: the service rejected the call, failed or could not be reached; see its `retryable`.
        """
