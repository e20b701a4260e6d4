"""Which Beam runner executes a run, and with which options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from promptreel.schemas.errors import SettingsError

# The name of Beam's in-process runner. "DirectRunner" is a switch that first looks for a runner to download; pinning the
# runner itself never leaves the machine.
LOCAL: Final = "FnApiRunner"
_LOCAL_NAMES: Final = frozenset({"fnapirunner", "directrunner", "bundlebaseddirectrunner", "local"})


def is_local(runner: str) -> bool:
    """Whether a runner's workers share this process."""
    return runner.lower() in _LOCAL_NAMES


def make_pipeline(runner: str, beam_options: Sequence[str]) -> Any:
    """An empty pipeline for a runner.

    Args:
        runner: FnApiRunner, or any name that Beam knows (DataflowRunner, FlinkRunner, SparkRunner, PortableRunner).
        beam_options: further options as Beam reads them, e.g. "--project=p".

    Raises:
        SettingsError: Beam does not know the runner or cannot load what it needs.
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, SetupOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    options = PipelineOptions(list(beam_options) if is_local(runner) else [f"--runner={runner}", *beam_options])
    options.view_as(SetupOptions).save_main_session = False
    if is_local(runner):
        # One worker in this process: the mode that survives whatever a child of ours does.
        options.view_as(DirectOptions).direct_num_workers = 1
        options.view_as(DirectOptions).direct_running_mode = "in_memory"
        return beam.Pipeline(runner=FnApiRunner(), options=options)
    try:
        return beam.Pipeline(options=options)
    except (ValueError, ImportError) as error:
        raise SettingsError(f"runner {runner!r}: {error}") from error
