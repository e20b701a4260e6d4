"""What a model provider is: a picklable description that can be opened into a connection that answers requests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from promptreel.schemas.media import MediaType, SampledFrame, TimeSpan
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.records import Word

Purpose = Literal["metadata_extraction", "video_level_synthesis", "text_embedding"]


@dataclass(frozen=True, slots=True)
class SegmentInput:
    """What is at hand of one segment, on local disk.

    Attributes:
        folder: the item's analysis folder: sampled frames, sound, timeline.
        span: the segment; an image has [0, 0).
        frames: the sampled frames that belong to the segment, in order.
        audio_file: the item's sound (16 kHz mono FLAC), relative to the folder; None without sound.
        item_key: identifies the item's analysis, for what a provider keeps per item (an upload).
        item_duration_us, item_frames: the whole item, for providers that hand it over once.
        words: what is spoken in the segment; None where there is no transcript.
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


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One question to a model.

    Attributes:
        instruction: what all segments of a run share; sent as the system instruction, so that a service can cache it.
        text: what is particular to this segment or item.
        json_schema: JSON Schema of the answer; its root is an object.
        media: None for a synthesis.
        output_token_factor: multiplies the settings' budget for the answer.
        texts: what is embedded; empty for every other purpose.
        is_query: the texts look for others, instead of being found.
    """

    purpose: Purpose
    instruction: str
    text: str
    json_schema: Mapping[str, Any]
    media: SegmentInput | None = None
    output_token_factor: int = 1
    texts: tuple[str, ...] = ()
    is_query: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call as the service reports them; `media_reported` tells whether it broke the input down."""

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

    @property
    def media_tokens(self) -> int:
        return self.image_tokens + self.video_tokens + self.audio_tokens


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """What a model said.

    Attributes:
        text: the answer; empty where there is none.
        finish_reason: in the service's own word.
        failure: (code, message) where the finish reason means that the answer is not usable.
        warning: what a reader of the answer should know.
        vectors: float32[n, d], one row for each text of an embedding; None for every other purpose.
        model_version: the model that answered, in the service's own word; None where it does not tell.
    """

    text: str
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    failure: tuple[str, str] | None = None
    warning: str | None = None
    vectors: NDArray[np.float32] | None = None
    model_version: str | None = None


class Provider(ABC):
    """A model, described by picklable settings. Clients are acquired in `open` and released in `close`."""

    name: str
    is_called: bool = True  # False for a model built into this process: no policy, no call records

    @abstractmethod
    def fingerprint(self) -> Mapping[str, Any]:
        """Whatever changes the answer to a request: part of an operation's key."""

    def check_prompt(self, prompt: Prompt) -> None:
        """Refuses a prompt that this model cannot answer.

        Raises:
            PromptError: naming the fields that it cannot fill, and those that it can.
        """

    def reads_transcript(self, prompt: Prompt) -> bool:
        """Whether an answer to that prompt is made from the transcript, which then has to be there first."""
        return False

    def material(self, prompt: Prompt) -> Mapping[str, Any]:
        """What of this machine, beside the model, an answer to that prompt depends on: part of an operation's key."""
        return {}

    def check_access(self) -> None:
        """Refuses a run that could not make a single call.

        Raises:
            SettingsError: naming the key or setting that is missing.
        """

    async def open(self) -> None:
        """Acquires clients; called once in the event loop that will ask."""

    async def close(self) -> None:
        """Releases what `open` acquired."""

    async def prepare(self, request: ModelRequest) -> Any:
        """Builds what is sent for a request (a proxy clip, an upload), once for all attempts at it.

        Raises:
            ModelError: it could not be built.
        """
        return None

    @abstractmethod
    async def ask(self, request: ModelRequest, prepared: Any) -> ModelAnswer:
        """Makes exactly one call, without retries of its own.

        Args:
            prepared: what `prepare` returned for the first request of this operation.

        Raises:
            ModelError: the service refused, failed or could not be reached; `retryable` says whether to ask again.
        """
