"""A run, or a retry of it, that a supervisor executes."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass, field

from promptreel.api.jobs.leases import Lease


@dataclass
class Job:
    """A run, or a retry of it, that this supervisor executes.

    Attributes:
        process: the runner; None where it was started by an earlier service, which is then followed through its lock.
        begun: `time.monotonic` at which the runner was started or found.
        start_again_at: `time.monotonic` at which the runner is to be started; None where it has been.
        failures_in_a_row: how often in a row it could not be attended to; until `look_again_at` it is left alone.
    """

    lease: Lease
    retry_id: str | None
    process: subprocess.Popen[bytes] | None
    begun: float = field(default_factory=time.monotonic)
    start_again_at: float | None = None
    next_progress: float = 0.0
    failures_in_a_row: int = 0
    look_again_at: float = 0.0
