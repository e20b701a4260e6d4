"""Operations, their outcomes, and the closed vocabulary of failure codes."""

from __future__ import annotations

from typing import Final, Literal

Operation = Literal["processing", "field_extraction", "transcription", "image_embedding", "synthesis", "text_embedding"]
Outcome = Literal["succeeded", "failed", "cancelled"]

OPERATIONS: Final[tuple[Operation, ...]] = (
    "processing",
    "field_extraction",
    "transcription",
    "image_embedding",
    "synthesis",
    "text_embedding",
)

FAILURE_CODES: Final[dict[str, str]] = {
    # processing: everything before an operation
    "media_not_found": "the path does not exist or may not be read",
    "media_empty": "the file holds no bytes",
    "media_unsupported": "the file is not one of the media formats that promptreel reads",
    "media_corrupt": "the file claims to be media but cannot be decoded",
    "media_too_large": "the picture, the duration or the file is over a limit",
    "media_no_streams": "the file has neither pictures nor sound that can be decoded",
    "decode_failed": "the decoder ended with an error before the first frame",
    "decode_timeout": "the decoder did not finish within its time limit",
    "decode_out_of_memory": "the decoder went over its memory limit",
    # model calls
    "model_timeout": "the call's deadline passed without an answer",
    "model_unavailable": "the service answered with a server error, or could not be reached",
    "rate_limited": "the service kept answering that calls come too fast",
    "quota_exhausted": "a daily quota or spend limit is used up; calling again today does not help",
    "model_auth": "the service refused the key or the project",
    "model_not_found": "the service does not know that model",
    "model_bad_request": "the service refused the request as malformed",
    "model_blocked": "the model refused the content (safety, recitation, or a block list)",
    "model_truncated": "the answer was cut at the token limit",
    "model_empty": "the model answered without content",
    "model_stopped": "the model ended for a reason that this version does not know",
    "answer_not_json": "the answer is not JSON",
    "schema_invalid": "the answer is JSON but does not fit the prompt's schema",
    "media_not_seen": "the answer's usage shows that the model was not given the media",
    "unsupported_field": "the built-in model cannot measure a field that the prompt asks for",
    # models on this machine
    "weights_missing": "a local model's weights cannot be loaded",
    "transcription_failed": "the recogniser could not read the sound",
    "embedding_failed": "the embedding model could not read a picture or text",
    # the machine
    "storage_failed": "a result could not be written",
    "internal_error": "a defect of promptreel; the message carries the error's type and text",
    # run control
    "interrupted": "the runner died too often, and what it had not finished was left undone",
    "cancelled": "the run was stopped before this operation began",
    "budget_exhausted": "the run's token cap was reached before this operation began",
    "deadline_exceeded": "the run's deadline passed before this operation began",
}
