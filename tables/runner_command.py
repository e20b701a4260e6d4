"""The command line that starts a runner process, used by both the CLI and the service."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from promptreel.tables.storage import Storage

RUNNER_MODULE: Final = "promptreel.pipelines.runner"


def runner_command(
    storage: Storage,
    run_id: str,
    *,
    retry_id: str | None = None,
    commit_only: str | None = None,
    runner: str | None = None,
    stop_with_parent: bool = False,
    beam_options: Sequence[str] = (),
) -> list[str]:
    """Build the arguments of the command, for this Python interpreter.

    `-P` keeps the working directory off the import path, so a user's `promptreel.py` or `numpy.py` cannot shadow a package.

    Args:
        retry_id: the retry to execute; None for the run itself.
        commit_only: why the runner must not start new work; see `RunContext`.
        runner: Beam runner; None for the local one.
        stop_with_parent: stop the run when standard input ends.
        beam_options: in Beam's syntax, e.g. "--project=p".
    """
    command = [sys.executable, "-P", "-m", RUNNER_MODULE, "--data-dir", storage.root, "--run-id", run_id]
    if retry_id is not None:
        command += ["--retry-id", retry_id]
    if commit_only is not None:
        command += ["--commit-only", commit_only]
    if runner is not None:
        command += ["--runner", runner]
    if stop_with_parent:
        command.append("--stop-with-parent")
    return [*command, *beam_options]
