"""Concurrent changes: by several supervisors, and by requests during a step of a supervisor."""

import sys

from sqlalchemy import select

from promptreel.api.db.models import RetryRecord, RunRecord
from promptreel.api.jobs import supervisor as supervisor_module
from promptreel.api.jobs.leases import Watch, leased_run, release, take_lease
from promptreel.api.runs.finish import finish_run
from promptreel.tables.attempts import last_attempt
from tests.api.supervisor_bench import once
from tests.api_server import assert_error, ok_json

pytest_plugins = ["tests.api_fixtures", "tests.api.supervisor_fixtures"]


def test_cancelling_a_starting_run_stops_it(on_postgres, api_media, monkeypatch):
    bench, responses, threads = on_postgres, [], []
    run_id, _ = bench.pending_run(api_media)
    supervisor = bench.supervisor()

    def cancel():
        responses.append(ok_json(bench.caller.post(f"/prompt-runs/{run_id}/cancel")))

    once(monkeypatch, supervisor_module, "take_lease", lambda: threads.append(bench.start_blocked(cancel)))
    supervisor.step()
    threads[0].join()
    assert responses[0]["status"] == "processing"
    assert responses[0]["stop_state"]["requested_at"]
    assert responses[0]["stop_state"]["observed_at"] is None
    bench.step_until(supervisor, lambda: bench.run(run_id).stop_observed_at)
    assert bench.run_to_end(supervisor, run_id).lease_owner is None


def test_a_run_being_cancelled_does_not_start(on_postgres, api_media, monkeypatch):
    bench, threads = on_postgres, []
    run_id, _ = bench.pending_run(api_media)
    supervisor = bench.supervisor()
    once(
        monkeypatch,
        sys.modules["promptreel.api.runs.cancel"],
        "now",
        lambda: threads.append(bench.start_blocked(supervisor.step)),
    )
    assert ok_json(bench.caller.post(f"/prompt-runs/{run_id}/cancel"))["status"] == "cancelled"
    threads[0].join()
    supervisor.step()
    run = bench.run(run_id)
    assert (run.status, run.lease_owner, run.started_at) == ("cancelled", None, None)
    assert last_attempt(bench.storage, run_id) == 0


def test_concurrent_supervisors_start_different_runs(on_postgres, api_media, monkeypatch):
    bench, threads = on_postgres, []
    first, second = (bench.pending_run(api_media)[0] for _ in range(2))
    one, other = bench.supervisor(), bench.supervisor()
    once(monkeypatch, supervisor_module, "take_lease", lambda: threads.append(bench.start_blocked(other._start_next)))
    one._start_next()
    threads[0].join()
    assert (list(one._jobs), list(other._jobs)) == ([first], [second])
    assert bench.run(first).lease_owner != bench.run(second).lease_owner
    bench.run_to_end(one, first)
    bench.run_to_end(other, second)


def test_a_run_finished_during_takeover_is_not_taken_over(bench, monkeypatch):
    video_id = bench.catalogue.video()
    run_id = bench.catalogue.run({video_id: [{}]})
    bench.update(run_id, status="processing", manifest_number=None, completed_at=None)
    with bench.database.write() as session:
        lease = take_lease(session, session.get(RunRecord, run_id), "another:1:owner")

    def finish(*_):
        with bench.database.write() as session:
            run = leased_run(session, lease)
            values = {"status": "completed", "error_message": None, "number": 1, "counts": {}, "warnings": []}
            finish_run(session, run, values)
            release(run)
        return True

    monkeypatch.setattr(Watch, "is_dead", finish)
    supervisor = bench.supervisor()
    supervisor.step()
    run = bench.run(run_id)
    assert (run.status, run.lease_owner, run.lease_fence) == ("completed", None, lease.fence)
    assert not supervisor._jobs


def test_a_lease_of_a_changed_run_is_not_taken(bench):
    run_id = bench.catalogue.run({bench.catalogue.video(): [{}]}, status="pending")
    seen = bench.run(run_id)
    for change in ({"status": "cancelled"}, {"lease_owner": "another"}, {"lease_fence": 7}):
        before = {name: getattr(seen, name) for name in change}
        bench.update(run_id, **change)
        with bench.database.write() as session:
            assert take_lease(session, seen, "me") is None
        bench.update(run_id, **before)
    with bench.database.write() as session:
        assert take_lease(session, seen, "me").fence == seen.lease_fence + 1


def test_one_of_two_concurrent_retries_is_rejected(on_postgres, monkeypatch):
    bench, responses, threads = on_postgres, [], []
    run_id = bench.catalogue.run({bench.catalogue.video(): [None, {}]})
    path = f"/prompt-runs/{run_id}/retry-failures"

    def retry():
        responses.append(bench.caller.post(path, {}))

    once(
        monkeypatch,
        sys.modules["promptreel.api.runs.retries"],
        "new_id",
        lambda: threads.append(bench.start_blocked(retry)),
    )
    ok_json(bench.caller.post(path, {}), 202)
    threads[0].join()
    assert_error(responses[0], 409, "retry_in_progress")
    with bench.database.read() as session:
        assert len(session.scalars(select(RetryRecord)).all()) == 1


def test_concurrent_prompt_changes_are_both_stored(on_postgres, monkeypatch):
    bench, threads = on_postgres, []
    path = f"/prompts/{bench.caller.prompt()}"

    def rename():
        ok_json(bench.caller.put(path, json={"name": "renamed"}))

    once(
        monkeypatch,
        sys.modules["promptreel.api.runs.prompt_rows"],
        "now",
        lambda: threads.append(bench.start_blocked(rename)),
    )
    ok_json(bench.caller.put(path, json={"prompt_text": "Say something else."}))
    threads[0].join()
    changed = ok_json(bench.caller.get(path))
    assert (changed["name"], changed["prompt_text"]) == ("renamed", "Say something else.")


def test_concurrent_rotations_rotate_a_key_once(on_postgres, monkeypatch):
    bench, responses, threads = on_postgres, [], []
    created = ok_json(bench.caller.post("/api-keys", {"name": "k", "scopes": ["read"]}), 201)
    path = f"/api-keys/{created['key_id']}/rotate"

    def rotate():
        responses.append(bench.caller.post(path))

    once(
        monkeypatch,
        sys.modules["promptreel.api.routes.api_keys"],
        "create_key",
        lambda: threads.append(bench.start_blocked(rotate)),
    )
    ok_json(bench.caller.post(path))
    threads[0].join()
    assert_error(responses[0], 409, "key_revoked")
    assert len(ok_json(bench.caller.get("/api-keys"))) == 3
