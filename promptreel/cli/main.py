"""The entry point: the command group, and the mapping of errors to messages and exit codes.

Exit codes: 0 success; 1 the run failed or a file is unusable; 2 invalid input; 3 the run completed with failures;
130 the run was cancelled.
"""

from __future__ import annotations

import sys

import click

from promptreel import __version__
from promptreel.cli.commands import LazyGroup
from promptreel.schemas.errors import ExpectedError, InvalidInput, RunNotFound

EXIT_FAILED = 1
EXIT_INPUT = 2


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="promptreel")
def cli() -> None:
    """Run one prompt over many videos, audio files and images, and read the results as tables.

    \b
    promptreel run FOLDER                      the built-in prompt and model: no key, no network
    promptreel run FOLDER --prompt mine.json   your own prompt
    promptreel results                         the results of the newest run
    promptreel sql "SELECT * FROM fields"      the same, in SQL

    Exit codes: 0 success, 1 failed, 2 wrong input, 3 completed with failures, 130 cancelled.
    """


def main() -> None:
    """Run the command line and exit the process with its exit code."""
    try:
        code = cli.main(standalone_mode=False, prog_name="promptreel")
    except click.exceptions.Abort:
        click.echo("aborted", err=True)
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (InvalidInput, RunNotFound) as error:
        click.echo(f"error: {error}", err=True)
        code = EXIT_INPUT
    except ExpectedError as error:
        click.echo(f"error: {error}", err=True)
        code = EXIT_FAILED
    except BrokenPipeError:
        code = 0  # the reader closed the pipe, as `head` does
        sys.stderr.close()
    sys.exit(code or 0)
