"""`promptreel run`: create a run, start its runner process, show its progress and print a summary."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from promptreel.cli.label_options import label_options, labels_of
from promptreel.cli.model_messages import check_model_names
from promptreel.cli.options import command_line, data_dir_option, json_option, load_prompt, open_data_dir, prompt_option
from promptreel.cli.output import print_json
from promptreel.cli.progress import RunProgress
from promptreel.cli.resume import changes_of, failures_of_ended, prepare_resume, write_retry_of
from promptreel.cli.runner_options import is_option, nearest_option, split_words
from promptreel.cli.sampling import sample_target
from promptreel.cli.settings_options import settings_of, settings_options
from promptreel.cli.summary import print_summary, summary_of
from promptreel.cli.target import expand_target
from promptreel.providers.registry import check_run
from promptreel.schemas.errors import ExpectedError, InvalidInput, RunError
from promptreel.schemas.ids import new_run_id
from promptreel.schemas.prompt_media import settings_for_prompt
from promptreel.schemas.uris import public_uri
from promptreel.tables.layout import log_file
from promptreel.tables.live_parts import repair_published
from promptreel.tables.manifest import newest_manifest
from promptreel.tables.prompt_versions import register_version
from promptreel.tables.reader import committed_run
from promptreel.tables.request import RunRequest, read_target, write_request
from promptreel.tables.runner_command import runner_command
from promptreel.tables.runner_log import last_runner_error, open_runner_log
from promptreel.tables.stop_signal import StopSignal, request_stop
from promptreel.tables.storage import Storage

EXIT_CODES = {"completed": 0, "failed": 1, "completed_with_failures": 3, "cancelled": 130}
LOCAL_RUNNER = "FnApiRunner"
_POLL_INTERVAL_S = 0.2


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True})
@click.argument("target", nargs=-1, type=click.UNPROCESSED)
@prompt_option
@settings_options
@label_options
@click.option(
    "--resume",
    metavar="RUN_ID",
    help="Resume this run instead of starting a new one; if it has ended, retry its retryable failures.",
)
@click.option(
    "--runner",
    default=LOCAL_RUNNER,
    show_default=True,
    metavar="NAME",
    help="Beam runner. Pass its options in Beam's form, e.g. --project=p --region=r.",
)
@click.option(
    "--runner-option",
    "runner_options",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="Option known only to the runner's job service, e.g. object_reuse; passed on unchecked.",
)
@click.option(
    "--report",
    "report_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write the run as an HTML page, as `promptreel report` does.",
)
@data_dir_option
@json_option
def run(
    target: tuple[str, ...],
    prompt_name: str,
    resume: str | None,
    runner: str,
    runner_options: tuple[str, ...],
    report_file: Path | None,
    data_dir: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Run a prompt over TARGET: media files, folders of them, or URLs.

    Ctrl-C stops the run: calls in progress finish, and all finished work is committed. `--resume` continues a run that
    was stopped or killed without repeating, or paying for, finished work. On a run that has ended it retries the
    retryable failures. Limits of calls and media, the output budget, the service tier and the model's address can be
    changed; a failure that the changed limit caused is retried.
    """
    if report_file is not None and report_file.suffix.lower() != ".html":
        raise InvalidInput(f"--report {report_file}: a report is an HTML file; use the suffix .html")
    named, beam_options = _parse_words(target, runner)
    beam_options += _parse_runner_options(runner_options, runner)
    storage = open_data_dir(data_dir)
    failures: list[dict[str, Any]] = []
    if resume is None:
        run_id = _create(storage, named, prompt_name, options)
    else:
        request = prepare_resume(storage, resume, changes_of(resume, named, options))
        run_id = request.run_id
        failures = failures_of_ended(storage, request)
    if failures and not any(row["retryable"] for row in failures):
        repair_published(storage, run_id)
        click.echo(f"nothing to retry: none of the {len(failures)} failures is retryable", err=True)
    else:
        retry_id = write_retry_of(storage, run_id, failures) if failures else None
        _execute_until_commit(storage, run_id, runner, beam_options, retry_id)
    summary = summary_of(storage, run_id)
    if as_json:
        print_json(summary)
    else:
        print_summary(storage, summary)
    if report_file is not None:
        _write_report(storage, run_id, report_file, to_stderr=as_json)
    sys.exit(EXIT_CODES[summary["status"]])


def _parse_words(words: Sequence[str], runner: str) -> tuple[list[str], list[str]]:
    """Split the words that are not options of promptreel into media and Beam options.

    Raises:
        InvalidInput: an option is unknown to promptreel and Beam, is a Beam option without --runner, or has an invalid
            value; or Beam does not know the runner.
    """
    context = click.get_current_context()
    named_runner = context.get_parameter_source("runner") is ParameterSource.COMMANDLINE
    if not named_runner and not any(is_option(word) for word in words):
        return list(words), []  # avoids importing Beam in the usual case
    from promptreel.pipelines.beam_options import beam_options, check_beam_options

    takes_value = beam_options(runner)
    split = split_words(words, takes_value)
    if split.unknown:
        name = split.unknown[0]
        own = _option_names(context)
        if name in own:
            raise InvalidInput(f"{name} after -- is read as media; for a file of that name write ./{name}")
        nearest = nearest_option(name, [*own, *(takes_value if named_runner else ())])
        hint = f"did you mean {nearest}?" if nearest else "see promptreel run --help"
        raise InvalidInput(f"no such option {name}; {hint}")
    if split.beam_options and not named_runner:
        name = split.beam_options[0].partition("=")[0]
        raise InvalidInput(f"{name} is an option of a Beam runner; name the runner with --runner")
    check_beam_options(runner, split.beam_options)
    return split.media, split.beam_options


def _parse_runner_options(options: Sequence[str], runner: str) -> list[str]:
    """Convert the values of `--runner-option` to Beam options.

    Raises:
        InvalidInput: the runner is local, so it has no job service to accept them.
    """
    if not options:
        return []
    from promptreel.pipelines.beam_runners import is_local

    if is_local(runner):
        raise InvalidInput(
            f"--runner-option {options[0]}: {runner} does not accept it; only job-service runners do, e.g. FlinkRunner"
        )
    return [f"--{option.lstrip('-')}" for option in options]


def _option_names(context: click.Context) -> list[str]:
    options = [option for option in context.command.get_params(context) if isinstance(option, click.Option)]
    return [name for option in options for name in (*option.opts, *option.secondary_opts)]


def _create(storage: Storage, named: Sequence[str], prompt_name: str, options: dict[str, Any]) -> str:
    prompt = load_prompt(prompt_name)
    labels = labels_of(options["run_name"], options["tags"])
    settings = settings_for_prompt(settings_of(options), prompt.media)
    check_run(prompt, settings)
    target = expand_target(named)
    if skipped := target.skipped_text():
        click.echo(skipped, err=True)
    check_model_names(settings)
    as_named = tuple(os.fsencode(public_uri(name)).decode("utf-8", "replace") for name in named)
    created_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    version = register_version(storage, prompt)
    request = RunRequest(new_run_id(), prompt, settings, as_named, created_at, labels=labels, prompt_version=version)
    write_request(storage, request, sample_target(target.items, settings))
    return request.run_id


def _write_report(storage: Storage, run_id: str, file: Path, to_stderr: bool) -> None:
    """Write the report and name it. The run has ended, so a failure to write is a warning and the exit code is the run's."""
    from promptreel.cli.report import report_of, report_text

    try:
        written = report_of(storage, committed_run(storage, run_id), file)
    except ExpectedError as error:
        click.echo(f"warning: the run is complete, but its report is missing: {error}", err=True)
        return
    click.echo(f"\nreport   {report_text(written)}", err=to_stderr)


def _execute_until_commit(
    storage: Storage, run_id: str, runner: str, beam_options: Sequence[str], retry_id: str | None
) -> None:
    """Execute a run, or a retry of it, until it commits a new manifest.

    Raises:
        RunError: the run did not commit.
        SystemExit: the user stopped the run immediately, before a commit.
    """
    before = newest_manifest(storage, run_id)
    code = _execute(storage, run_id, runner, beam_options, retry_id)
    manifest = newest_manifest(storage, run_id)
    if manifest is None or (before is not None and manifest.number == before.number):
        resume_command = command_line(storage, "run", "--resume", run_id)
        if code == -signal.SIGKILL and StopSignal(storage, run_id).is_set():
            click.echo(f"stopped immediately; finished work is saved. Resume with: {resume_command}", err=True)
            sys.exit(EXIT_CODES["cancelled"])
        raise RunError(
            f"run {run_id} ended without a commit{_last_error(storage, run_id)}\n"
            f"  log: {storage.root}/{log_file(run_id)}\n"
            f"  finished work is saved; resume with: {resume_command}"
        )
    if code != 0:
        repair_published(storage, run_id)  # the runner may have died after its commit
        click.echo(
            f"warning: the tables are committed, but the runner exited with an error{_last_error(storage, run_id)}",
            err=True,
        )


def _execute(storage: Storage, run_id: str, runner: str, beam_options: Sequence[str], retry_id: str | None) -> int:
    """Start the runner process, show its progress until it exits, and return its exit code."""
    command = runner_command(
        storage, run_id, retry_id=retry_id, runner=runner, stop_with_parent=True, beam_options=beam_options
    )
    progress = RunProgress(storage, run_id, len(read_target(storage, run_id)))
    with open_runner_log(storage, run_id) as log:
        # start_new_session: Ctrl-C reaches only this process, which then requests a stop from the runner.
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)
        with progress:
            code = _wait(child, storage, run_id, progress)
    return code


def _wait(child: subprocess.Popen[bytes], storage: Storage, run_id: str, progress: RunProgress) -> int:
    interrupts = 0
    while True:
        try:
            while child.poll() is None:
                progress.update()
                time.sleep(_POLL_INTERVAL_S)
            return child.returncode
        except KeyboardInterrupt:
            interrupts += 1
            if interrupts == 1:
                progress.print("stopping: waiting for calls in progress (press Ctrl-C again to stop immediately)")
                request_stop(storage, run_id, "Ctrl-C")
            else:
                child.kill()


def _last_error(storage: Storage, run_id: str) -> str:
    """Return the runner's last error as ": error", or an empty string."""
    error = last_runner_error(storage, run_id)
    return f": {error}" if error else ""
