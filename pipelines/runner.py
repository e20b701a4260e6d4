"""The runner process: executes a run and commits its tables.

    python -m promptreel.pipelines.runner --data-dir DIR --run-id ID [--runner NAME] [Beam options]

It communicates with the process that started it only through files in the run folder: progress and stop requests. SIGTERM
and SIGINT also request a stop. Exit codes: 0 committed, whatever the run's status; 1 not committed.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Sequence

from promptreel.media.ffmpeg import find_ffmpeg
from promptreel.pipelines.beam_runners import LOCAL_RUNNER, create_pipeline, is_local
from promptreel.providers.registry import check_access
from promptreel.schemas.errors import ExpectedError, MediaError
from promptreel.schemas.money import total_nanos
from promptreel.tables.attempts import begin_attempt, runner_lock
from promptreel.tables.call_log import read_spent
from promptreel.tables.live_parts import repair_published
from promptreel.tables.manifest import Manifest, newest_manifest, read_manifest
from promptreel.tables.request import read_target
from promptreel.tables.resume_settings import SETTINGS_NUMBER, current_request
from promptreel.tables.retry_scope import read_retry
from promptreel.tables.shards import shards_for
from promptreel.tables.stop_signal import request_stop
from promptreel.tables.storage import Storage, open_storage
from promptreel.transforms.context import RunContext


def execute_run(
    data_root: str,
    run_id: str,
    runner: str = LOCAL_RUNNER,
    beam_options: Sequence[str] = (),
    retry_id: str | None = None,
    commit_only: str | None = None,
) -> Manifest:
    """Execute or resume a run and return the manifest that it committed.

    Args:
        retry_id: execute only this retry.
        commit_only: why no new work may start: stored results are committed and the rest fails as `interrupted`.

    Raises:
        SettingsError: credentials for a model of the run are missing.
        RunNotFound: the run does not exist.
        RunError: another process is working on the run.
        StorageError: storage is unavailable.
    """
    storage = open_storage(data_root)
    request, settings_number = current_request(storage, run_id)
    check_access(request.settings)
    target = read_target(storage, run_id)
    with runner_lock(storage, run_id):
        repair_published(storage, run_id)  # an earlier attempt may have died after its commit
        attempt = begin_attempt(storage, run_id, {"ffmpeg": _ffmpeg_in_use(), SETTINGS_NUMBER: settings_number})
        spent = read_spent(storage, run_id)
        limit_s = request.settings.calls.run_deadline_s
        context = RunContext(
            data_root=storage.root,
            request=request,
            attempt=attempt,
            shards=shards_for(len(target)),
            deadline=None if limit_s is None else time.time() + limit_s,
            spent_tokens=spent.tokens,
            spent_nanos=total_nanos(spent.money),
            distributed=not is_local(runner),
            retry=read_retry(storage, run_id, retry_id) if retry_id is not None else None,
            commit_only=commit_only,
        )
        context.progress(storage).add(**spent.money)  # money so far is that of the run, not of the attempt
        from promptreel.pipelines.interim_commits import interim_commits
        from promptreel.pipelines.prompt_run import PromptRun
        from promptreel.pipelines.prompt_run_retry import PromptRunRetry

        pipeline = create_pipeline(runner, beam_options)
        if context.retry is not None:
            pipeline | "PromptRunRetry" >> PromptRunRetry(context, target)
        else:
            pipeline | "PromptRun" >> PromptRun(context, target)
        with interim_commits(storage, context):
            pipeline.run().wait_until_finish()
        context.progress(storage).flush()
        return _committed(storage, run_id, attempt)


def _ffmpeg_in_use() -> dict[str, str]:
    """The ffmpeg of this machine, recorded with the attempt because builds differ slightly in how they decode a file."""
    try:
        found = find_ffmpeg()
        return {"version": found.version, "source": found.source}
    except MediaError as error:
        return {"error": error.message}  # each item fails with this message


def _committed(storage: Storage, run_id: str, attempt: int) -> Manifest:
    """The manifest of an attempt. On an object store a later attempt may have committed after it."""
    manifest = newest_manifest(storage, run_id)
    while manifest is not None and manifest.attempt > attempt and manifest.number > 1:
        manifest = read_manifest(storage, run_id, manifest.number - 1)
    if manifest is None or manifest.attempt != attempt:
        raise ExpectedError(f"run {run_id}: the pipeline ended without committing; see the run's log")
    return manifest


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line of the process."""
    parser = argparse.ArgumentParser(
        prog="python -m promptreel.pipelines.runner",
        description=__doc__.splitlines()[0],
        allow_abbrev=False,  # a prefix of our options may be a Beam option
    )
    parser.add_argument("--data-dir", required=True, help="data folder: a path or an fsspec URL")
    parser.add_argument("--run-id", required=True)
    parser.add_argument("--retry-id", help="execute only this retry of the finished run")
    parser.add_argument("--commit-only", metavar="REASON", help="start no new work; commit the stored results")
    parser.add_argument("--runner", default=LOCAL_RUNNER, help="Beam runner (default: %(default)s)")
    parser.add_argument(
        "--stop-with-parent",
        action="store_true",
        help="stop the run when standard input ends, i.e. when the parent process is gone",
    )
    known, beam_options = parser.parse_known_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    storage = open_storage(known.data_dir)

    def stop(signal_number: int, frame: object) -> None:
        request_stop(storage, known.run_id, f"signal {signal.Signals(signal_number).name}")

    if known.stop_with_parent:
        watch = threading.Thread(target=_stop_at_end_of_input, args=(storage, known.run_id), daemon=True)
        watch.start()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        execute_run(known.data_dir, known.run_id, known.runner, beam_options, known.retry_id, known.commit_only)
    except ExpectedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        logging.getLogger(__name__).exception("the run ended with an error")
        print(f"error: {_plain_message(error)}", file=sys.stderr)
        return 1
    return 0


def _stop_at_end_of_input(storage: Storage, run_id: str) -> None:
    while os.read(0, 1024):
        pass
    request_stop(storage, run_id, "parent process exited")


def _plain_message(error: BaseException) -> str:
    """The message of the root cause, without the step name that Beam appends."""
    while error.__cause__ is not None:
        error = error.__cause__
    return re.sub(r" \[while running '.*'\]", "", str(error) or type(error).__name__)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads left behind by Beam would keep the process alive
