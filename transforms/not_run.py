"""Operations that were requested for an item but did not run: without their model, or because they do not apply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from promptreel.schemas.outcomes import Operation


@dataclass(frozen=True, slots=True, order=True)
class NotRun:
    """One operation that did not run for an item.

    Attributes:
        reason: why its model is unavailable, and the fix; empty if the operation does not apply.
        lacks: what the item lacks, e.g. "sound"; empty if the model is unavailable.
    """

    operation: Operation
    reason: str = ""
    lacks: str = ""

    @property
    def text(self) -> str:
        """The warning of the item and of its segments."""
        return f"no {self.operation}: {self.reason or f'the item has no {self.lacks}'}"

    @property
    def run_text(self) -> str:
        """The warning of the run."""
        return f"no {self.operation}: {self.reason or f'no item has {self.lacks}'}"


def run_warnings(found: Iterable[NotRun], counts: Mapping[str, int]) -> set[str]:
    """Return the warnings of a run. That an operation does not apply is one only if it applies to no item.

    Args:
        counts: the counts of the run's manifest.
    """
    applied = {name.partition(".")[0] for name, count in counts.items() if count}
    return {part.run_text for part in found if not part.lacks or part.operation not in applied}
