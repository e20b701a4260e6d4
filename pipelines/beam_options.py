"""The options that Beam has for a runner, read from Beam itself."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from promptreel.pipelines.beam_runners import is_local
from promptreel.schemas.errors import SettingsError


def beam_options(runner: str) -> dict[str, bool]:
    """The names of Beam's options for a runner, as they are written, and whether each takes a value.

    Raises:
        SettingsError: Beam does not know the runner or cannot load what it needs.
    """
    return {name: action.nargs != 0 for name, action in _parser(runner)._option_string_actions.items()}


def check_beam_options(runner: str, options: Sequence[str]) -> None:
    """Checks the values of options, of which Beam knows each.

    Raises:
        SettingsError: a value is missing, superfluous or not one that Beam takes; or as for `beam_options`.
    """
    parser = _parser(runner)
    parser.exit_on_error = False
    for option in options:  # one at a time, as not every error of Beam's says which option it is about
        try:
            parser.parse_known_args([option])
        except argparse.ArgumentError as error:
            raise SettingsError(f"{error}") from error
        except (ValueError, AssertionError) as error:
            raise SettingsError(f"{option}: {error}") from error


def _parser(runner: str) -> Any:
    """Beam's parser of everything that the loaded modules define, a runner's among them."""
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import create_runner

    if not is_local(runner):
        try:
            create_runner(runner)  # its module may define options of its own
        except (ValueError, ImportError, AttributeError) as error:
            raise SettingsError(f"runner {runner!r}: {error}") from error
    parsers: list[Any] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=parsers.append)
    return parsers[0]
