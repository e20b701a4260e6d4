"""`promptreel show`: one item of a run as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import click

from promptreel.cli.chosen_runs import committed_or_newest
from promptreel.cli.options import data_dir_option, json_option, open_data_dir
from promptreel.cli.output import print_json, printable
from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.mediatime import format_timecode
from promptreel.schemas.money import format_amount
from promptreel.tables.item_details import ItemDetails, Row, item_details
from promptreel.tables.item_names import find_item
from promptreel.tables.reader import read_rows

_MAX_TEXT_CHARS: Final = 300


@click.command()
@click.argument("run_id", metavar="RUN")
@click.argument("item", metavar="ITEM")
@click.argument("segment", metavar="[SEGMENT]", required=False)
@click.option("--full", is_flag=True, help="Show transcripts, requests and responses completely.")
@data_dir_option
@json_option
def show(run_id: str, item: str, segment: str | None, full: bool, data_dir: str, as_json: bool) -> None:
    """Show ITEM of RUN: facts, segments with their fields and transcripts, synthesis, failures.

    ITEM is a file name, an id, or the start of one. With SEGMENT, the number or the id of a segment, show that segment
    and the model calls behind its answer.
    """
    storage = open_data_dir(data_dir)
    run = committed_or_newest(storage, run_id)
    found = dict(find_item(read_rows(storage, run, "media"), item))
    details = item_details(storage, run, found, segment)
    if as_json:
        print_json(details.to_dict())
        return
    limit = None if full else _MAX_TEXT_CHARS
    for line in _lines(details, limit, is_item=segment is None):
        click.echo(printable(line))


def _lines(details: ItemDetails, limit: int | None, *, is_item: bool) -> Iterator[str]:
    yield from _item_lines(details)
    if is_item:
        yield from _synthesis_lines(details.synthesis)
    for row in details.segments:
        yield from _segment_lines(row, details, limit)
    yield from _failure_lines(details.failures)
    if not is_item:
        yield from _call_lines(details, limit)


def _item_lines(details: ItemDetails) -> Iterator[str]:
    item, run = details.item, details.run
    version = f" v{run.prompt_version}" if run.prompt_version else ""
    yield item["name"]
    size = f"{item['width']}x{item['height']}" if item["width"] else None
    rate = f"{item['frame_rate']:g} frames/s" if item["frame_rate"] else None
    facts = [item["media_type"], item["container"], size, item["video_codec"], rate, item["audio_codec"]]
    outcomes = [f"{item[f'{name}_segments']} {name}" for name in ("succeeded", "failed", "cancelled")]
    entries = {
        "id": item["video_id"],
        "run": f"{run.run_id} (prompt {run.prompt.name}{version})",
        "status": item["status"],
        "media": ", ".join(fact for fact in facts if fact),
        "length": "" if item["duration_us"] is None else format_timecode(item["duration_us"]),
        "source": item["uri"],
        "copies": ", ".join(item["other_uris"]),
        "segments": f"{item['segment_count']} ({', '.join(text for text in outcomes if not text.startswith('0'))})",
        "synthesis": item["synthesis"] or "",
    }
    for name, value in entries.items():
        if value:
            yield f"{name:9}  {value}"
    for warning in item["warnings"]:
        yield f"warning    {warning}"


def _synthesis_lines(row: Row | None) -> Iterator[str]:
    if row is None:
        return
    yield ""
    yield f"Synthesis of {row['covered_segments']} of {row['segment_count']} segments by {_model(row)}"
    yield from _answer_lines(row)


def _segment_lines(row: Row, details: ItemDetails, limit: int | None) -> Iterator[str]:
    times = f"{format_timecode(row['start_us'])}–{format_timecode(row['end_us'])}"
    label = f" {row['segment_label']}" if row["segment_label"] else ""
    yield ""
    yield (
        f"Segment {row['segment_number']}  {times}{label}  {row['status']}  "
        f"from {row['start_reason']} to {row['end_reason']}  {row['segment_id']}"
    )
    result = details.results.get(row["segment_id"])
    if result is not None:
        yield f"  model: {_model(result)}{', reused' if result['reused'] else ''}"
        yield from _answer_lines(result)
    transcript = details.transcripts.get(row["segment_id"])
    if transcript is not None and transcript["text"]:
        yield f"  transcript: {_shortened(transcript['text'], limit)}"
    if row["answered_by_segment_id"]:
        yield f"  near-duplicate of {row['answered_by_segment_id']}, whose call answered for it"
    for warning in row["warnings"] or ():
        yield f"  warning: {warning}"


def _answer_lines(row: Row) -> Iterator[str]:
    for line in row["metadata_text"].splitlines():
        yield f"  {line}"
    if row["warning"]:
        yield f"  warning: {row['warning']}"


def _failure_lines(failures: Any) -> Iterator[str]:
    if failures:
        yield ""
        yield "Failures"
    for row in failures:
        times = "" if row["start_us"] is None else f"{format_timecode(row['start_us'])}  "
        yield f"  {times}{row['operation']}: {row['code']}: {row['message']}"
        if row["code"] in FAILURE_CODES:
            yield f"    fix: {FAILURE_CODES[row['code']].fix}"


def _call_lines(details: ItemDetails, limit: int | None) -> Iterator[str]:
    for row in details.calls:
        cost = "" if row["cost"] is None else f", {format_amount(row['cost'], row['currency'])}"
        yield ""
        yield f"Call {row['llm_call_id']}  {row['purpose']}, attempt {row['attempt']}: {row['status']}"
        yield f"  model: {_model(row)}, {row['duration_ms']} ms, {row['invoked_at']}"
        output = row["output_tokens"] + row["thought_tokens"]
        yield f"  tokens: {row['input_tokens']:,} in, {output:,} out{cost}"
        if row["code"]:
            yield f"  error: {row['code']}: {row['message']}"
        yield f"  request: {_shortened(row['request'], limit)}"
        yield f"  response: {_shortened(row['response_text'] or '', limit)}"
    for call_id in details.earlier_calls:
        yield ""
        yield f"Call {call_id}  in an earlier run, whose answer is reused"


def _model(row: Row) -> str:
    version = row["model_version"]
    return row["model"] if version in (None, row["model"]) else f"{row['model']} ({version})"


def _shortened(text: str, limit: int | None) -> str:
    line = " ".join(text.split())
    return line if limit is None or len(line) <= limit else f"{line[: limit - 1]}… (--full shows all {len(line):,})"
