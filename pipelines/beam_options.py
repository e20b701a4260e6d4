"""The Beam options of a runner, read from Beam's own parser."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from promptreel.pipelines.beam_runners import is_local
from promptreel.schemas.errors import SettingsError


def beam_options(runner: str) -> dict[str, bool]:
    """Names of the Beam options of a runner (with dashes), and whether each takes a value.

    Raises:
        SettingsError: Beam does not know the runner, or one of the runner's dependencies is missing.
    """
    return {name: action.nargs != 0 for name, action in _parser(runner)._option_string_actions.items()}


def check_beam_options(runner: str, options: Sequence[str]) -> None:
    """Check the values of options. The option names must be known to Beam.

    Raises:
        SettingsError: a value is missing, unexpected or invalid; or as for `beam_options`.
    """
    parser = _parser(runner)
    parser.exit_on_error = False
    for option in options:  # one at a time, because not every error from Beam names the option
        try:
            parser.parse_known_args([option])
        except argparse.ArgumentError as error:
            raise SettingsError(f"{error}") from error
        except (ValueError, AssertionError) as error:
            raise SettingsError(f"{option}: {error}") from error


def _parser(runner: str) -> Any:
    """Beam's parser for the options of all loaded modules, including the runner's."""
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import create_runner

    if not is_local(runner):
        try:
            create_runner(runner)  # loads its module, which may define options
        except (ValueError, ImportError, AttributeError) as error:
            raise SettingsError(f"runner {runner!r}: {error}") from error
    parsers: list[Any] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=parsers.append)
    return parsers[0]
