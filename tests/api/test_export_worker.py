"""The export worker: queue, leases, retries and batches."""

import json
import threading
from datetime import timedelta

import pytest

from promptreel.api.config import ApiConfig
from promptreel.api.db.clock import now
from promptreel.api.db.models import EventRecord, Export
from promptreel.api.jobs.export_worker import ExportWorker
from promptreel.api.jobs.write_export import write_export
from promptreel.api.runs.exports import MAX_ATTEMPTS
from tests.api.export_rows import CRANE, SHIP, queued_export
from tests.api_server import ApiServer, ok_json
from tests.pipeline_runs import wait_for
from tests.synthetic_runs import Catalogue, commit


@pytest.fixture
def idle(tmp_path):
    """A service without an export worker, and an account with a run: (server, caller, run id)."""
    with ApiServer(tmp_path / "data", supervise=False) as server:
        caller = server.caller()
        catalogue = Catalogue(server, caller.account_id)
        yield server, caller, catalogue.run({catalogue.video(): [CRANE] * 3})


def state_of(database, export):
    with database.read() as session:
        return session.get(Export, export.export_id)


def make_worker(server, **settings):
    return ExportWorker(server.app.state.database, server.app.state.storage, ApiConfig(**settings))


def test_queued_exports_and_those_of_dead_workers_are_written(idle):
    server, caller, run = idle
    database = server.app.state.database
    queued = queued_export(database, caller.account_id, [run])
    orphan = queued_export(
        database, caller.account_id, [run], queue_status="running", attempts=1, lease_fence=1,
        lease_owner="elsewhere:1:x", last_error=None,
    )  # fmt: skip
    worker = make_worker(server, heartbeat_s=0.01)
    assert worker.step()
    assert state_of(database, queued).queue_status == "succeeded"
    wait_for(lambda: worker.step() is not None and state_of(database, orphan).queue_status == "queued", 10)
    with database.write() as session:  # its second attempt is delayed
        session.get(Export, orphan.export_id).available_at = now()
    assert worker.step()
    again = state_of(database, orphan)
    assert (again.queue_status, again.attempts, again.lease_owner) == ("succeeded", 2, None)
    assert ok_json(caller.get(f"/exports/{orphan.export_id}/download"))["runs"][0]["run"]["run_id"] == run


def test_a_failing_export_fails_after_its_last_attempt(idle):
    server, caller, _ = idle
    database = server.app.state.database
    export = queued_export(database, caller.account_id, ["run_missing"])
    worker = make_worker(server)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert worker.step()
        state = state_of(database, export)
        assert (state.attempts, state.queue_status) == (attempt, "queued" if attempt < MAX_ATTEMPTS else "dead_letter")
        assert not worker.step()  # the next attempt is delayed
        with database.write() as session:
            session.get(Export, export.export_id).available_at = now()
    shown = ok_json(caller.get(f"/exports/{export.export_id}"))
    assert shown["status"] == "failed"
    assert shown["error_message"]
    assert (shown["download_url"], shown["gcs_uri"]) == (None, None)


def test_a_clock_set_back_does_not_delay_exports(idle):
    server, caller, run = idle
    for attempts in (0, 1):
        queued_export(
            server.app.state.database,
            caller.account_id,
            [run],
            attempts=attempts,
            available_at=now() + timedelta(hours=1),
        )
    worker = make_worker(server)
    assert [worker.step() for _ in range(3)] == [True, True, False]


def test_a_worker_without_its_lease_changes_nothing(idle):
    server, caller, run = idle
    database = server.app.state.database
    export = queued_export(database, caller.account_id, [run])
    slow, other = make_worker(server), make_worker(server)
    lost = slow._claim_next()
    with database.write() as session:
        row = session.get(Export, export.export_id)
        row.queue_status, row.available_at = "queued", now()
    assert other.step()
    done = state_of(database, export)
    assert done.queue_status == "succeeded"
    name, _ = slow._write(lost)
    assert name != done.file
    assert not slow._end(lost, "export.ready", queue_status="succeeded", file=name)
    slow._fail(lost, RuntimeError("late"))
    assert state_of(database, export).file == done.file
    assert state_of(database, export).last_error is None


def test_a_stopping_service_requeues_its_export(idle):
    server, caller, run = idle
    database = server.app.state.database
    export = queued_export(database, caller.account_id, [run])
    worker = make_worker(server)
    worker._stopping.set()
    assert worker.step()
    state = state_of(database, export)
    assert (state.queue_status, state.attempts, state.lease_owner) == ("queued", 0, None)


def test_several_workers_write_each_export_once(idle):
    server, caller, run = idle
    database = server.app.state.database
    exports = [queued_export(database, caller.account_id, [run]) for _ in range(12)]
    workers = [make_worker(server) for _ in range(4)]

    def work(worker):
        while worker.step():
            pass

    threads = [threading.Thread(target=work, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    states = [state_of(database, export) for export in exports]
    assert [(state.queue_status, state.attempts) for state in states] == [("succeeded", 1)] * 12
    assert len(list((server.data / "exports").iterdir())) == 12
    with database.read() as session:
        assert session.query(EventRecord).filter_by(event_type="export.ready").count() == 12


def test_an_export_is_written_in_batches_from_one_manifest(idle, tmp_path):
    server, caller, _ = idle
    catalogue = Catalogue(server, caller.account_id)
    video = catalogue.video()
    run = catalogue.run({video: [CRANE] * 1600})
    export = queued_export(server.app.state.database, caller.account_id, [run])
    calls = []

    def checkpoint():
        if not calls:
            commit(server.app.state.storage, run, {video: [SHIP] * 1600}, attempt=2)
        calls.append(path.stat().st_size)

    path = tmp_path / "e.json"
    with path.open("wb", buffering=0) as file:
        write_export(server.app.state.database, server.app.state.storage, export, file, checkpoint)
    assert len(calls) == 4
    assert calls == sorted(set(calls))
    (part,) = json.loads(path.read_bytes())["runs"]
    assert part["manifest_number"] == 1
    assert [row["metadata"] for row in part["media"][0]["segments"]] == [CRANE] * 1600
