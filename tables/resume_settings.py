"""Settings that a resume changed: numbered files in the run folder, beside the frozen request.

Each file has all changes so far, so the newest is complete. An attempt records the number that it ran with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from promptreel.schemas.errors import RunDamaged
from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.settings import RunSettings, settings_from_dict
from promptreel.tables import layout
from promptreel.tables.attempts import read_attempt
from promptreel.tables.numbered_files import numbered_name, numbers_in
from promptreel.tables.request import RunRequest, read_request
from promptreel.tables.storage import Storage

# Key of an attempt's record: number of the changes in effect, 0 for the frozen settings.
SETTINGS_NUMBER: Final = "settings"


def current_request(storage: Storage, run_id: str) -> tuple[RunRequest, int]:
    """Load a run's request with the settings now in effect, and the number of their changes (0: none).

    Raises:
        RunNotFound: the run does not exist.
        RunDamaged: its request or its changed settings are unreadable.
    """
    request, number = read_request(storage, run_id), newest_number(storage, run_id)
    return replace(request, settings=changed_settings(request.settings, read_changes(storage, run_id, number))), number


def settings_of_attempt(storage: Storage, request: RunRequest, attempt: int) -> RunSettings:
    """The settings that an attempt ran with.

    Raises:
        RunDamaged: the changed settings are unreadable.
    """
    number = read_attempt(storage, request.run_id, attempt).get(SETTINGS_NUMBER, 0)
    return changed_settings(request.settings, read_changes(storage, request.run_id, number))


def changed_settings(settings: RunSettings, changes: Mapping[str, Any]) -> RunSettings:
    """Return settings with the values at some paths replaced, e.g. "calls.max_attempts".

    Raises:
        SettingsError: a value is invalid.
    """
    values = settings.to_dict()
    for path, value in changes.items():
        *groups, name = path.split(".")
        target = values
        for group in groups:
            target = target[group]
        target[name] = value
    return settings_from_dict(values) if changes else settings


def read_changes(storage: Storage, run_id: str, number: int) -> dict[str, Any]:
    """Load the changes with a number, by path; empty for 0.

    Raises:
        RunDamaged: they are unreadable.
    """
    if number == 0:
        return {}
    name = _file(run_id, number)
    try:
        return dict(json.loads(storage.read_bytes(name))["changes"])
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise RunDamaged(run_id, name, f"is not readable ({error})") from error


def store_changes(storage: Storage, run_id: str, changes: Mapping[str, Any]) -> None:
    """Store further changes durably; they apply from the next attempt on."""
    while True:
        number = newest_number(storage, run_id)
        content = {"changes": {**read_changes(storage, run_id, number), **changes}}
        if storage.create_exclusive(_file(run_id, number + 1), json.dumps(content, indent=2).encode()):
            return


def newest_number(storage: Storage, run_id: str) -> int:
    """Number of the newest changes; 0 if the settings never changed."""
    return max(numbers_in(storage, layout.settings_folder(run_id)), default=0)


def may_be_fixed(code: str, before: RunSettings, now: RunSettings) -> bool:
    """Whether a limit that causes a failure is now larger than when the operation failed."""
    raised_by = FAILURE_CODES[code].raised_by if code in FAILURE_CODES else ()
    return any(value_at(now, path) > value_at(before, path) for path in raised_by)


def value_at(settings: RunSettings, path: str) -> Any:
    """Return the setting at a path."""
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _file(run_id: str, number: int) -> str:
    return numbered_name(layout.settings_folder(run_id), number)
