"""`promptreel run --resume`: the settings that it may change, and the failures that it retries."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import click
from click.core import ParameterSource

from promptreel.cli.model_messages import warn_of_missing
from promptreel.cli.output import setting_text
from promptreel.providers.prices import load_prices, price_of
from promptreel.providers.registry import check_access, check_run
from promptreel.schemas.errors import InvalidInput, SettingsError
from promptreel.schemas.money import money_of
from promptreel.schemas.settings import RunSettings
from promptreel.schemas.uris import public_uri
from promptreel.tables.attempts import is_running, last_attempt
from promptreel.tables.call_log import read_spent
from promptreel.tables.manifest import newest_manifest
from promptreel.tables.reader import committed_run, read_rows
from promptreel.tables.request import RunRequest, read_request
from promptreel.tables.resume_settings import (
    changed_settings,
    current_request,
    may_be_fixed,
    settings_of_attempt,
    store_changes,
    value_at,
)
from promptreel.tables.retry_scope import RetryScope, target_of, write_retry
from promptreel.tables.stop_signal import clear_stop
from promptreel.tables.storage import Storage

_POLL_INTERVAL_S = 0.2
_EARLIER_ATTEMPT_TIMEOUT_S = 60.0
_OTHER_OPTIONS = ("resume", "runner", "runner_options", "data_dir", "as_json")


def _same(value: Any) -> Any:
    return value


# Options that a resume accepts: the path of the setting, and the conversion of the option's value. No operation's key
# contains these settings, so finished results stay valid.
RESUME_OPTIONS: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "max_output_tokens": ("model.max_output_tokens", _same),
    "tier": ("model.tier", _same),
    "flex_fallback": ("calls.flex_fallback", _same),
    "batch_deadline": ("calls.batch_deadline_s", _same),
    "base_url": ("model.base_url", _same),
    "vertex_project": ("model.vertex_project", _same),
    "vertex_location": ("model.vertex_location", _same),
    "max_in_flight": ("calls.max_in_flight", _same),
    "max_calls_per_second": ("calls.max_calls_per_second", _same),
    "call_deadline": ("calls.deadline_s", _same),
    "max_attempts": ("calls.max_attempts", _same),
    "max_outage": ("calls.max_outage_s", _same),
    "max_tokens": ("calls.max_total_tokens", _same),
    "max_cost": ("calls.max_cost", _same),
    "prices": ("prices", lambda file: [asdict(price) for price in load_prices(file)]),
    "run_deadline": ("calls.run_deadline_s", _same),
    "max_media_hours": ("limits.max_duration_s", lambda hours: hours * 3600),
    "max_image_megapixels": ("limits.max_image_pixels", lambda megapixels: round(megapixels * 1e6)),
    "max_damage": ("limits.max_damaged_share", _same),
    "commit_interval": ("commit_interval_s", _same),
    "strict_models": ("strict_models", _same),
}


def changes_of(run_id: str, named: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the command line changes, by path.

    Raises:
        InvalidInput: a target or a setting was passed that a resumed run cannot change.
    """
    context = click.get_current_context()
    passed = [
        option
        for option in context.command.params
        if isinstance(option, click.Option)
        and option.name not in _OTHER_OPTIONS
        and context.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE
    ]
    fixed = [option.opts[0] for option in passed if option.name not in RESUME_OPTIONS]
    if named or fixed:
        changeable = ", ".join(f"--{name.replace('_', '-')}" for name in RESUME_OPTIONS)
        raise InvalidInput(
            f"--resume uses the target and settings of {run_id}; remove {' '.join([*fixed, *map(public_uri, named)])} "
            f"(a resume can change {changeable})"
        )
    found = {}
    for option in passed:
        path, convert = RESUME_OPTIONS[str(option.name)]
        found[path] = convert(options[str(option.name)])
    return found


def prepare_resume(storage: Storage, run_id: str, changes: Mapping[str, Any]) -> RunRequest:
    """Wait until no earlier attempt is running, store changed settings, and return the request with them.

    Raises:
        SettingsError: a setting is invalid, a key is missing, or the run is in progress.
    """
    request, _ = current_request(storage, run_id)
    changes = {path: value for path, value in changes.items() if value != value_at(request.settings, path)}
    settings = changed_settings(request.settings, changes)
    if settings.strict_models:
        check_run(request.prompt, settings)
    else:
        check_access(settings)
    if "prices" in changes:
        _check_currency(storage, request, settings)
    warn_of_missing(settings)
    deadline = time.monotonic() + _EARLIER_ATTEMPT_TIMEOUT_S
    while is_running(storage, run_id):
        if time.monotonic() > deadline:
            raise SettingsError(f"run {run_id} is in progress in another process; wait for it or stop it")
        time.sleep(_POLL_INTERVAL_S)
    if changes:
        store_changes(storage, run_id, changes)
        shown = (
            f"{path.split('.')[-1]}: {setting_text(value_at(request.settings, path))} -> {setting_text(value)}"
            for path, value in changes.items()
        )
        click.echo(f"changed settings: {', '.join(shown)}", err=True)
    clear_stop(storage, run_id)
    return current_request(storage, run_id)[0]


def _check_currency(storage: Storage, request: RunRequest, settings: RunSettings) -> None:
    """Reject prices in another currency than the costs so far, because the two cannot be added.

    Raises:
        SettingsError: names both.
    """
    price = price_of(settings.model.model, settings.prices)
    before = money_of(read_spent(storage, request.run_id).money).currency
    if price is not None and before is not None and price.currency != before:
        raise SettingsError(
            f"run {request.run_id} has costs in {before}, but the price of {settings.model.model} is in {price.currency}; "
            f"give it in {before}"
        )


def failures_of_ended(storage: Storage, request: RunRequest) -> list[dict[str, Any]]:
    """Return the failures of a run that has ended; empty if the run has unfinished work.

    A failure is retryable too if a limit that causes it is now larger than in the attempt that failed.
    """
    manifest = newest_manifest(storage, request.run_id)
    if manifest is None or manifest.status == "cancelled" or last_attempt(storage, request.run_id) > manifest.attempt:
        return []
    frozen = read_request(storage, request.run_id)
    before = settings_of_attempt(storage, frozen, manifest.attempt)
    return [
        {**row, "retryable": row["retryable"] or may_be_fixed(row["code"], before, request.settings)}
        for row in read_rows(storage, committed_run(storage, request.run_id), "failures")
    ]


def write_retry_of(storage: Storage, run_id: str, failures: Sequence[dict[str, Any]]) -> str:
    """Store a retry of the retryable failures and return its ID."""
    retry_id = f"retry_{uuid.uuid4().hex}"
    scope = RetryScope(frozenset(target_of(row) for row in failures if row["retryable"]))
    write_retry(storage, run_id, retry_id, scope)
    return retry_id
