"""`promptreel search`: find words in the answers and transcripts of runs."""

from __future__ import annotations

from dataclasses import asdict

import click

from promptreel.cli.chosen_runs import committed_or_newest, intact_runs
from promptreel.cli.options import data_dir_option, json_option, open_data_dir
from promptreel.cli.output import print_json, print_table
from promptreel.schemas.errors import InvalidInput
from promptreel.schemas.mediatime import format_timecode
from promptreel.tables.text_search import TextHit, search_text


@click.command()
@click.argument("text")
@click.argument("run_ids", nargs=-1, metavar="[RUN]...")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Maximum number of hits.")
@data_dir_option
@json_option
def search(text: str, run_ids: tuple[str, ...], limit: int, data_dir: str, as_json: bool) -> None:
    """Find the answers, transcripts and syntheses that contain all words of TEXT.

    Reads all runs, newest first, or the given ones. This compares letters: it finds no synonyms and does not rank. The
    search of `promptreel serve` does both.
    """
    storage = open_data_dir(data_dir)
    words = text.split()
    if not words:
        raise InvalidInput("TEXT has no words; give at least one")
    runs = (committed_or_newest(storage, run_id) for run_id in run_ids) if run_ids else intact_runs(storage)
    hits: list[TextHit] = []
    for run in runs:
        hits += search_text(storage, run, words, limit - len(hits))
        if len(hits) == limit:
            break
    if as_json:
        print_json([asdict(hit) for hit in hits])
        return
    columns = ["run", "media", "time", "table", "text"]
    print_table(f"{len(hits)} {'hit' if len(hits) == 1 else 'hits'}", columns, map(_cells, hits))


def _cells(hit: TextHit) -> list[str]:
    times = ""
    if hit.start_us is not None and hit.end_us is not None:
        times = f"{format_timecode(hit.start_us)}–{format_timecode(hit.end_us)}"
    return [hit.run_id, hit.name, times, hit.source, hit.excerpt]
