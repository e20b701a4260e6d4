"""The exception hierarchy of promptreel.

    ExpectedError
    ├── InvalidInput            the caller's input is invalid; the message names the input, its value and the fix
    │   ├── PromptError         a prompt definition breaks a rule
    │   ├── SettingsError       a run setting is out of range or contradicts another
    │   └── TargetError         a target contains no readable media
    ├── MediaError              one media item cannot be read; carries a failure code
    ├── ModelError              one model call returned no usable answer; carries a failure code
    └── RunError                a run folder cannot be used
        ├── RunNotFound         no run has this id
        ├── RunDamaged          a file of the run is missing or corrupt; carries the run's id and the file
        ├── StateExpired        an interim state of a run was replaced while it was read; read again
        ├── CommitConflict      another writer has already committed this manifest number
        └── StorageError        a file could not be read or written completely

`MediaError` and `ModelError` become rows of the failures table; the others stop the command with a message.
"""

from __future__ import annotations

__all__ = [
    "CommitConflict",
    "ExpectedError",
    "InvalidInput",
    "MediaError",
    "ModelError",
    "PicklableError",
    "PromptError",
    "RunDamaged",
    "RunError",
    "RunNotFound",
    "SettingsError",
    "StateExpired",
    "StorageError",
    "TargetError",
]


class PicklableError(Exception):
    """An exception that keeps its fields when pickled, whatever its constructor's parameters.

    Beam workers on other machines send their exceptions pickled.
    """

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[PicklableError], arguments: tuple[object, ...], fields: dict[str, object]) -> PicklableError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(fields)
    return error


class ExpectedError(PicklableError):
    """Base class of every error that promptreel raises deliberately."""


class InvalidInput(ExpectedError):
    """The caller's input is invalid; the message names the input, its value and the fix."""


class PromptError(InvalidInput):
    """A prompt definition breaks a rule."""


class SettingsError(InvalidInput):
    """A run setting is out of range or contradicts another."""


class TargetError(InvalidInput):
    """A target contains no readable media."""


class MediaError(ExpectedError):
    """One media item cannot be read.

    Args:
        code: a key of `promptreel.schemas.failure_codes.FAILURE_CODES`.
        message: the cause with the value, and the fix.
        retryable: whether a later attempt on the unchanged item may succeed.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable


class ModelError(ExpectedError):
    """One model call returned no usable answer.

    Args:
        code: a key of `promptreel.schemas.failure_codes.FAILURE_CODES`.
        message: the cause with the value, and the fix.
        retryable: whether the same call may succeed if repeated.
        retry_after_s: seconds that the service asked to wait; None if it did not specify.
        has_no_quota: the quota that rejected the call is 0.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        retry_after_s: float | None = None,
        has_no_quota: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.has_no_quota = has_no_quota


class RunError(ExpectedError):
    """A run folder cannot be used."""


class RunNotFound(RunError):
    """No run has this id."""


class RunDamaged(RunError):
    """A file of a run is missing or corrupt. Other runs are not affected.

    Args:
        file: path relative to the data folder.
        cause: what is wrong, phrased to follow the file name in a sentence.
    """

    def __init__(self, run_id: str, file: str, cause: str) -> None:
        fix = f"restore the file, or move runs/{run_id} out of the data folder"
        super().__init__(f"run {run_id} is damaged: {file} {cause}; {fix}")
        self.run_id = run_id
        self.file = file
        self.cause = cause


class StateExpired(RunError):
    """An interim state of a run was replaced by a newer one while it was read; reading the newest one succeeds."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id}: a newer state of its tables replaced the one that was read; read them again")
        self.run_id = run_id


class CommitConflict(RunError):
    """Another writer has already committed this manifest number."""


class StorageError(RunError):
    """A file could not be read or written completely."""
