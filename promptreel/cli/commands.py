"""The table of commands, and a group that imports each command on first use."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Final

import click

PACKAGE: Final = "promptreel"


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """One command.

    Attributes:
        source: where the command is defined, as "module:attribute".
        extra: the extra of promptreel that installs the command's dependencies.
        summary: one line for the group's help.
    """

    source: str
    extra: str
    summary: str


COMMANDS: Final[dict[str, LazyCommand]] = {
    "run": LazyCommand("promptreel.cli.run:run", "run", "Run a prompt over media files, folders or URLs."),
    "estimate": LazyCommand(
        "promptreel.cli.estimate:estimate",
        "run",
        "Estimate the segments, calls and tokens of a run without calling a model.",
    ),
    "runs": LazyCommand("promptreel.cli.read:runs", "run", "List runs, newest first."),
    "results": LazyCommand("promptreel.cli.read:results", "run", "Show the results of a run."),
    "show": LazyCommand("promptreel.cli.show:show", "run", "Show one item, or one of its segments, as text."),
    "search": LazyCommand("promptreel.cli.search:search", "run", "Find words in answers and transcripts."),
    "failures": LazyCommand(
        "promptreel.cli.read:failures", "run", "Show what failed in a run, why, and how to fix it."
    ),
    "report": LazyCommand("promptreel.cli.report:report", "run", "Write a run as an HTML page with pictures."),
    "sql": LazyCommand("promptreel.cli.read:sql", "run", "Query the tables of runs with one SELECT."),
    "diff": LazyCommand("promptreel.cli.diff:diff", "run", "Compare two runs field by field."),
    "score": LazyCommand("promptreel.cli.score:score", "run", "Score runs against labelled values, and compare them."),
    "doctor": LazyCommand("promptreel.cli.doctor:doctor", "run", "Show which ffmpeg, models and keys are in use."),
    "models": LazyCommand("promptreel.cli.models:models", "run", "List model weights, and download them."),
    "sample-film": LazyCommand("promptreel.cli.sample:sample_film", "run", "Generate a short sample film."),
    "serve": LazyCommand("promptreel.cli.serve:serve", "api", "Serve the prompt-run API."),
    "open": LazyCommand("promptreel.cli.open:open_pages", "api", "Show runs in a browser, without an API key."),
    "keys": LazyCommand("promptreel.cli.serve:keys", "api", "Create, list and revoke API keys."),
}


class LazyGroup(click.Group):
    """A command group that imports a command's module when the command is used or its help is shown."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return load_command(name) if name in COMMANDS else None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])


def load_command(name: str) -> click.Command:
    """Import one command.

    Raises:
        click.UsageError: a package that the command needs is not installed.
    """
    command = COMMANDS[name]
    module, _, attribute = command.source.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", PACKAGE):
            raise
        raise click.UsageError(
            f"`promptreel {name}` needs the package {missing}, which is not installed; "
            f"run: pip install 'promptreel[{command.extra}]'"
        ) from error
    assert isinstance(found, click.Command)
    return found
