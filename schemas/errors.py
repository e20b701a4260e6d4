"""The one exception tree of promptreel.

    ExpectedError
    ├── InvalidInput            what the caller gave cannot be used; the message says what, which value, and the mend
    │   ├── PromptError         a prompt definition breaks a rule
    │   ├── SettingsError       a run setting is out of range or contradicts another
    │   └── TargetError         a target names nothing that can be read as media
    ├── MediaError              one media item cannot be read; carries a failure code
    ├── ModelError              one model call did not give a usable answer; carries a failure code
    └── RunError                a run folder cannot be used
        ├── RunNotFound         no run of that id
        ├── CommitConflict      another writer has committed the manifest number that this one wanted
        └── StorageError        a file could not be written or read whole

`MediaError` and `ModelError` become rows of the failures table; the others end the command with a message.
"""

from __future__ import annotations

__all__ = [
    "CommitConflict",
    "ExpectedError",
    "InvalidInput",
    "MediaError",
    "ModelError",
    "PromptError",
    "RunError",
    "RunNotFound",
    "SettingsError",
    "StorageError",
    "TargetError",
]


class ExpectedError(Exception):
    """Base of every error that promptreel raises on purpose."""


class InvalidInput(ExpectedError):
    """The caller's input cannot be used; the message says what, which value, and the mend."""


class PromptError(InvalidInput):
    """A prompt definition breaks a rule."""


class SettingsError(InvalidInput):
    """A run setting is out of range or contradicts another."""


class TargetError(InvalidInput):
    """A target names nothing that can be read as media."""


class MediaError(ExpectedError):
    """One media item cannot be read.

    Args:
        code: what went wrong, in one of the words of `promptreel.schemas.outcomes.FAILURE_CODES`.
        message: what was wrong, with the value, and what to do.
        retryable: whether the same item may succeed later without being changed.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_coded, (type(self), self.code, self.message, self.retryable))


class ModelError(ExpectedError):
    """One model call did not give a usable answer.

    Args:
        code: what went wrong, in one of the words of `promptreel.schemas.outcomes.FAILURE_CODES`.
        message: what was wrong, with the value, and what to do.
        retryable: whether the same call may succeed when made again.
        retry_after_s: seconds that the service asked to wait, None where it said nothing.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_coded, (type(self), self.code, self.message, self.retryable))


def _rebuild_coded(kind: type[MediaError] | type[ModelError], code: str, message: str, retryable: bool) -> Exception:
    return kind(code, message, retryable=retryable)


class RunError(ExpectedError):
    """A run folder cannot be used."""


class RunNotFound(RunError):
    """No run of that id."""


class CommitConflict(RunError):
    """Another writer has committed the manifest number that this one wanted."""


class StorageError(RunError):
    """A file could not be written or read whole."""
