"""`promptreel report`: write a run as one HTML file that opens without a server or a network."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from promptreel.cli.chosen_runs import committed_or_newest
from promptreel.cli.options import data_dir_option, json_option, open_data_dir
from promptreel.cli.output import print_json
from promptreel.pages.report import WrittenReport, write_report
from promptreel.schemas.errors import StateExpired
from promptreel.tables.reader import CommittedRun, readable_run
from promptreel.tables.storage import Storage

_ATTEMPTS: Final = 3  # reads of a run in progress whose state is replaced meanwhile


@click.command()
@click.argument("run_id", required=False)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default="report.html",
    show_default=True,
    metavar="FILE",
    help="File to write; a large run becomes a folder of pages with this name without its suffix.",
)
@data_dir_option
@json_option
def report(run_id: str | None, out: Path, data_dir: str, as_json: bool) -> None:
    """Write RUN_ID (default: the newest run) as an HTML page: summary, timelines, fields, pictures, failures and cost.

    The file contains its pictures and loads nothing, so it can be sent by mail.
    """
    storage = open_data_dir(data_dir)
    written = report_of(storage, committed_or_newest(storage, run_id), out)
    if as_json:
        print_json({"file": str(written.path), "files": written.files, "bytes": written.size_bytes})
    else:
        click.echo(f"report   {report_text(written)}")


def report_of(storage: Storage, run: CommittedRun, out: Path) -> WrittenReport:
    """Write the report of a run. If the run is in progress and its state is replaced meanwhile, read the new one.

    Raises:
        InvalidInput: the report cannot be written to `out`.
        RunDamaged: a file of the run is missing or truncated.
        StateExpired: every attempt read a state that was replaced.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return write_report(storage, run, out)
        except StateExpired:
            run = readable_run(storage, run.run_id)
    return write_report(storage, run, out)


def report_text(written: WrittenReport) -> str:
    """Name the file of a report, and its number of files and size."""
    files = "" if written.files == 1 else f"{written.files} files, "
    return f"{written.path} ({files}{written.size_bytes / 1e6:.2f} MB)"
