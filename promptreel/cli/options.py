"""Options shared by several commands."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from promptreel.prompts import builtin_names, find_prompt
from promptreel.schemas.errors import PromptError
from promptreel.schemas.prompt import Prompt, parse_prompt
from promptreel.tables.storage import Storage, open_storage

DATA_DIR_VARIABLE = "PROMPTREEL_DATA"
DEFAULT_DATA_DIR = "promptreel-data"
STANDARD_INPUT = "-"

Command = TypeVar("Command", bound=Callable[..., Any])


def _default_data_dir() -> str:
    return os.environ.get(DATA_DIR_VARIABLE, DEFAULT_DATA_DIR)


def data_dir_option(command: Command) -> Command:
    """`--data-dir`: the folder of runs, tables and the cache."""
    return click.option(
        "--data-dir",
        default=_default_data_dir,
        metavar="DIR",
        help="Data folder, local or an fsspec URL such as gs://bucket/path. "
        f"[default: {DEFAULT_DATA_DIR}, or {DATA_DIR_VARIABLE}]",
    )(command)


def prompt_option(command: Command) -> Command:
    """`--prompt`: the prompt to run."""
    return click.option(
        "--prompt",
        "prompt_name",
        metavar="FILE|NAME|-",
        default="measure",
        show_default=True,
        help=f"Prompt: a JSON file, - for standard input, or a built-in one ({', '.join(builtin_names())}).",
    )(command)


def load_prompt(name: str) -> Prompt:
    """Load the prompt of `--prompt`: "-" for standard input, otherwise the name of a built-in prompt or a file.

    Raises:
        PromptError: the prompt does not exist or is invalid.
    """
    if name != STANDARD_INPUT:
        return find_prompt(name)
    if sys.stdin is None:  # closed by the parent process
        raise PromptError("standard input: is closed; pipe a prompt into it")
    content = sys.stdin.buffer.read()
    if not content.strip():
        raise PromptError("standard input: is empty; pipe a prompt into it")
    return parse_prompt(content, "standard input")


def json_option(command: Command) -> Command:
    """`--json`: machine-readable output."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs instead of tables.")(command)


def open_data_dir(data_dir: str) -> Storage:
    """Open the storage of `--data-dir`."""
    return open_storage(data_dir)


def command_line(storage: Storage, *words: str) -> str:
    """Render a promptreel command on this data folder that the user can paste into the shell."""
    data_dir = [] if storage.root == open_data_dir(_default_data_dir()).root else ["--data-dir", storage.root]
    return shlex.join([*_program(), *words, *data_dir])


def _program() -> list[str]:
    """Return the words that start this program from the working directory: only its name if it is on the PATH."""
    started = Path(sys.argv[0])
    if started.name != "promptreel" or not os.access(started, os.X_OK):
        return [sys.executable, "-m", "promptreel"]
    on_path = shutil.which("promptreel")
    if on_path is not None and os.path.samefile(on_path, started):
        return ["promptreel"]
    absolute = started.absolute()
    return [str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute)]
