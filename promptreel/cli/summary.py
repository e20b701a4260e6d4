"""Summary of a finished run: status, media, segments with times, some results, failures, and next commands."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections import Counter
from dataclasses import asdict
from typing import Any

import click

from promptreel.cli.options import command_line
from promptreel.cli.output import print_table, setting_text
from promptreel.schemas.mediatime import format_timecode
from promptreel.schemas.money import format_money, money_of
from promptreel.tables.item_names import shown_names
from promptreel.tables.layout import run_folder
from promptreel.tables.reader import committed_run, read_rows
from promptreel.tables.request import read_request
from promptreel.tables.resume_settings import newest_number, read_changes
from promptreel.tables.storage import LocalStorage, Storage

_MAX_MEDIA_SHOWN = 20
_MAX_SEGMENTS_SHOWN = 20
_MAX_FAILURES_SHOWN = 10


def summary_of(storage: Storage, run_id: str) -> dict[str, Any]:
    """Return the summary of a committed run as JSON values."""
    run = committed_run(storage, run_id)
    manifest = run.manifest
    sample = read_request(storage, run_id).settings.sample
    return {
        "run_id": run_id,
        "status": manifest.status,
        "error_message": manifest.error_message,
        "prompt": run.prompt.name,
        "manifest": manifest.number,
        "folder": f"{storage.root}/{run_folder(run_id)}",
        "sample": None if sample is None else asdict(sample),
        "changed_settings": read_changes(storage, run_id, newest_number(storage, run_id)),
        "counts": dict(manifest.counts),
        "cost": money_of(manifest.counts).to_dict(),
        "warnings": list(manifest.warnings),
        "media": read_rows(storage, run, "media"),
        "failures": read_rows(storage, run, "failures"),
    }


def print_summary(storage: Storage, summary: dict[str, Any]) -> None:
    """Print the summary as text."""
    run = committed_run(storage, summary["run_id"])
    counts = summary["counts"]
    names = shown_names(summary["media"])
    _print_media(summary["media"])
    _print_segments(storage, run, names)
    _print_failures(summary["failures"])
    reused = counts.get("results.reused", 0) + counts.get("video_results.reused", 0)
    click.echo(f"\nrun      {summary['run_id']}: {summary['status']}")
    if summary["error_message"]:
        click.echo(f"error    {summary['error_message']}")
    if sample := summary["sample"]:
        click.echo(f"sample   {sample['count']} {sample['unit']} of the target, seed {sample['seed']}")
    copies = sum(len(row["other_uris"]) for row in summary["media"])
    if copies:
        click.echo(f"copies   {copies} files are copies of others and share their items")
    click.echo(
        f"media    {_outcomes(counts, 'media', ('completed', 'partial', 'failed', 'cancelled'))}\n"
        f"segments {_outcomes(counts, 'segments', ('succeeded', 'failed', 'cancelled'))}\n"
        f"results  {counts.get('results.total', 0)} for segments, {counts.get('video_results.total', 0)} for items; "
        f"{reused} reused from earlier runs"
    )
    if changed := summary["changed_settings"]:
        shown = ", ".join(f"{path} {setting_text(value)}" for path, value in changed.items())
        click.echo(f"settings {shown} (changed by a resume)")
    for warning in summary["warnings"]:
        click.echo(f"warning  {warning}")
    if flawed := Counter(code for row in summary["media"] for code in row["warning_codes"]):
        codes = ", ".join(f"{code} ({count})" for code, count in flawed.most_common())
        click.echo(f"warning  media with warnings: {codes}; see the column `warnings` of the table media")
    if counts.get("calls.total"):
        click.echo(
            f"calls    {_outcomes(counts, 'calls', ('success', 'error', 'interrupted'))}; tokens "
            f"{counts.get('tokens.input', 0):,} in, {counts.get('tokens.output', 0) + counts.get('tokens.thought', 0):,} out"
        )
    if (cost := format_money(money_of(counts))) is not None:
        click.echo(f"cost     {cost}")
    click.echo(f"tables   {summary['folder']}/tables (named by manifest {summary['manifest']})")
    _print_next(storage, summary)


def _print_media(media: list[dict[str, Any]]) -> None:
    rows = [
        [row["name"], row["media_type"], row["status"], _length(row), row["segment_count"], "; ".join(row["warnings"])]
        for row in media[:_MAX_MEDIA_SHOWN]
    ]
    columns = ["name", "type", "status", "length", "segments", "warnings"]
    print_table(_title("Media", len(rows), len(media)), columns, rows, in_report=True)


def _print_segments(storage: Storage, run: Any, names: dict[str, str]) -> None:
    segments = read_rows(storage, run, "segments", limit=_MAX_SEGMENTS_SHOWN)
    shown = [row["segment_id"] for row in segments]
    found = read_rows(storage, run, "results", "list_contains($shown, segment_id)", shown=shown)
    results = {row["segment_id"]: row for row in found}
    rows = [
        [
            names[row["video_id"]],
            f"{format_timecode(row['start_us'])}–{format_timecode(row['end_us'])}",
            f"{row['start_reason']}–{row['end_reason']}",
            row["status"],
            (results.get(row["segment_id"]) or {}).get("metadata_text", "").replace("\n", "; "),
        ]
        for row in segments
    ]
    if rows:
        title = _title("Segments", len(rows), run.manifest.rows_of("segments"))
        print_table(title, ["media", "time", "boundaries", "status", "result"], rows, in_report=True)


def _print_failures(failures: list[dict[str, Any]]) -> None:
    rows = [
        [row["name"], row["operation"], row["code"], "yes" if row["retryable"] else "no", row["message"]]
        for row in failures[:_MAX_FAILURES_SHOWN]
    ]
    if rows:
        columns = ["media", "operation", "code", "retryable", "message"]
        print_table(_title("Failures", len(rows), len(failures)), columns, rows, in_report=True)


def _print_next(storage: Storage, summary: dict[str, Any]) -> None:
    run_id = summary["run_id"]
    click.echo("\nnext:")
    if summary["status"] == "cancelled" or any(row["retryable"] for row in summary["failures"]):
        click.echo(f"  {command_line(storage, 'run', '--resume', run_id)}")
    if summary["failures"]:
        click.echo(f"  {command_line(storage, 'failures', run_id)}")
    click.echo(f"  {command_line(storage, 'results', run_id)}")
    click.echo(f"  {command_line(storage, 'sql', 'SELECT * FROM fields LIMIT 5', '--run', run_id)}")
    if isinstance(storage, LocalStorage):
        click.echo(f"  {_duckdb_command(summary['folder'])}      # works without promptreel")


def _duckdb_command(folder: str) -> str:
    """Return a command that opens the run's views in the DuckDB shell if it is installed, otherwise in Python."""
    file = f"{folder}/tables.sql"
    if shutil.which("duckdb"):
        return shlex.join(["duckdb", "-init", file])
    script = f"import duckdb; duckdb.execute(open({file!r}).read()); print(duckdb.sql('FROM fields LIMIT 5'))"
    return shlex.join([sys.executable, "-c", script])


def _outcomes(counts: dict[str, int], group: str, names: tuple[str, ...]) -> str:
    parts = [f"{counts[f'{group}.{name}']} {name}" for name in names if counts.get(f"{group}.{name}")]
    return f"{counts.get(f'{group}.total', 0)}" + (f" ({', '.join(parts)})" if parts else "")


def _length(row: dict[str, Any]) -> str:
    return "" if row["duration_us"] is None else format_timecode(row["duration_us"])


def _title(name: str, shown: int, total: int) -> str:
    return name if shown == total else f"{name} (first {shown} of {total})"
