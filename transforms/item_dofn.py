"""Base class of DoFns that process complete items."""

from __future__ import annotations

import apache_beam as beam

from promptreel.transforms.context import RunContext


class ItemDoFn(beam.DoFn):
    """Opens the data folder (`_storage`), the stop signal (`_stop`), the counters (`_progress`) and the outcome log
    (`_log`) in each worker."""

    def __init__(self, context: RunContext) -> None:
        self._context = context

    def setup(self) -> None:
        self._storage = self._context.storage()
        self._stop = self._context.stop_signal(self._storage)
        self._progress = self._context.progress(self._storage)
        self._log = self._context.outcome_log(self._storage)
