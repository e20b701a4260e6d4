"""The job of a supervisor: a run or a retry."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass, field

from promptreel.api.jobs.leases import Lease
from promptreel.tables.manifest import Manifest


@dataclass
class Job:
    """A run, or a retry of it, executed by this supervisor. Times are from `time.monotonic`.

    Attributes:
        process: the runner; None if an earlier service started it. Such a runner is observed through its lock.
        started_s: when the runner was started or found.
        start_at_s: when to start the runner; None if it was started.
        interim: the newest interim state seen.
        next_progress_s: when to read the progress again.
        consecutive_failures: failed steps in a row.
        retry_at_s: when to retry after a failed step.
    """

    lease: Lease
    retry_id: str | None
    process: subprocess.Popen[bytes] | None
    started_s: float = field(default_factory=time.monotonic)
    start_at_s: float | None = None
    interim: Manifest | None = None
    next_progress_s: float = 0.0
    consecutive_failures: int = 0
    retry_at_s: float = 0.0
