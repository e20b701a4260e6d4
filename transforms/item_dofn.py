"""A DoFn over whole items, with what its worker needs of the run."""

from __future__ import annotations

import apache_beam as beam

from promptreel.transforms.context import RunContext


class ItemDoFn(beam.DoFn):
    """Acquires, in each worker, the data folder (`_storage`), the wish to stop (`_stop`) and the counters (`_progress`)."""

    def __init__(self, context: RunContext) -> None:
        self._context = context

    def setup(self) -> None:
        self._storage = self._context.storage()
        self._stop = self._context.stop_signal(self._storage)
        self._progress = self._context.progress(self._storage)
