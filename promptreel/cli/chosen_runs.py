"""The runs that a command reads: the named ones, or the newest that is not damaged."""

from __future__ import annotations

from collections.abc import Iterator

import click

from promptreel.cli.options import command_line
from promptreel.schemas.errors import RunDamaged, RunNotFound
from promptreel.tables.attempts import is_running
from promptreel.tables.interim import newest_readable, reading
from promptreel.tables.part_files import check_parts
from promptreel.tables.reader import CommittedRun, readable_run
from promptreel.tables.request import iter_run_ids
from promptreel.tables.storage import Storage


def committed_or_newest(storage: Storage, run_id: str | None) -> CommittedRun:
    """Return the named run, or the newest one with tables that is not damaged; say so if it has not ended."""
    if run_id is not None:
        return _with_note(storage, readable_run(storage, run_id))
    run = next(intact_runs(storage, "; reading the run before it"), None)
    if run is None:
        raise RunNotFound(f"no run with tables in {storage.root}; start one with: promptreel run FOLDER")
    return run


def intact_runs(storage: Storage, instead: str = "") -> Iterator[CommittedRun]:
    """Yield the runs with tables, newest first, without damaged ones; say which have not ended or are damaged.

    Args:
        instead: what happens instead of reading a damaged run, for its warning.
    """
    for candidate in iter_run_ids(storage):
        try:
            if newest_readable(storage, candidate) is not None:
                run = readable_run(storage, candidate)
                with reading(run.manifest):
                    check_parts(storage, run.manifest)
                yield _with_note(storage, run)
        except RunDamaged as error:
            click.echo(f"warning: {error}{instead}", err=True)


def _with_note(storage: Storage, run: CommittedRun) -> CommittedRun:
    """Print that a run has not ended, so that its tables contain only what is finished so far."""
    if run.manifest.is_interim:
        counts = run.manifest.counts
        total = counts.get("segments.total", 0)
        finished = total - counts.get("segments.pending", 0) - counts.get("segments.processing", 0)
        if is_running(storage, run.run_id):
            state = "in progress"
        else:
            state = f"interrupted (continue it with: {command_line(storage, 'run', '--resume', run.run_id)})"
        click.echo(f"run {run.run_id} is {state}: {finished} of {total} segments so far", err=True)
    return run
