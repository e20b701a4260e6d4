"""Selection of the Beam runner, and its pipeline options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from promptreel.schemas.errors import SettingsError

# Beam's in-process runner. Not "DirectRunner", which may try to download another runner first.
LOCAL_RUNNER: Final = "FnApiRunner"
_LOCAL_NAMES: Final = frozenset({"fnapirunner", "directrunner", "bundlebaseddirectrunner", "local"})


def is_local(runner: str) -> bool:
    """Whether a runner executes its workers in this process."""
    return runner.lower() in _LOCAL_NAMES


def create_pipeline(runner: str, beam_options: Sequence[str]) -> Any:
    """Create an empty pipeline for a runner.

    Args:
        runner: FnApiRunner or another Beam runner (DataflowRunner, FlinkRunner, SparkRunner, PortableRunner).
        beam_options: further options in Beam's syntax, e.g. "--project=p".

    Raises:
        SettingsError: Beam does not know the runner, or one of the runner's dependencies is missing.
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, SetupOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    options = PipelineOptions(list(beam_options) if is_local(runner) else [f"--runner={runner}", *beam_options])
    options.view_as(SetupOptions).save_main_session = False
    if is_local(runner):
        # One worker in this process, so that a crash in a child process cannot take down Beam's workers.
        options.view_as(DirectOptions).direct_num_workers = 1
        options.view_as(DirectOptions).direct_running_mode = "in_memory"
        return beam.Pipeline(runner=FnApiRunner(), options=options)
    try:
        return beam.Pipeline(options=options)
    except (ValueError, ImportError) as error:
        raise SettingsError(f"runner {runner!r}: {error}") from error
