"""Claims on operations: while one run computes an operation, others that need it wait for its result.

A claim is a small file beside the operation cache, created exclusively. It lives as long as its owner: one worker of a run,
which rewrites its heartbeat file at a third of the lease. An observer judges an owner dead if the heartbeat did not change
for a lease on the observer's own monotonic clock, so no clocks are compared. It then takes the claim over by creating the
next generation of it exclusively; of several observers one succeeds.

    cache/claims/<xx>/<key>.<generation>    generation 1 exists as long as any generation does
    cache/claims/owners/<owner>             the heartbeat

Claims only save money: if storage fails, the operation continues without one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import socket
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from promptreel.schemas.errors import StorageError
from promptreel.tables import layout
from promptreel.tables.owner_watch import OwnerWatch
from promptreel.tables.storage import Storage

LEASE_S = 60.0
HEARTBEAT_INTERVAL_S = LEASE_S / 3
_FIRST_POLL_S: Final = 0.2
_MAX_POLL_S: Final = 2.0

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim that this worker holds."""

    key: str
    generation: int


@dataclass(frozen=True, slots=True)
class _Held:
    """Another worker holds this generation of the claim."""

    generation: int
    run_id: str


class OperationClaims:
    """The claims of one worker.

    Args:
        attempt: number of the run's attempt; claims of its earlier attempts are void.
        find: looks a result up in the operation cache by key.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        storage: Storage,
        run_id: str,
        attempt: int,
        find: Callable[[str], Result | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._owner = uuid.uuid4().hex
        self._run_id = run_id
        self._content = json.dumps(
            {"owner": self._owner, "run_id": run_id, "attempt": attempt, "host": socket.gethostname()}
        ).encode()
        self._find = find
        self._clock = clock
        self._watch = OwnerWatch(storage, run_id, attempt, clock)
        self._held: set[Claim] = set()
        self._is_open = False
        self._last_beat = float("-inf")
        self._beating: asyncio.Task[None] | None = None
        self._is_waiting_logged = False

    async def open(self) -> None:
        """Write the first heartbeat, and rewrite it until `close`. Without a heartbeat no claims are made."""
        self._is_open = await asyncio.to_thread(self._beat)
        if self._is_open:
            self._beating = asyncio.create_task(self._beat_until_closed())

    async def close(self) -> None:
        """Remove the heartbeat and all claims of this worker."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
            self._beating = None
            await asyncio.to_thread(self._remove_all)

    async def find_or_claim(
        self, key: str, find: Callable[[], Result | None], check_halted: Callable[[], None]
    ) -> tuple[Result | None, Claim | None]:
        """Return the result of an operation, or the claim to compute it; waits while another worker computes it.

        Both are None if storage failed: the operation is then computed without a claim.

        Args:
            find: looks the result up the first time.
            check_halted: raises to give up; called at least every two seconds while waiting.

        Raises:
            StorageError: from `find`.
        """
        found: Result | Claim | _Held | None = await asyncio.to_thread(self._find_or_take, key, find)
        delay_s = _FIRST_POLL_S
        while isinstance(found, _Held):
            self._log_waiting(found)
            check_halted()
            await asyncio.sleep(random.uniform(delay_s / 2, delay_s))
            delay_s = min(delay_s * 1.5, _MAX_POLL_S)
            found = await asyncio.to_thread(self._find_or_take, key, lambda: self._find(key), found.generation)
        return (None, found) if isinstance(found, Claim) else (found, None)

    def release(self, claim: Claim | None) -> None:
        """Remove a claim, unless it was removed already or taken over."""
        if claim not in self._held:
            return
        self._held.discard(claim)
        try:
            # While this worker's heartbeat is recent, nobody takes its claims over.
            if (
                self._clock() - self._last_beat > LEASE_S / 2
                and self._read(claim.key, claim.generation + 1) is not None
            ):
                return
            for generation in range(1, claim.generation + 1):  # the live generation last
                self._storage.remove(layout.claim_file(claim.key, generation))
        except StorageError as error:
            _log_failure(error)

    def holds(self, claim: Claim | None) -> bool:
        """Whether this worker still holds a claim."""
        return claim in self._held

    def _find_or_take(
        self, key: str, find: Callable[[], Result | None], generation: int = 1
    ) -> Result | Claim | _Held | None:
        result = find()
        if result is not None or not self._is_open:
            return result
        try:
            return self._take(key, generation)
        except StorageError as error:
            _log_failure(error)
            return None

    def _take(self, key: str, generation: int) -> Result | Claim | _Held:
        """Create the claim, or its next generation if its holder is gone. Raises StorageError."""
        previous: bytes | None = None
        while True:
            if self._storage.create_exclusive(layout.claim_file(key, generation), self._content, is_durable=False):
                claim = Claim(key, generation)
                self._held.add(claim)
                if previous is not None and self._read(key, generation - 1) != previous:
                    # The claim was released and taken again before this one was created.
                    self._held.discard(claim)
                    self._storage.remove(layout.claim_file(key, generation))
                    previous, generation = None, 1
                    continue
                # The holder may have stored the result between the look-up and the creation of this claim.
                result = self._find(key)
                if result is None:
                    return claim
                self.release(claim)
                return result
            content = self._read(key, generation)
            if content is None:  # just released
                result = self._find(key)
                if result is not None:
                    return result
                previous, generation = None, 1
            elif self._watch.is_gone(content, LEASE_S):
                previous, generation = content, generation + 1
            else:
                return _Held(generation, self._watch.run_of(content))

    def _read(self, key: str, generation: int) -> bytes | None:
        try:
            return self._storage.read_bytes(layout.claim_file(key, generation))
        except FileNotFoundError:
            return None

    async def _beat_until_closed(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_INTERVAL_S)
            await asyncio.to_thread(self._beat)

    def _beat(self) -> bool:
        """Change the heartbeat; return False if storage failed."""
        try:
            content = f"{self._owner} {uuid.uuid4().hex}".encode()
            self._storage.write_atomic(layout.claim_owner_file(self._owner), content, is_durable=False)
        except StorageError as error:
            _log_failure(error)
            return False
        self._last_beat = self._clock()
        return True

    def _remove_all(self) -> None:
        for claim in list(self._held):
            self.release(claim)
        with suppress(StorageError):  # the owner then counts as dead after a lease
            self._storage.remove(layout.claim_owner_file(self._owner))

    def _log_waiting(self, held: _Held) -> None:
        if not self._is_waiting_logged:
            self._is_waiting_logged = True
            logging.getLogger(__name__).warning(
                "run %s waits for results that run %s is computing; it takes over if that run dies",
                self._run_id,
                held.run_id,
            )


def _log_failure(error: StorageError) -> None:
    logging.getLogger(__name__).warning("a claim on an operation failed, the operation continues without it: %s", error)
