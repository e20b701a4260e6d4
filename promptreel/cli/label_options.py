"""Options for the name and tags of runs: set by `run`, a filter for `runs`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from promptreel.schemas.run_labels import RunLabels, parse_tags

Command = TypeVar("Command", bound=Callable[..., Any])


def label_options(command: Command) -> Command:
    """`--name` and `--tag`: the labels of a new run."""
    command = click.option(
        "--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Tag of the run, for `promptreel runs`; repeatable."
    )(command)
    return click.option("--name", "run_name", metavar="TEXT", help="Name of the run, for `promptreel runs`.")(command)


def label_filters(command: Command) -> Command:
    """`--name` and `--tag`: which runs to show."""
    command = click.option(
        "--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Show only runs with this tag; repeatable."
    )(command)
    return click.option("--name", "run_name", metavar="TEXT", help="Show only runs with this name.")(command)


def labels_of(run_name: str | None, tags: Sequence[str]) -> RunLabels:
    """Build labels from option values.

    Raises:
        InvalidInput: a label is invalid.
    """
    return RunLabels(run_name, parse_tags(tags))
