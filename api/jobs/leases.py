"""Leases: which supervisor executes a run. A lease is held by an owner, fenced by a number, and shown to be alive by beats.

Whether an owner still lives is judged by its watchers' own monotonic clocks: beats that no longer rise. So a clock that
jumps, here or there, loses nobody a lease. Every write that a holder makes names its fence: what a holder that was taken for
dead still writes is refused.
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
    """The right to execute one run, as long as its fence is the newest."""

    run_id: str
    owner: str
    fence: int


def new_owner() -> str:
    """A name for this process as an owner of leases: host, process id, start."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def take_lease(session: Session, seen: RunRecord | Row[*tuple[Any, ...]], owner: str) -> Lease | None:
    """Takes the lease of a run that still stands as it was seen; None where its status, owner or fence is another by now."""
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
    """Shows that the holder lives; False where the lease is another's by now."""
    done = session.execute(
        update(RunRecord)
        .where(RunRecord.run_id == lease.run_id, RunRecord.lease_fence == lease.fence)
        .values(lease_beat=RunRecord.lease_beat + 1)
        .execution_options(synchronize_session=False)
    )
    return bool(done.rowcount == 1)  # type: ignore[attr-defined]


def leased_run(session: Session, lease: Lease) -> RunRecord | None:
    """The run of a lease, to be written in this transaction; None where the lease is another's by now."""
    run = session.scalar(
        select(RunRecord)
        .where(RunRecord.run_id == lease.run_id, RunRecord.lease_fence == lease.fence)
        .with_for_update()
    )
    return run


def release(run: RunRecord) -> None:
    """Gives a lease back; the fence stays."""
    run.lease_owner = None


class Watch:
    """Watches the beats of others' leases.

    Args:
        silent_s: an owner whose beat has not changed for this long is dead.
    """

    def __init__(self, silent_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._silent_s = silent_s
        self._clock = clock
        self._seen: dict[str, tuple[tuple[int, int], float]] = {}

    def is_dead(self, run_id: str, owner: str, fence: int, beat_number: int) -> bool:
        """Whether an owner is dead: its beats have stopped, or it was a process of this machine that is gone."""
        if _is_gone(owner):
            return True
        state = (fence, beat_number)
        known = self._seen.get(run_id)
        if known is None or known[0] != state:
            self._seen[run_id] = (state, self._clock())
            return False
        return self._clock() - known[1] > self._silent_s

    def forget(self, run_id: str) -> None:
        """Drops what is known of a lease that has ended."""
        self._seen.pop(run_id, None)


def _is_gone(owner: str) -> bool:
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
