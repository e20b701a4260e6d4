"""Claims on operations: one holder at a time, takeover from a dead holder by one waiter, no cost if storage fails."""

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from promptreel.schemas.errors import StorageError
from promptreel.tables import operation_claims
from promptreel.tables.attempts import runner_lock
from promptreel.tables.operation_claims import LEASE_S, Claim, OperationClaims
from promptreel.tables.owner_watch import OwnerWatch
from promptreel.tables.storage import LocalStorage, open_storage
from tests.pipeline_runs import wait_for

KEY = "ab" * 32


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests move; every other run counts as running on another machine."""
    monkeypatch.setattr(OwnerWatch, "_is_dead_here", lambda self, holder: False)
    return Clock()


def nothing(key=None):
    return None


def worker(storage, run_id="run_a", attempt=1, clock=None, find=nothing):
    claims = OperationClaims(storage, run_id, attempt, find, **({"clock": clock} if clock else {}))
    claims._is_open = claims._beat()
    return claims


def take(claims, find=nothing):
    return claims._find_or_take(KEY, find)


def names(storage):
    return storage.list_names(f"cache/claims/{KEY[:2]}")


def test_second_worker_waits_until_the_claim_is_released(storage, clock):
    first, second = worker(storage, clock=clock), worker(storage, "run_b", clock=clock)
    claim = take(first)
    assert claim == Claim(KEY, 1)
    assert take(second).run_id == "run_a"
    first.release(claim)
    assert take(second) == Claim(KEY, 1)


def test_waiting_worker_gets_the_result_of_the_first(storage, clock):
    results = {}
    first = worker(storage, clock=clock)
    second = worker(storage, "run_b", clock=clock, find=results.get)
    claim = take(first)

    async def wait():
        waiting = asyncio.create_task(second.find_or_claim(KEY, lambda: results.get(KEY), nothing))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        results[KEY] = {"n": 1}
        first.release(claim)
        return await waiting

    assert asyncio.run(wait()) == ({"n": 1}, None)
    assert names(storage) == []


def test_result_stored_between_look_up_and_claim_is_used(storage, clock):
    claims = worker(storage, clock=clock, find={KEY: {"n": 1}}.get)
    assert take(claims) == {"n": 1}
    assert names(storage) == []


def test_waiting_ends_when_the_run_is_halted(storage, clock):
    worker(storage, clock=clock)._find_or_take(KEY, nothing)
    halted = iter([None, RuntimeError("stopped")])

    def check():
        if (error := next(halted)) is not None:
            raise error

    with pytest.raises(RuntimeError, match="stopped"):
        asyncio.run(worker(storage, "run_b", clock=clock).find_or_claim(KEY, nothing, check))


def test_silent_holder_loses_its_claim_after_one_lease(storage, clock):
    first, second = worker(storage, clock=Clock()), worker(storage, "run_b", clock=clock)
    take(first)
    assert take(second).generation == 1
    clock.now = LEASE_S - 1
    assert take(second).generation == 1
    first._beat()
    clock.now = 2 * LEASE_S - 2  # a lease since the first look, but the heartbeat changed
    assert take(second).generation == 1
    clock.now = 3 * LEASE_S - 1
    assert take(second) == Claim(KEY, 2)


def test_one_of_many_waiters_takes_over(storage, clock):
    take(worker(storage, clock=Clock()))
    waiters = [worker(storage, f"run_{number}", clock=clock) for number in range(8)]
    assert all(take(waiter).generation == 1 for waiter in waiters)
    clock.now = LEASE_S
    gate = threading.Barrier(8)

    def race(waiter):
        gate.wait()
        return take(waiter)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(race, waiters))
    assert sum(isinstance(claim, Claim) for claim in found) == 1
    assert take(worker(storage, "run_late", clock=clock)).generation in (1, 2)


def test_release_after_takeover_removes_all_generations(storage, clock):
    take(worker(storage, clock=Clock()))
    second = worker(storage, "run_b", clock=clock)
    take(second)
    clock.now = LEASE_S
    second.release(take(second))
    assert names(storage) == []


def test_stalled_holder_does_not_remove_the_claim_that_replaced_it(storage, clock):
    stalled = Clock()
    first, second = worker(storage, clock=stalled), worker(storage, "run_b", clock=clock)
    claim = take(first)
    take(second)
    clock.now = stalled.now = LEASE_S
    assert take(second) == Claim(KEY, 2)
    first.release(claim)
    assert take(worker(storage, "run_c", clock=clock)).generation in (1, 2)
    assert len(names(storage)) == 2


def test_claim_taken_again_before_a_takeover_is_respected(storage, clock, monkeypatch):
    """A waiter that decided to take over, then was slow, must not join a newer holder."""
    first, slow, newer = (worker(storage, f"run_{name}", clock=clock) for name in "abc")
    claim = take(first)
    create = storage.create_exclusive

    def create_late(name, content, **options):
        if name.endswith(".2"):
            first.release(claim)
            monkeypatch.setattr(storage, "create_exclusive", create)
            assert take(newer) == Claim(KEY, 1)
        return create(name, content, **options)

    monkeypatch.setattr(storage, "create_exclusive", create_late)
    monkeypatch.setattr(slow._watch, "is_gone", lambda content, lease_s: b"run_a" in content)
    assert take(slow).run_id == "run_c"
    assert len(names(storage)) == 1


@pytest.mark.parametrize(("attempt", "is_void"), [(2, True), (1, False)])
def test_claims_of_earlier_attempts_of_the_run_are_void(storage, clock, attempt, is_void):
    take(worker(storage, attempt=1, clock=clock))
    found = take(worker(storage, attempt=attempt, clock=clock))
    assert isinstance(found, Claim) == is_void


def test_closed_worker_leaves_no_files(storage, clock):
    async def scenario():
        claims = OperationClaims(storage, "run_a", 1, nothing)
        await claims.open()
        assert await claims.find_or_claim(KEY, nothing, nothing) == (None, Claim(KEY, 1))
        await claims.close()

    asyncio.run(scenario())
    assert names(storage) == storage.list_names("cache/claims/owners") == []


def test_heartbeat_is_rewritten_until_the_worker_closes(storage, monkeypatch):
    monkeypatch.setattr(operation_claims, "HEARTBEAT_INTERVAL_S", 0.01)

    async def scenario():
        claims = OperationClaims(storage, "run_a", 1, nothing)
        await claims.open()
        (owner,) = storage.list_names("cache/claims/owners")
        seen = set()
        while len(seen) < 3:
            seen.add(storage.read_bytes(f"cache/claims/owners/{owner}"))
            await asyncio.sleep(0.01)
        await claims.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_storage_failure_of_a_claim_does_not_fail_the_operation(storage, clock, monkeypatch):
    def fail(*arguments, **options):
        raise StorageError("no space")

    claims = worker(storage, clock=clock)
    monkeypatch.setattr(storage, "create_exclusive", fail)
    assert asyncio.run(claims.find_or_claim(KEY, nothing, nothing)) == (None, None)
    monkeypatch.setattr(storage, "write_atomic", fail)
    unopened = OperationClaims(storage, "run_a", 1, nothing)
    asyncio.run(unopened.open())
    assert asyncio.run(unopened.find_or_claim(KEY, nothing, nothing)) == (None, None)
    monkeypatch.undo()


def test_damaged_claim_is_taken_over(storage, clock):
    storage.write_atomic(f"cache/claims/{KEY[:2]}/{KEY}.1", b"")
    assert take(worker(storage, clock=clock)) == Claim(KEY, 2)


def test_claim_of_a_dead_run_on_this_machine_is_void(tmp_path):
    """On a local disk the operating system knows whether a run has a process, so nobody waits for the lease."""
    storage = open_storage(tmp_path)
    assert isinstance(storage, LocalStorage)
    first = worker(storage)
    storage.write_atomic("runs/run_a/request.json", b"{}")
    with runner_lock(storage, "run_a"):
        take(first)
        assert take(worker(storage, "run_b")).run_id == "run_a"
    second = worker(storage, "run_b")
    wait_for(lambda: isinstance(take(second), Claim))


def test_run_of_another_machine_is_judged_by_its_heartbeat(tmp_path, monkeypatch):
    storage = open_storage(tmp_path)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(socket, "gethostname", lambda: "elsewhere")
        first = worker(storage)
    take(first)
    assert take(worker(storage, "run_b")).run_id == "run_a"
