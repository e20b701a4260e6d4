"""Leases decide which supervisor executes a run. A lease has an owner, a fence number, and a heartbeat counter.

Other supervisors consider an owner dead if its heartbeats stop. They measure this with their own monotonic clocks, so
clock jumps do not cost a lease. Every write of an owner checks its fence, so writes without a valid lease are rejected.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, select, update
from sqlalchemy.orm import Session

from promptreel.api.db.models import RunRecord

SILENT_BEATS: Final = 5


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to execute a run, while its fence is the newest."""

    run_id: str
    owner: str
    fence: int


def new_owner() -> str:
    """Return a name of this process as owner of leases: host, process id, and a random suffix."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def take_lease(session: Session, seen: RunRecord | Row[*tuple[Any, ...]], owner: str) -> Lease | None:
    """Take the lease of a run; None if its status, owner or fence has changed since it was read as `seen`."""
    lease = Lease(seen.run_id, owner, seen.lease_fence + 1)
    taken = session.execute(
        update(RunRecord)
        .where(
            RunRecord.run_id == seen.run_id,
            RunRecord.status == seen.status,
            RunRecord.lease_owner.is_not_distinct_from(seen.lease_owner),
            RunRecord.lease_fence == seen.lease_fence,
        )
        .values(lease_owner=owner, lease_fence=lease.fence, lease_beat=RunRecord.lease_beat + 1)
        .execution_options(synchronize_session=False)
    )
    return lease if taken.rowcount == 1 else None  # type: ignore[attr-defined]


def beat(session: Session, lease: Lease) -> bool:
    """Store a heartbeat; return False if the lease was lost."""
    done = session.execute(
        update(RunRecord)
        .where(RunRecord.run_id == lease.run_id, RunRecord.lease_fence == lease.fence)
        .values(lease_beat=RunRecord.lease_beat + 1)
        .execution_options(synchronize_session=False)
    )
    return bool(done.rowcount == 1)  # type: ignore[attr-defined]


def leased_run(session: Session, lease: Lease) -> RunRecord | None:
    """Lock the run of a lease for an update in this transaction; None if the lease was lost."""
    return session.scalar(
        select(RunRecord)
        .where(RunRecord.run_id == lease.run_id, RunRecord.lease_fence == lease.fence)
        .with_for_update()
    )


def release(run: RunRecord) -> None:
    """Release a lease. The fence remains."""
    run.lease_owner = None


class Watch:
    """Detects dead owners of leases by their heartbeats.

    Args:
        silent_s: seconds without a heartbeat after which an owner is dead.
    """

    def __init__(self, silent_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._silent_s = silent_s
        self._clock = clock
        self._seen: dict[str, tuple[tuple[int, int], float]] = {}

    def is_dead(self, run_id: str, owner: str, fence: int, beat_number: int) -> bool:
        """Whether an owner is dead: its heartbeats stopped, or its process on this machine no longer exists."""
        if _process_is_gone(owner):
            return True
        state = (fence, beat_number)
        last = self._seen.get(run_id)
        if last is None or last[0] != state:
            self._seen[run_id] = (state, self._clock())
            return False
        return self._clock() - last[1] > self._silent_s

    def drop(self, run_id: str) -> None:
        """Drop the state of a lease that has ended."""
        self._seen.pop(run_id, None)


def _process_is_gone(owner: str) -> bool:
    host, pid, _ = [*owner.split(":", 2), "", ""][:3]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
