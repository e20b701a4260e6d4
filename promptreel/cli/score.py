"""`promptreel score`: score runs against labelled values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from promptreel.cli.label_options import label_filters, labels_of
from promptreel.cli.options import data_dir_option, json_option, open_data_dir
from promptreel.cli.output import print_json, print_note, print_table
from promptreel.schemas.errors import InvalidInput, RunDamaged, RunNotFound
from promptreel.schemas.mediatime import format_timecode
from promptreel.schemas.run_labels import NO_LABELS, RunLabels
from promptreel.tables.item_names import shown_names
from promptreel.tables.manifest import newest_manifest
from promptreel.tables.reader import CommittedRun, committed_run, read_rows
from promptreel.tables.request import iter_run_ids, read_request
from promptreel.tables.scoring.labels import read_labels
from promptreel.tables.scoring.measures import MEASURES, Measure
from promptreel.tables.scoring.scores import DEFAULT_TOLERANCE, FieldScore, RunScore, Scores, score_runs
from promptreel.tables.storage import Storage

_FIGURES = {
    "mean_absolute_error": "MAE",
    "mean_relative_error": "relative error",
    "max_absolute_error": "max. error",
    "precision": "precision",
    "recall": "recall",
}


@click.command()
@click.argument("run_ids", nargs=-1, metavar="[RUN_ID]...")
@click.option(
    "--labels",
    "file",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Labelled values: a .csv, .jsonl or .parquet file.",
)
@click.option(
    "--measure",
    "measures",
    multiple=True,
    metavar="FIELD=MEASURE",
    help=f"Measure of a field: {', '.join(MEASURES)}; repeatable. [default: by the field's type]",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    default=DEFAULT_TOLERANCE,
    show_default=True,
    metavar="SHARE",
    help="Largest relative error of a number that counts as correct.",
)
@click.option("--values", "with_values", is_flag=True, help="Show every labelled value with its answer and score.")
@label_filters
@data_dir_option
@json_option
def score(
    run_ids: tuple[str, ...],
    file: Path,
    measures: tuple[str, ...],
    tolerance: float,
    with_values: bool,
    run_name: str | None,
    tags: tuple[str, ...],
    data_dir: str,
    as_json: bool,
) -> None:
    """Score runs against a file of labelled values, field by field, and compare them.

    Without RUN_ID, all finished runs with the given --name and --tag are scored; without these, the newest run. Several runs
    are scored on the labels that all of them cover.
    """
    storage = open_data_dir(data_dir)
    chosen = _parse_measures(measures)
    runs = _runs(storage, run_ids, labels_of(run_name, tags))
    scores = score_runs(storage, runs, read_labels(file), chosen, tolerance)
    if as_json:
        print_json(scores.to_dict(with_values=with_values))
        return
    if len(runs) == 1:
        _print_run(scores.runs[0], err=with_values)
    else:
        _print_comparison(scores, err=with_values)
    if with_values:
        _print_values(storage, scores)
    for run in scores.runs:
        for reason, count in run.unmatched.items():
            print_note(f"{run.run.run_id}: {count} labels not scored: {reason}")
    print_note(f"scored {scores.common} of {scores.labels} labels")


def _parse_measures(texts: Sequence[str]) -> dict[str, Measure]:
    """Parse the values of `--measure`.

    Raises:
        InvalidInput: a value is not FIELD=MEASURE, or the measure is unknown.
    """
    measures: dict[str, Measure] = {}
    for text in texts:
        field, separator, name = text.rpartition("=")
        measure = next((known for known in MEASURES if known == name), None)
        if not separator or not field or measure is None:
            raise InvalidInput(f"--measure is {text!r}; give FIELD=MEASURE with one of {', '.join(MEASURES)}")
        measures[field] = measure
    return measures


def _runs(storage: Storage, run_ids: Sequence[str], wanted: RunLabels) -> list[CommittedRun]:
    """Load the runs to score.

    Raises:
        InvalidInput: runs and a filter are given.
        RunNotFound: no finished run fits.
    """
    if run_ids:
        if wanted != NO_LABELS:
            raise InvalidInput("give either RUN_ID or --name and --tag, not both")
        return [committed_run(storage, run_id) for run_id in dict.fromkeys(run_ids)]
    found = []
    for run_id in iter_run_ids(storage):
        try:
            if newest_manifest(storage, run_id) is not None and read_request(storage, run_id).labels.matches(wanted):
                found.append(committed_run(storage, run_id))
        except RunDamaged as error:
            click.echo(f"warning: {error}", err=True)
        if found and wanted == NO_LABELS:
            break
    if not found:
        raise RunNotFound(f"no finished run fits in {storage.root}; list runs with: promptreel runs")
    return found


def _print_run(run: RunScore, *, err: bool) -> None:
    cells = [
        [
            part.field,
            part.level,
            part.measure,
            part.labels,
            part.unanswered,
            _share(part.figures["score"]),
            _details(part),
        ]
        for part in run.fields
    ]
    cells.append(["mean of fields", "", "", "", "", _share(run.score), ""])
    columns = ["field", "level", "measure", "labels", "unanswered", "score", "details"]
    print_table(f"Scores of {_title(run)}", columns, cells, err=err)


def _print_comparison(scores: Scores, *, err: bool) -> None:
    by_run = [{(part.level, part.field): part for part in run.fields} for run in scores.runs]
    cells: list[list[Any]] = []
    for key in dict.fromkeys(key for fields in by_run for key in fields):
        parts = [fields.get(key) for fields in by_run]
        first = next(part for part in parts if part is not None)
        shown = ["" if part is None else _share(part.figures["score"]) for part in parts]
        cells.append([first.field, first.level, first.measure, first.labels, *shown])
    cells.append(["mean of fields", "", "", "", *(_share(run.score) for run in scores.runs)])
    titles = [_title(run) for run in scores.runs]
    print_table("Scores", ["field", "level", "measure", "labels", *titles], cells, err=err)


def _print_values(storage: Storage, scores: Scores) -> None:
    """Print every label with its answer; of several runs, with the run."""
    cells = []
    for run in scores.runs:
        names = shown_names(read_rows(storage, run.run, "media"))
        for part in run.fields:
            for value in part.values:
                item, time = names[value.position.video_id], _time(value.position.start_us)
                score = _share(value.comparison.score)
                cells.append([_title(run), value.row, part.field, item, time, value.expected, value.answer, score])
    columns = ["run", "row", "field", "item", "time", "expected", "answer", "score"]
    if len(scores.runs) == 1:
        columns, cells = columns[1:], [row[1:] for row in cells]
    print_table("Values", columns, cells)


def _title(run: RunScore) -> str:
    prompt = run.run.prompt.name
    version = "" if run.run.prompt_version is None else f" v{run.run.prompt_version}"
    return f"{run.run.labels.name or run.run.run_id} ({prompt}{version}, {run.model})"


def _details(part: FieldScore) -> str:
    figures = ((label, part.figures.get(name)) for name, label in _FIGURES.items())
    return ", ".join(f"{label} {value:.3g}" for label, value in figures if value is not None)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _time(start_us: int | None) -> str:
    return "" if start_us is None else format_timecode(start_us)
