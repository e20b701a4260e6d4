"""The one exception tree of promptreel.

    ExpectedError
    ├── InvalidInput            what the caller gave cannot be used; the message says what, which value, and the fix
    │   ├── PromptError         a prompt definition breaks a rule
    │   ├── SettingsError       a run setting is out of range or contradicts another
    │   └── TargetError         a target names nothing that can be read as media
    ├── MediaError              one media item cannot be read; carries a failure code
    ├── ModelError              one model call did not give a usable answer; carries a failure code
    └── RunError                a run folder cannot be used
        ├── RunNotFound         no run of that id
        ├── RunDamaged          a file of the run is missing or torn; carries the run's id and the file
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
    "PicklableError",
    "PromptError",
    "RunDamaged",
    "RunError",
    "RunNotFound",
    "SettingsError",
    "StorageError",
    "TargetError",
]


class PicklableError(Exception):
    """An exception that keeps all its fields when it is pickled, whatever its constructor takes: workers on other machines
    send theirs."""

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[PicklableError], arguments: tuple[object, ...], fields: dict[str, object]) -> PicklableError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(fields)
    return error


class ExpectedError(PicklableError):
    """Base of every error that promptreel raises on purpose."""


class InvalidInput(ExpectedError):
    """The caller's input cannot be used; the message says what, which value, and the fix."""


class PromptError(InvalidInput):
    """A prompt definition breaks a rule."""


class SettingsError(InvalidInput):
    """A run setting is out of range or contradicts another."""


class TargetError(InvalidInput):
    """A target names nothing that can be read as media."""


class MediaError(ExpectedError):
    """One media item cannot be read.

    Args:
        code: what went wrong, in one of the words of `promptreel.schemas.failure_codes.FAILURE_CODES`.
        message: what was wrong, with the value, and what to do.
        retryable: whether the same item may succeed later without being changed.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable


class ModelError(ExpectedError):
    """One model call did not give a usable answer.

    Args:
        code: what went wrong, in one of the words of `promptreel.schemas.failure_codes.FAILURE_CODES`.
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


class RunError(ExpectedError):
    """A run folder cannot be used."""


class RunNotFound(RunError):
    """No run of that id."""


class RunDamaged(RunError):
    """A file of a run is missing, or is not what it should be. Other runs are not concerned.

    Args:
        file: its name below the data folder.
        cause: what is wrong with it, as the end of a sentence that begins with the file.
    """

    def __init__(self, run_id: str, file: str, cause: str) -> None:
        fix = f"restore the file, or move runs/{run_id} out of the data folder"
        super().__init__(f"run {run_id} is damaged: {file} {cause}; {fix}")
        self.run_id = run_id
        self.file = file
        self.cause = cause


class CommitConflict(RunError):
    """Another writer has committed the manifest number that this one wanted."""


class StorageError(RunError):
    """A file could not be written or read whole."""
