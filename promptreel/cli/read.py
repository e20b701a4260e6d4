"""`promptreel runs`, `results`, `failures` and `sql`: read committed tables; no service or runner is needed."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import click

from promptreel.cli.chosen_runs import committed_or_newest, intact_runs
from promptreel.cli.label_options import label_filters, labels_of
from promptreel.cli.options import command_line, data_dir_option, json_option, open_data_dir
from promptreel.cli.output import print_json, print_note, print_table
from promptreel.cli.result_notes import segments_without_result, with_segment_warnings
from promptreel.schemas.errors import InvalidInput, RunDamaged
from promptreel.schemas.mediatime import format_timecode
from promptreel.schemas.money import Money, format_money, money_of
from promptreel.schemas.run_labels import RunLabels
from promptreel.tables.analyst_views import connect_views
from promptreel.tables.current_views import CURRENT_FIELDS, CURRENT_RESULTS
from promptreel.tables.export import EXPORT_FORMATS, export_rows
from promptreel.tables.interim import newest_readable
from promptreel.tables.item_names import names_of, shown_names
from promptreel.tables.json_values import json_value
from promptreel.tables.manifest import Manifest
from promptreel.tables.progress import read_progress
from promptreel.tables.reader import query, read_rows
from promptreel.tables.request import iter_run_ids, read_request
from promptreel.tables.run_status import run_status
from promptreel.tables.storage import Storage

_DEFAULT_ROWS = 50
_DEFAULT_SQL_ROWS = 1000
_CURRENT = re.compile(rf"\b({CURRENT_RESULTS}|{CURRENT_FIELDS})\b", re.IGNORECASE)


@click.command()
@click.option(
    "--limit", type=click.IntRange(1), default=_DEFAULT_ROWS, show_default=True, help="Maximum number of runs."
)
@label_filters
@click.option("--prompt", "prompt_name", metavar="NAME", help="Show only runs of prompts with this name.")
@data_dir_option
@json_option
def runs(
    limit: int, run_name: str | None, tags: tuple[str, ...], prompt_name: str | None, data_dir: str, as_json: bool
) -> None:
    """List runs, newest first."""
    storage = open_data_dir(data_dir)
    wanted = labels_of(run_name, tags)
    found = (run_id for run_id in iter_run_ids(storage) if _is_shown(storage, run_id, wanted, prompt_name))
    listed = [_run_row(storage, run_id) for run_id in islice(found, limit)]
    for row in listed:
        if row["damage"] is not None:
            click.echo(f"run {row['run_id']} is damaged: {row['damage']}", err=True)
    if as_json:
        print_json(listed)
        return
    columns = ["run_id", "status", "prompt", "model", "media", "results", "failures", "cost", "warnings", "created_at"]
    columns[1:1] = [label for label in ("name", "tags") if any(row[label] for row in listed)]
    shown = [
        {
            **row,
            "warnings": len(row["warnings"]),
            "cost": format_money(Money(**row["cost"])),
            "tags": ", ".join(f"{key}={value}" for key, value in sorted(row["tags"].items())),
            "prompt": f"{row['prompt']} v{row['prompt_version']}" if row["prompt_version"] else row["prompt"],
        }
        for row in listed
    ]
    print_table("Runs", columns, ([row[column] for column in columns] for row in shown))
    for row in listed:
        for warning in row["warnings"]:
            print_note(f"warning: {row['run_id']}: {warning}")


@click.command()
@click.argument("run_id", required=False)
@click.option("--media", metavar="NAME|ID", help="Show only this item.")
@click.option(
    "--limit", type=click.IntRange(1), default=_DEFAULT_ROWS, show_default=True, help="Maximum number of results."
)
@click.option("--video-level", is_flag=True, help="Show item syntheses instead of segments.")
@data_dir_option
@json_option
def results(run_id: str | None, media: str | None, limit: int, video_level: bool, data_dir: str, as_json: bool) -> None:
    """Show the results of RUN_ID (default: the newest run)."""
    storage = open_data_dir(data_dir)
    run = committed_or_newest(storage, run_id)
    items = read_rows(storage, run, "media")
    names = {row["video_id"]: row["name"] for row in items}
    shown = shown_names(items)
    selected = [row["video_id"] for row in items if media is None or media in names_of(row)]
    if not selected:
        raise InvalidInput(f"no media {media!r} in run {run.run_id}; it has {', '.join(sorted(names.values())[:10])}")
    table = "video_results" if video_level else "results"
    rows = read_rows(storage, run, table, "list_contains($selected, video_id)", limit, selected=selected)
    rows = with_segment_warnings(storage, run, rows)
    if as_json:
        print_json([_result_json(row, names) for row in rows])
        return
    if video_level:
        columns = ["media", "covers", "result", "warning"]
        cells = [
            [shown[r["video_id"]], f"{r['covered_segments']} of {r['segment_count']}", _line(r), r["warning"]]
            for r in rows
        ]
    else:
        columns = ["media", "time", "result", "warning"]
        cells = [[shown[r["video_id"]], _times(r), _line(r), r["warning"]] for r in rows]
    print_table(f"Results of {run.run_id}", columns, cells)
    if missing := segments_without_result(storage, run, selected):
        print_note(missing)


@click.command()
@click.argument("run_id", required=False)
@data_dir_option
@json_option
def failures(run_id: str | None, data_dir: str, as_json: bool) -> None:
    """Show what failed in RUN_ID (default: the newest run), why, and whether a resume may fix it."""
    storage = open_data_dir(data_dir)
    run = committed_or_newest(storage, run_id)
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
        resume = command_line(storage, "run", "--resume", run.run_id)
        print_note(f"retry the retryable failures: {resume}")


@click.command()
@click.argument("statement")
@click.option(
    "--run",
    "run_ids",
    multiple=True,
    metavar="RUN_ID",
    help="Run to read; repeatable. [default: the newest; all if the query names a current_ view]",
)
@click.option("--limit", type=click.IntRange(1), help="Maximum number of rows. [default: 1000; all with --out]")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help=f"Write the rows to a file instead: {', '.join(EXPORT_FORMATS)}.",
)
@data_dir_option
@json_option
def sql(
    statement: str, run_ids: tuple[str, ...], limit: int | None, out: Path | None, data_dir: str, as_json: bool
) -> None:
    """Query the tables with one SELECT statement in DuckDB SQL.

    \b
    Tables: media, segments (with the prompt's fields), results, transcripts, utterances, frames, video_results,
            failures, llm_calls.
    Views:  fields (the run's prompt fields, one typed column each), also available under the run's ID;
            current_results and current_fields (the newest answer of each segment, for each prompt, across runs).
    """
    storage = open_data_dir(data_dir)
    if not run_ids and _CURRENT.search(statement):
        selected = list(intact_runs(storage))
    else:
        selected = [committed_or_newest(storage, run_id) for run_id in run_ids or (None,)]
    with connect_views(storage, selected) as connection:
        if out is not None:
            count = export_rows(connection, statement, out, limit)
            if as_json:
                print_json({"file": str(out), "rows": count})
            else:
                click.echo(f"{count} rows in {out}")
            return
        answer = query(connection, statement, limit or _DEFAULT_SQL_ROWS)
    if as_json:
        print_json(json_value(answer.to_pylist()))
        return
    print_table(f"{answer.num_rows} rows", answer.column_names, (list(row.values()) for row in answer.to_pylist()))


def _is_shown(storage: Storage, run_id: str, wanted: RunLabels, prompt_name: str | None) -> bool:
    """Whether a run passes the filters; a run whose request is not readable passes only if there are none."""
    if wanted == RunLabels() and prompt_name is None:
        return True
    try:
        request = read_request(storage, run_id)
    except RunDamaged:
        return False
    return request.labels.matches(wanted) and prompt_name in (None, request.prompt.name)


def _run_row(storage: Storage, run_id: str) -> dict[str, Any]:
    """Return one row of the list of runs; for a damaged run, only what is readable."""
    request, manifest, damage = None, None, None
    try:
        request = read_request(storage, run_id)
        manifest = newest_readable(storage, run_id)
    except RunDamaged as error:
        damage = f"{error.file} {error.cause}"
    counts = manifest.counts if manifest is not None else {}
    sample = request.settings.sample if request is not None else None
    return {
        "run_id": run_id,
        "status": run_status(storage, run_id, manifest) if damage is None else "damaged",
        "name": request.labels.name if request is not None else None,
        "tags": dict(request.labels.tags) if request is not None else {},
        "prompt": request.prompt.name if request is not None else None,
        "prompt_version": request.prompt_version if request is not None else None,
        "prompt_content_id": request.prompt.prompt_id if request is not None else None,
        "model": request.settings.model.model if request is not None else None,
        "sample": asdict(sample) if sample is not None else None,
        "media": counts.get("media.total"),
        "results": counts.get("results.total"),
        "failures": counts.get("failures.total", 0) if manifest is not None else None,
        "cost": _cost_so_far(storage, run_id, manifest).to_dict(),
        "warnings": list(manifest.warnings) if manifest is not None else [],
        "created_at": request.created_at if request is not None else None,
        "damage": damage,
    }


def _cost_so_far(storage: Storage, run_id: str, manifest: Manifest | None) -> Money:
    """Return the cost of all attempts at a run: of a run that has not ended, from its progress, which is newer."""
    has_ended = manifest is not None and run_status(storage, run_id, manifest) == manifest.status
    counts = manifest.counts if manifest is not None and has_ended else read_progress(storage, run_id)
    return money_of(counts)


def _result_json(row: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    columns = {key: value for key, value in row.items() if key != "fields"}
    return {**columns, "name": names[row["video_id"]], "metadata": json.loads(row["metadata"])}


def _times(row: dict[str, Any]) -> str:
    if row["start_us"] is None:
        return ""
    return f"{format_timecode(row['start_us'])}–{format_timecode(row['end_us'])}"


def _line(row: dict[str, Any]) -> str:
    return str(row["metadata_text"]).replace("\n", "; ")
