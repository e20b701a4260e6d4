"""The closed set of failure codes, with the meaning and handling of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Stage = Literal["media", "model call", "local model", "machine", "run control"]
Retryable = Literal["always", "never", "sometimes"]
SecondTry = Literal["repair", "larger_budget", "same"]


@dataclass(frozen=True, slots=True)
class FailureCode:
    """One code of the failures table.

    Attributes:
        meaning: what happened.
        stage: where in a run it happens.
        retryable: whether an unchanged retry may succeed; "sometimes" means that each failure specifies it.
        fix: what a user can do.
        halts_run: every later call of the run would fail in the same way, so the run makes no more calls.
        is_paid_answer: the failure is an answer of the model, which the service charges for; the call record stores it.
        found_by_check: the service completed the answer, and the check of it found the failure.
        raised_by: paths of limits in the run's settings; a resume with a larger limit retries the failure even if it is not
            retryable.
        second_try: the second request within the operation: with the error in the prompt ("repair"), with a larger token
            budget, or unchanged.
    """

    code: str
    meaning: str
    stage: Stage
    retryable: Retryable
    fix: str
    halts_run: bool = False
    is_paid_answer: bool = False
    found_by_check: bool = False
    second_try: SecondTry | None = None
    raised_by: tuple[str, ...] = ()


_CODES: Final = (
    FailureCode(
        "media_not_found",
        "the path does not exist or cannot be read",
        "media",
        "sometimes",
        "Check the path and its permissions. A URL that could not be fetched is retryable.",
    ),
    FailureCode("media_empty", "the file is empty", "media", "never", "Copy the file again from its source."),
    FailureCode(
        "media_unsupported",
        "the file is not in a supported media format",
        "media",
        "never",
        "Pass the media files themselves, or convert the file to MP4, MP3 or JPEG.",
    ),
    FailureCode(
        "media_protected",
        "the file is encrypted by DRM",
        "media",
        "never",
        "Use a copy without protection from its owner.",
    ),
    FailureCode(
        "media_corrupt",
        "the file has a media format but cannot be decoded",
        "media",
        "never",
        "Check that the file plays to the end; copy it again, or convert it. If it exceeds the allowed damage, resume the "
        "run with a larger `--max-damage`.",
        raised_by=("limits.max_damaged_share",),
    ),
    FailureCode(
        "media_too_large",
        "the picture size, the duration or the file size exceeds a limit",
        "media",
        "never",
        "Resume the run with a larger `--max-media-hours` or `--max-image-megapixels`; or scale the picture down, or split "
        "the file.",
        raised_by=("limits.max_duration_s", "limits.max_image_pixels"),
    ),
    FailureCode(
        "outside_range",
        "the item ends before the time range that the run segments, or less than half a second into it",
        "media",
        "never",
        "Start a run with an earlier `--start`, or leave out the item.",
    ),
    FailureCode(
        "media_no_streams",
        "the file has no decodable video or audio stream",
        "media",
        "never",
        "Export the file again with a video or audio track in a common codec.",
    ),
    FailureCode(
        "decode_failed",
        "the decoder failed before the first frame",
        "media",
        "sometimes",
        "Check that the file plays, or convert it. If no usable ffmpeg is found, `promptreel doctor` names the fix.",
    ),
    FailureCode(
        "decode_timeout",
        "the decoder did not finish within its time limit",
        "media",
        "sometimes",
        "Resume the run when the machine is less busy; if the file fails again, convert it to H.264.",
    ),
    FailureCode(
        "decode_out_of_memory",
        "the decoder exceeded its memory limit",
        "media",
        "sometimes",
        "Scale the picture down. If the operating system killed the decoder, free memory and resume the run.",
    ),
    FailureCode(
        "model_timeout",
        "the call exceeded its deadline",
        "model call",
        "always",
        "Resume the run; if it happens again, resume it with a longer `--call-deadline`, or cut shorter segments.",
    ),
    FailureCode(
        "model_unavailable",
        "the service returned a server error or could not be reached",
        "model call",
        "always",
        "Check the network and the service's status page, then resume the run. If the service is down for longer than "
        "`--max-outage`, the run makes no further calls. Flex calls are rejected while the service is busy: resume with "
        "`--flex-fallback` or `--tier standard` to pay the standard price for them.",
    ),
    FailureCode(
        "rate_limited",
        "the service kept rejecting calls because of its rate limit",
        "model call",
        "always",
        "Resume the run later, or with a lower `--max-calls-per-second` or `--max-in-flight`; flex calls also with "
        "`--flex-fallback` or `--tier standard`.",
    ),
    FailureCode(
        "quota_exhausted",
        "a quota or spending limit grants no further call: a limit of a day, a quota of 0, or a rate limit that granted no "
        "call for a long time",
        "model call",
        "always",
        "Raise the quota or the spending limit, or wait until it resets; then resume the run.",
        halts_run=True,
    ),
    FailureCode(
        "model_auth",
        "the service rejected the key, the project, its billing or this location",
        "model call",
        "always",
        "Set a valid key or project, or fix what the message names; then resume the run.",
        halts_run=True,
    ),
    FailureCode(
        "model_not_found",
        "the service does not have this model",
        "model call",
        "always",
        "Start a run with a model that the service offers; the message may suggest names. Once the model is available, "
        "resume the run.",
        halts_run=True,
    ),
    FailureCode(
        "model_bad_request",
        "the service rejected the request as invalid",
        "model call",
        "sometimes",
        "Depending on the message, use shorter segments or smaller media, or simplify the prompt's schema. If several "
        "operations in a row get the same error, the run makes no further calls, and the error is retryable.",
    ),
    FailureCode(
        "model_blocked",
        "the model blocked the content (safety, recitation, or a block list)",
        "model call",
        "never",
        "Reword the prompt or use another model; the cause may be the segment's media.",
        is_paid_answer=True,
    ),
    FailureCode(
        "model_truncated",
        "the answer was truncated at the token limit",
        "model call",
        "never",
        "Resume the run with a larger `--max-output-tokens`: only the truncated answers are requested again. Otherwise cut "
        "shorter segments, or request less in the prompt.",
        is_paid_answer=True,
        second_try="larger_budget",
        raised_by=("model.max_output_tokens",),
    ),
    FailureCode(
        "model_empty",
        "the model returned an empty answer",
        "model call",
        "always",
        "Resume the run; if it happens again, reword the prompt or use another model.",
        found_by_check=True,
        second_try="same",
    ),
    FailureCode(
        "model_stopped",
        "the model stopped for a reason that this version does not recognise",
        "model call",
        "always",
        "Resume the run; the message names the service's reason.",
        is_paid_answer=True,
        second_try="same",
    ),
    FailureCode(
        "answer_not_json",
        "the answer is not JSON",
        "model call",
        "always",
        "Resume the run; if it happens again, simplify the schema or use another model.",
        is_paid_answer=True,
        found_by_check=True,
        second_try="repair",
    ),
    FailureCode(
        "schema_invalid",
        "the answer is JSON but does not match the prompt's schema",
        "model call",
        "always",
        "Resume the run; if it happens again, describe the field better, or relax the constraint named in the message.",
        is_paid_answer=True,
        found_by_check=True,
        second_try="repair",
    ),
    FailureCode(
        "media_not_seen",
        "the reported token usage shows that the model did not receive the media",
        "model call",
        "always",
        "Resume the run; if it happens again, change `--media-input` or use a model that supports this media type.",
        is_paid_answer=True,
        found_by_check=True,
        second_try="same",
    ),
    FailureCode(
        "unsupported_field",
        "the built-in model cannot measure a field of the prompt",
        "model call",
        "never",
        "Remove the field from the prompt, or use a model that can answer it.",
    ),
    FailureCode(
        "weights_missing",
        "a local model's weights cannot be loaded",
        "local model",
        "sometimes",
        "Download the weights named in the message (`promptreel models pull`), then resume the run.",
    ),
    FailureCode(
        "transcription_failed",
        "the speech recogniser could not process the audio",
        "local model",
        "never",
        "Check the language setting and that the audio plays, or start a run with `--no-transcription`.",
    ),
    FailureCode(
        "embedding_failed",
        "the embedding model could not process a picture or text",
        "local model",
        "never",
        "Start a run with another embedding model; the message names the picture or text.",
    ),
    FailureCode(
        "storage_failed",
        "a result could not be written",
        "machine",
        "always",
        "Free disk space or fix the permissions of the data folder, then resume the run.",
    ),
    FailureCode(
        "internal_error",
        "a bug in promptreel; the message contains the error type and text",
        "machine",
        "always",
        "Report the message and the run's log. Resume the run, as the cause may be temporary.",
    ),
    FailureCode(
        "interrupted",
        "the runner crashed too often; unfinished operations were abandoned",
        "run control",
        "always",
        "Find out why the runner crashed (check its log and the machine's memory), then resume the run.",
    ),
    FailureCode(
        "cancelled", "the run was stopped before this operation started", "run control", "always", "Resume the run."
    ),
    FailureCode(
        "budget_exhausted",
        "the run reached its token or cost limit before this operation started",
        "run control",
        "always",
        "Resume the run with a larger `--max-tokens` or `--max-cost`.",
    ),
    FailureCode(
        "deadline_exceeded",
        "the run's deadline passed before this operation started",
        "run control",
        "always",
        "Resume the run; the deadline starts again.",
    ),
)

FAILURE_CODES: Final[Mapping[str, FailureCode]] = MappingProxyType({code.code: code for code in _CODES})
"""Every code, in the order of a run's stages."""
