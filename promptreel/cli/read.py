"""`promptreel runs`, `results`, `failures` and `sql`: read committed tables, with nothing running."""

from __future__ import annotations

import json
from typing import Any

import click

from promptreel.cli.options import data_dir_option, json_option, open_data_dir
from promptreel.cli.output import print_json, print_table
from schemas.errors import RunNotFound
from schemas.mediatime import format_timecode
from tables.attempts import is_running
from tables.manifest import newest_manifest
from tables.reader import CommittedRun, committed_run, connect, query, read_rows
from tables.request import list_run_ids, read_request
from tables.storage import Storage

_DEFAULT_ROWS = 50


@click.command()
@data_dir_option
@json_option
def runs(data_dir: str, as_json: bool) -> None:
    """List runs, newest first."""
    storage = open_data_dir(data_dir)
    listed = [_run_row(storage, run_id) for run_id in list_run_ids(storage)]
    if as_json:
        print_json(listed)
        return
    columns = ["run_id", "status", "prompt", "model", "media", "results", "failures", "created_at"]
    print_table("Runs", columns, ([row[column] for column in columns] for row in listed))


@click.command()
@click.argument("run_id", required=False)
@click.option("--media", metavar="NAME|ID", help="Only results of this item.")
@click.option("--limit", type=click.IntRange(1), default=_DEFAULT_ROWS, show_default=True)
@click.option("--video-level", is_flag=True, help="The syntheses of whole items instead of segments.")
@data_dir_option
@json_option
def results(run_id: str | None, media: str | None, limit: int, video_level: bool, data_dir: str, as_json: bool) -> None:
    """Show the results of RUN_ID (the newest run without one)."""
    storage = open_data_dir(data_dir)
    run = _committed(storage, run_id)
    names = {row["video_id"]: row["name"] for row in read_rows(storage, run, "media")}
    rows = read_rows(storage, run, "video_results" if video_level else "results")
    if media is not None:
        rows = [row for row in rows if media in (row["video_id"], names[row["video_id"]])]
    rows = rows[:limit]
    if as_json:
        print_json([_result_json(row, names) for row in rows])
        return
    if video_level:
        columns = ["media", "covers", "result", "warning"]
        cells = [
            [names[r["video_id"]], f"{r['covered_segments']} of {r['segment_count']}", _line(r), r["warning"]]
            for r in rows
        ]
    else:
        columns = ["media", "time", "result", "warning"]
        cells = [[names[r["video_id"]], _times(r), _line(r), r["warning"]] for r in rows]
    print_table(f"Results of {run.run_id}", columns, cells)


@click.command()
@click.argument("run_id", required=False)
@data_dir_option
@json_option
def failures(run_id: str | None, data_dir: str, as_json: bool) -> None:
    """Show what failed in RUN_ID (the newest run without one), why, and whether a resume may mend it."""
    storage = open_data_dir(data_dir)
    run = _committed(storage, run_id)
    rows = read_rows(storage, run, "failures")
    if as_json:
        print_json(rows)
        return
    cells = [
        [
            r["name"],
            _times(r),
            r["operation"],
            r["code"],
            "yes" if r["retryable"] else "no",
            r["attempts"],
            r["message"],
        ]
        for r in rows
    ]
    print_table(
        f"Failures of {run.run_id}", ["media", "time", "operation", "code", "retryable", "attempts", "message"], cells
    )
    if any(row["retryable"] for row in rows):
        click.echo(f"try the retryable ones again, and nothing else: promptreel run --resume {run.run_id}")


@click.command()
@click.argument("statement")
@click.option(
    "--run",
    "run_ids",
    multiple=True,
    metavar="RUN_ID",
    help="Read this run; several times for several. [default: the newest]",
)
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="Most rows.")
@data_dir_option
@json_option
def sql(statement: str, run_ids: tuple[str, ...], limit: int, data_dir: str, as_json: bool) -> None:
    """Ask the tables with one SELECT in DuckDB's SQL.

    \b
    Tables: media, segments, results, transcripts, frames, video_results, failures, llm_calls.
    Views:  fields (the run's prompt fields, one typed column each), and the same under the run's id.
    """
    storage = open_data_dir(data_dir)
    chosen = [_committed(storage, run_id) for run_id in run_ids or (None,)]
    with connect(storage, chosen) as connection:
        answer = query(connection, statement, limit)
    if as_json:
        print_json(answer.to_pylist())
        return
    print_table(f"{answer.num_rows} rows", answer.column_names, (list(row.values()) for row in answer.to_pylist()))


def _committed(storage: Storage, run_id: str | None) -> CommittedRun:
    """The named run, or the newest that has committed."""
    if run_id is not None:
        return committed_run(storage, run_id)
    for candidate in list_run_ids(storage):
        if newest_manifest(storage, candidate) is not None:
            return committed_run(storage, candidate)
    raise RunNotFound(f"no run with tables in {storage.root}; start one with: promptreel run FOLDER")


def _run_row(storage: Storage, run_id: str) -> dict[str, Any]:
    request = read_request(storage, run_id)
    manifest = newest_manifest(storage, run_id)
    counts = manifest.counts if manifest is not None else {}
    status = "running" if is_running(storage, run_id) else manifest.status if manifest is not None else "interrupted"
    return {
        "run_id": run_id,
        "status": status,
        "prompt": request.prompt.name,
        "model": request.settings.model.model,
        "media": counts.get("media.total"),
        "results": counts.get("results.total"),
        "failures": counts.get("failures.total", 0) if manifest is not None else None,
        "created_at": request.created_at,
    }


def _result_json(row: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    kept = {key: value for key, value in row.items() if key != "fields"}
    return {**kept, "name": names[row["video_id"]], "metadata": json.loads(row["metadata"])}


def _times(row: dict[str, Any]) -> str:
    if row["start_us"] is None:
        return ""
    return f"{format_timecode(row['start_us'])}–{format_timecode(row['end_us'])}"


def _line(row: dict[str, Any]) -> str:
    return str(row["metadata_text"]).replace("\n", "; ")
