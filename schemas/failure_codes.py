"""The closed vocabulary of failure codes: one table that says of each code what it means and how it is handled."""

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
        retryable: whether the same operation may succeed when a run tries it again with nothing changed; where it is
            "sometimes" each failure says so itself.
        fix: what a user can do.
        halts_run: every further call of the run would end the same way, so none is made.
        is_paid_answer: the failure is a model's answer, which the service charges for; its call record holds it.
        second_try: how a model is asked once more within the operation: told what was wrong, with a larger token budget,
            or with the same request.
    """

    code: str
    meaning: str
    stage: Stage
    retryable: Retryable
    fix: str
    halts_run: bool = False
    is_paid_answer: bool = False
    second_try: SecondTry | None = None


_CODES: Final = (
    # everything before an operation
    FailureCode(
        "media_not_found",
        "the path does not exist or may not be read",
        "media",
        "sometimes",
        "Check the path and its permissions. A URL that could not be fetched is retryable.",
    ),
    FailureCode("media_empty", "the file holds no bytes", "media", "never", "Copy the file again from its source."),
    FailureCode(
        "media_unsupported",
        "the file is not one of the media formats that promptreel reads",
        "media",
        "never",
        "Name the media files themselves, or convert the file to MP4, MP3 or JPEG.",
    ),
    FailureCode(
        "media_corrupt",
        "the file claims to be media but cannot be decoded",
        "media",
        "never",
        "Check that the file plays to its end; copy it again, or convert it.",
    ),
    FailureCode(
        "media_too_large",
        "the picture, the duration or the file is over a limit",
        "media",
        "never",
        "Scale the picture down or cut the file into parts; a longer duration is allowed by `--max-media-hours`.",
    ),
    FailureCode(
        "media_no_streams",
        "the file has neither pictures nor sound that can be decoded",
        "media",
        "never",
        "Export the file again with a picture or sound track in a common codec.",
    ),
    FailureCode(
        "decode_failed",
        "the decoder ended with an error before the first frame",
        "media",
        "sometimes",
        "Check that the file plays, or convert it. If no usable ffmpeg was found, `promptreel doctor` says what to install.",
    ),
    FailureCode(
        "decode_timeout",
        "the decoder did not finish within its time limit",
        "media",
        "sometimes",
        "Resume the run when the machine is less busy; convert a file that fails again to H.264.",
    ),
    FailureCode(
        "decode_out_of_memory",
        "the decoder went over its memory limit",
        "media",
        "sometimes",
        "Scale the picture down. If the system stopped the decoder, free memory and resume the run.",
    ),
    # model calls
    FailureCode(
        "model_timeout",
        "the call's deadline passed without an answer",
        "model call",
        "always",
        "Resume the run; if it happens again, start one with a longer `--call-deadline` or shorter segments.",
    ),
    FailureCode(
        "model_unavailable",
        "the service answered with a server error, or could not be reached",
        "model call",
        "always",
        "Check the network and the service's status page, then resume the run.",
    ),
    FailureCode(
        "rate_limited",
        "the service kept answering that calls come too fast",
        "model call",
        "always",
        "Resume the run later, or start one with a lower `--max-calls-per-second` or `--max-in-flight`.",
    ),
    FailureCode(
        "quota_exhausted",
        "a daily quota or spend limit is used up; calling again today does not help",
        "model call",
        "always",
        "Raise the quota or the spend limit, or wait until it is renewed; then resume the run.",
        halts_run=True,
    ),
    FailureCode(
        "model_auth",
        "the service refused the key or the project",
        "model call",
        "sometimes",
        "Set a valid key or project. A resume makes the calls that were not made; the rejected one needs a new run.",
        halts_run=True,
    ),
    FailureCode(
        "model_not_found",
        "the service does not know that model",
        "model call",
        "sometimes",
        "Start a run with a model that the service offers; the message suggests names where it can.",
        halts_run=True,
    ),
    FailureCode(
        "model_bad_request",
        "the service refused the request as malformed",
        "model call",
        "never",
        "Read the message: plan shorter segments, send smaller media, or simplify the prompt's schema.",
    ),
    FailureCode(
        "model_blocked",
        "the model refused the content (safety, recitation, or a block list)",
        "model call",
        "never",
        "Reword the prompt or use another model; the segment's media may be what is blocked.",
        is_paid_answer=True,
    ),
    FailureCode(
        "model_truncated",
        "the answer was cut at the token limit",
        "model call",
        "never",
        "Start a run with more `--max-output-tokens` or shorter segments, or ask for less in the prompt.",
        is_paid_answer=True,
        second_try="larger_budget",
    ),
    FailureCode(
        "model_empty",
        "the model answered without content",
        "model call",
        "always",
        "Resume the run; if it happens again, reword the prompt or use another model.",
        second_try="same",
    ),
    FailureCode(
        "model_stopped",
        "the model ended for a reason that this version does not know",
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
        second_try="repair",
    ),
    FailureCode(
        "schema_invalid",
        "the answer is JSON but does not fit the prompt's schema",
        "model call",
        "always",
        "Resume the run; if it happens again, describe the field better, or loosen the rule that the message names.",
        second_try="repair",
    ),
    FailureCode(
        "media_not_seen",
        "the answer's usage shows that the model was not given the media",
        "model call",
        "always",
        "Resume the run; if it happens again, change `--media-input` or use a model that reads this kind of media.",
        second_try="same",
    ),
    FailureCode(
        "unsupported_field",
        "the built-in model cannot measure a field that the prompt asks for",
        "model call",
        "never",
        "Remove the field from the prompt, or use a model that can answer it.",
    ),
    # models on this machine
    FailureCode(
        "weights_missing",
        "a local model's weights cannot be loaded",
        "local model",
        "sometimes",
        "Fetch the weights that the message names (`promptreel models pull`), then resume the run.",
    ),
    FailureCode(
        "transcription_failed",
        "the recogniser could not read the sound",
        "local model",
        "never",
        "Check the language setting and that the sound plays; or start a run with `--no-transcription`.",
    ),
    FailureCode(
        "embedding_failed",
        "the embedding model could not read a picture or text",
        "local model",
        "never",
        "Start a run with another embedding model; the message names the picture or text.",
    ),
    # the machine
    FailureCode(
        "storage_failed",
        "a result could not be written",
        "machine",
        "always",
        "Free space or correct the permissions of the data folder, then resume the run.",
    ),
    FailureCode(
        "internal_error",
        "a defect of promptreel; the message carries the error's type and text",
        "machine",
        "always",
        "Report the message and the run's log; resume the run, in case the cause was temporary.",
    ),
    # run control
    FailureCode(
        "interrupted",
        "the runner died too often, and what it had not finished was left undone",
        "run control",
        "always",
        "Find out why the runner died (its log, the machine's memory), then resume the run.",
    ),
    FailureCode(
        "cancelled", "the run was stopped before this operation began", "run control", "always", "Resume the run."
    ),
    FailureCode(
        "budget_exhausted",
        "the run's token cap was reached before this operation began",
        "run control",
        "always",
        "Start a run with a larger `--max-tokens`; it reuses the finished results.",
    ),
    FailureCode(
        "deadline_exceeded",
        "the run's deadline passed before this operation began",
        "run control",
        "always",
        "Resume the run; its deadline counts anew.",
    ),
)

FAILURE_CODES: Final[Mapping[str, FailureCode]] = MappingProxyType({code.code: code for code in _CODES})
"""Every code, in the order of the stages of a run."""
