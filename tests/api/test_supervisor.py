"""The supervisor beside others: what is cancelled, taken over or retried at one moment, and what goes wrong with one run."""

import socket
import subprocess
import sys
import threading
import time

import pytest
from sqlalchemy import select, text

from promptreel.api.db.models import RetryRecord, RunRecord, Video
from promptreel.api.jobs import supervisor as supervisor_module
from promptreel.api.jobs.leases import Watch, leased_run, release, take_lease
from promptreel.api.jobs.supervisor import Supervisor
from promptreel.api.runs.finish import finish_run
from promptreel.api.runs.results import RunTables
from promptreel.api.runs.retries import outcome_of
from promptreel.api.runs.statuses import FINAL
from promptreel.api.web.middleware import Metrics
from promptreel.tables import layout
from promptreel.tables.attempts import is_running, kill_runner, last_attempt
from promptreel.tables.storage import open_storage
from tests.api_server import MEASURE, ApiServer, assert_error, ok_json
from tests.made_runs import Catalogue, make_run, segment_id
from tests.pipeline_runs import CHECKOUT, wait_for

pytest_plugins = ["tests.api_fixtures"]


class Bench:
    """A service without a supervisor of its own; a test moves one by hand."""

    def __init__(self, server):
        self.server, self.config = server, server.config
        self.database, self.storage = server.app.state.database, server.app.state.storage
        self.caller = server.caller()
        self.catalogue = Catalogue(server, self.caller.account_id)

    def supervisor(self):
        return Supervisor(self.database, self.storage, self.config, Metrics())

    def run(self, run_id):
        """The run's row as it is now."""
        with self.database.read() as session:
            return session.get(RunRecord, run_id)

    def set(self, run_id, **values):
        with self.database.write() as session:
            run = session.get(RunRecord, run_id)
            for name, value in values.items():
                setattr(run, name, value)

    def status_of(self, video_id):
        with self.database.read() as session:
            return session.get(Video, video_id).status

    def waiting_run(self, api_media):
        """A run over an image that nobody has begun."""
        video_id = self.caller.video(api_media / "c.png")
        target = {"type": "videos", "video_ids": [video_id]}
        return self.caller.start(self.caller.prompt(), target), video_id

    def steps(self, supervisor, is_enough, seconds=60):
        def step():
            time.sleep(0.05)
            supervisor.step()
            return is_enough()

        wait_for(step, seconds)

    def to_end(self, supervisor, run_id):
        self.steps(supervisor, lambda: self.run(run_id).status in FINAL)
        return self.run(run_id)

    def meanwhile(self, action):
        """Begins something in another thread, and goes on when it has ended or waits for a lock of this one."""
        thread = threading.Thread(target=action)
        thread.start()
        blocked = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )

        def is_settled():
            time.sleep(0.02)
            with self.database.read() as session:
                return not thread.is_alive() or session.scalar(blocked) > 0

        wait_for(is_settled, 30)
        return thread


def once(monkeypatch, module, name, before):
    """Does something before the next call of a function, in the middle of its caller."""
    called, todo = getattr(module, name), [before]

    def call(*arguments, **options):
        if todo:
            todo.pop()()
        return called(*arguments, **options)

    monkeypatch.setattr(module, name, call)


@pytest.fixture(params=["sqlite", "postgresql"])
def bench(request, tmp_path):
    url = request.getfixturevalue("postgres").new_database() if request.param == "postgresql" else ""
    with ApiServer(tmp_path / "data", database_url=url, supervise=False) as server:
        yield Bench(server)


@pytest.fixture
def on_postgres(postgres, tmp_path):
    with ApiServer(tmp_path / "data", database_url=postgres.new_database(), supervise=False) as server:
        yield Bench(server)


@pytest.fixture
def on_sqlite(tmp_path):
    with ApiServer(tmp_path / "data", supervise=False) as server:
        yield Bench(server)


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr(supervisor_module, "_delay_s", lambda times: 0.0)


# ------------------------------------------------------------------------------------------- at the same moment


def test_a_run_that_is_cancelled_while_it_begins_is_stopped(on_postgres, api_media, monkeypatch):
    bench, answers, threads = on_postgres, [], []
    run_id, _ = bench.waiting_run(api_media)
    supervisor = bench.supervisor()

    def cancel():
        answers.append(ok_json(bench.caller.post(f"/prompt-runs/{run_id}/cancel")))

    once(monkeypatch, supervisor_module, "take_lease", lambda: threads.append(bench.meanwhile(cancel)))
    supervisor.step()
    threads[0].join()
    assert answers[0]["status"] == "processing"
    assert answers[0]["stop_state"]["requested_at"]
    assert answers[0]["stop_state"]["observed_at"] is None
    bench.steps(supervisor, lambda: bench.run(run_id).stop_observed_at)
    assert bench.to_end(supervisor, run_id).lease_owner is None


def test_a_run_does_not_begin_while_it_is_cancelled(on_postgres, api_media, monkeypatch):
    bench, threads = on_postgres, []
    run_id, _ = bench.waiting_run(api_media)
    supervisor = bench.supervisor()
    once(
        monkeypatch,
        sys.modules["promptreel.api.runs.cancel"],
        "now",
        lambda: threads.append(bench.meanwhile(supervisor.step)),
    )
    assert ok_json(bench.caller.post(f"/prompt-runs/{run_id}/cancel"))["status"] == "cancelled"
    threads[0].join()
    supervisor.step()
    run = bench.run(run_id)
    assert (run.status, run.lease_owner, run.started_at) == ("cancelled", None, None)
    assert last_attempt(bench.storage, run_id) == 0


def test_two_supervisors_that_look_at_once_begin_different_runs(on_postgres, api_media, monkeypatch):
    bench, threads = on_postgres, []
    first, second = (bench.waiting_run(api_media)[0] for _ in range(2))
    one, other = bench.supervisor(), bench.supervisor()
    once(monkeypatch, supervisor_module, "take_lease", lambda: threads.append(bench.meanwhile(other._start_next)))
    one._start_next()
    threads[0].join()
    assert (list(one._jobs), list(other._jobs)) == ([first], [second])
    assert bench.run(first).lease_owner != bench.run(second).lease_owner
    bench.to_end(one, first)
    bench.to_end(other, second)


def test_a_run_that_its_owner_finishes_while_another_looks_is_not_taken_over(bench, monkeypatch):
    video_id = bench.catalogue.video()
    run_id = bench.catalogue.run({video_id: [{}]})
    bench.set(run_id, status="processing", manifest_number=None, completed_at=None)
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


def test_a_lease_is_taken_only_of_what_was_seen(bench):
    run_id = bench.catalogue.run({bench.catalogue.video(): [{}]}, status="pending")
    seen = bench.run(run_id)
    for change in ({"status": "cancelled"}, {"lease_owner": "another"}, {"lease_fence": 7}):
        before = {name: getattr(seen, name) for name in change}
        bench.set(run_id, **change)
        with bench.database.write() as session:
            assert take_lease(session, seen, "me") is None
        bench.set(run_id, **before)
    with bench.database.write() as session:
        assert take_lease(session, seen, "me").fence == seen.lease_fence + 1


def test_of_two_retries_at_once_one_is_refused(on_postgres, monkeypatch):
    bench, answers, threads = on_postgres, [], []
    run_id = bench.catalogue.run({bench.catalogue.video(): [None, {}]})
    path = f"/prompt-runs/{run_id}/retry-failures"

    def retry():
        answers.append(bench.caller.post(path, {}))

    once(
        monkeypatch,
        sys.modules["promptreel.api.runs.retries"],
        "new_id",
        lambda: threads.append(bench.meanwhile(retry)),
    )
    ok_json(bench.caller.post(path, {}), 202)
    threads[0].join()
    assert_error(answers[0], 409, "retry_in_progress")
    with bench.database.read() as session:
        assert len(session.scalars(select(RetryRecord)).all()) == 1


def test_two_changes_of_a_prompt_at_once_are_both_kept(on_postgres, monkeypatch):
    bench, threads = on_postgres, []
    path = f"/prompts/{bench.caller.prompt()}"

    def rename():
        ok_json(bench.caller.put(path, json={"name": "renamed"}))

    once(
        monkeypatch,
        sys.modules["promptreel.api.routes.prompts"],
        "now",
        lambda: threads.append(bench.meanwhile(rename)),
    )
    ok_json(bench.caller.put(path, json={"prompt_text": "Say something else."}))
    threads[0].join()
    changed = ok_json(bench.caller.get(path))
    assert (changed["name"], changed["prompt_text"]) == ("renamed", "Say something else.")


def test_a_key_that_is_rotated_twice_at_once_is_rotated_once(on_postgres, monkeypatch):
    bench, answers, threads = on_postgres, [], []
    made = ok_json(bench.caller.post("/api-keys", {"name": "k", "scopes": ["read"]}), 201)
    path = f"/api-keys/{made['key_id']}/rotate"

    def rotate():
        answers.append(bench.caller.post(path))

    once(
        monkeypatch,
        sys.modules["promptreel.api.routes.api_keys"],
        "create_key",
        lambda: threads.append(bench.meanwhile(rotate)),
    )
    ok_json(bench.caller.post(path))
    threads[0].join()
    assert_error(answers[0], 409, "key_revoked")
    assert len(ok_json(bench.caller.get("/api-keys"))) == 3


# ------------------------------------------------------------------------------------------- one run's trouble


def test_a_run_with_a_torn_manifest_fails_and_holds_up_no_other(on_sqlite, api_media, no_pauses):
    bench = on_sqlite
    torn_id = bench.catalogue.run({bench.catalogue.video(): [{}]})
    bench.set(torn_id, status="processing", manifest_number=None, completed_at=None)
    bench.storage.write_atomic(f"{layout.manifests_folder(torn_id)}/000001.json", b'{"run_')
    supervisor = bench.supervisor()
    supervisor.step()
    assert list(supervisor._jobs) == [torn_id]
    other_id, _ = bench.waiting_run(api_media)
    supervisor.step()
    assert bench.run(torn_id).status == bench.run(other_id).status == "processing"
    torn = bench.to_end(supervisor, torn_id)
    assert (torn.status, torn.lease_owner) == ("failed", None)
    assert "000001.json is not readable" in torn.error_message
    assert bench.to_end(supervisor, other_id).status == "completed"


def test_a_run_folder_that_was_left_half_made_is_made_anew(on_sqlite, api_media):
    bench = on_sqlite
    run_id, _ = bench.waiting_run(api_media)
    bench.storage.write_atomic(layout.media_file(run_id), b"of a service that was killed")
    assert bench.to_end(bench.supervisor(), run_id).status == "completed"


DIE = "import os, sys; print('error: out of luck', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)"


def dying(monkeypatch, deaths):
    """Lets the next so many runners die at once; returns the commands of all that were started."""
    started, popen = [], subprocess.Popen

    def start(command, **options):
        started.append(command)
        return popen([sys.executable, "-c", DIE] if len(started) <= deaths else command, **options)

    monkeypatch.setattr("promptreel.api.jobs.supervisor.subprocess.Popen", start)
    return started


def test_the_last_start_only_commits_and_its_failures_can_be_retried(on_sqlite, api_media, no_pauses, monkeypatch):
    bench = on_sqlite
    run_id, video_id = bench.waiting_run(api_media)
    resumes = bench.config.max_resumes
    started = dying(monkeypatch, resumes + 1)
    supervisor = bench.supervisor()
    run = bench.to_end(supervisor, run_id)
    assert (run.status, run.starts) == ("failed", resumes + 2)
    assert ["--commit-only" in command for command in started] == [False] * (resumes + 1) + [True]
    failures = ok_json(bench.caller.get(f"/prompt-runs/{run_id}/failed-segments"))["videos"]
    assert f"the runner died {resumes + 1} times" in str(failures)
    assert "out of luck" in str(failures)

    retry = ok_json(bench.caller.post(f"/prompt-runs/{run_id}/retry-failures", {}), 202)
    bench.steps(supervisor, lambda: bench.caller.retry(run_id, retry["retry_id"])["status"] == "completed")
    assert bench.run(run_id).status == "completed"
    assert bench.status_of(video_id) == "processed"


def test_a_run_that_never_committed_can_be_retried(on_sqlite, api_media, no_pauses, monkeypatch):
    bench = on_sqlite
    run_id, _ = bench.waiting_run(api_media)
    dying(monkeypatch, bench.config.max_resumes + 2)
    supervisor = bench.supervisor()
    assert bench.to_end(supervisor, run_id).status == "failed"
    assert_error(
        bench.caller.post(f"/prompt-runs/{run_id}/retry-failures", {"video_ids": ["vid_x"]}), 409, "nothing_to_retry"
    )
    retry = ok_json(bench.caller.post(f"/prompt-runs/{run_id}/retry-failures", {}), 202)
    bench.steps(supervisor, lambda: bench.caller.retry(run_id, retry["retry_id"])["status"] == "completed")
    assert bench.run(run_id).status == "completed"


def test_a_run_whose_folder_cannot_be_made_yet_begins_when_it_can(on_sqlite, api_media, no_pauses):
    bench = on_sqlite
    run_id, _ = bench.waiting_run(api_media)
    in_the_way = bench.storage.path / layout.run_folder(run_id)
    in_the_way.parent.mkdir(exist_ok=True)
    in_the_way.touch()
    supervisor = bench.supervisor()
    for _ in range(3):
        supervisor.step()
        assert bench.run(run_id).status == "processing"
    in_the_way.unlink()
    run = bench.to_end(supervisor, run_id)
    assert (run.status, run.starts) == ("completed", 1)


def test_a_run_whose_folder_can_never_be_made_fails_with_the_reason(on_sqlite, api_media, no_pauses):
    bench = on_sqlite
    run_id, video_id = bench.waiting_run(api_media)
    in_the_way = bench.storage.path / layout.run_folder(run_id)
    in_the_way.parent.mkdir(exist_ok=True)
    in_the_way.touch()
    run = bench.to_end(bench.supervisor(), run_id)
    assert run.status == "failed"
    assert "free space or fix permissions" in run.error_message
    assert bench.status_of(video_id) == "failed"


def test_pauses_grow_to_half_a_minute_and_no_further():
    assert [supervisor_module._delay_s(times) for times in (0, 1, 2, 3, 100_000)] == [0.0, 0.5, 1.0, 2.0, 30.0]


# ------------------------------------------------------------------------------------------- media


def test_media_stay_processed_whatever_later_runs_come_to(on_sqlite, api_media, no_pauses):
    bench = on_sqlite
    first_id, video_id = bench.waiting_run(api_media)
    supervisor = bench.supervisor()
    bench.to_end(supervisor, first_id)
    assert bench.status_of(video_id) == "processed"
    target = {"type": "videos", "video_ids": [video_id]}
    for end in ("given up", "cancelled", "failed"):
        # A prompt that no run has answered: what is stored would be committed, also after a stop.
        run_id = bench.caller.start(bench.caller.prompt({**MEASURE, "prompt_text": f"Measure it: {end}."}), target)
        if end == "given up":
            bench.set(run_id, starts=bench.config.max_resumes + 2)
        elif end == "failed":
            next(bench.storage.path.glob(f"uploads/{video_id}/*")).unlink()
        else:
            bench.storage.write_atomic(layout.stop_file(run_id), b"{}")
        run = bench.to_end(supervisor, run_id)
        assert run.status == ("failed" if end == "given up" else end)
        assert bench.status_of(video_id) == "processed"


def test_a_run_that_is_given_up_leaves_its_media_failed(on_sqlite, api_media):
    bench = on_sqlite
    run_id, video_id = bench.waiting_run(api_media)
    bench.set(run_id, starts=bench.config.max_resumes + 2)
    assert bench.to_end(bench.supervisor(), run_id).status == "failed"
    assert bench.status_of(video_id) == "failed"


# ------------------------------------------------------------------------------------------- retries


def test_the_outcome_of_a_retry_is_read_once_however_many_targets_it_has(on_sqlite, monkeypatch):
    bench = on_sqlite
    answers = {f"vid_{letter}": [None, {}, None, {}] for letter in "ab"}
    run_id = bench.catalogue.run(answers)
    reads = []
    for name in ("rows", "all_rows"):
        read = getattr(RunTables, name)
        monkeypatch.setattr(RunTables, name, lambda *a, read=read, **o: reads.append(a[1]) or read(*a, **o))

    def outcome(*targets):
        reads.clear()
        found, error = outcome_of(bench.storage, run_id, targets)
        assert sorted(reads) == ["failures", "segments"]
        return found["field_extraction"], error

    good, bad = [(v, segment_id(v, 1)) for v in answers], [(v, segment_id(v, 2)) for v in answers]
    assert outcome(*good) == (True, None)
    assert outcome(good[0]) == (True, None)
    assert outcome(*good, *bad) == (False, "no")
    assert outcome(("vid_a", segment_id("vid_b", 2))) == (None, None)
    assert outcome(("vid_a", "vid_a")) == (
        False,
        None,
    )  # the item is no segment: its failures are not those of segments


def test_the_outcome_of_a_retry_is_read_while_others_can_write(on_sqlite, monkeypatch):
    bench, written = on_sqlite, threading.Event()
    run_id = bench.catalogue.run({"vid_a": [None]})
    retry = ok_json(bench.caller.post(f"/prompt-runs/{run_id}/retry-failures", {}), 202)
    bench.set(run_id, manifest_number=0)
    with bench.database.write() as session:
        session.get(RetryRecord, retry["retry_id"]).status = "processing"

    def write():
        bench.set(run_id, prompt_name="changed")
        written.set()

    def before():
        threading.Thread(target=write).start()
        assert written.wait(10)

    once(monkeypatch, supervisor_module, "outcome_of", before)
    supervisor = bench.supervisor()
    supervisor.step()
    supervisor.step()
    assert written.is_set()
    ended = ok_json(bench.caller.get(f"/prompt-runs/{run_id}/retries/{retry['retry_id']}"))
    assert (ended["status"], ended["error"]) == ("failed", "no")


# ------------------------------------------------------------------------------------------- runners that hang

HANGS = """
import sys, time
from promptreel.tables.attempts import begin_attempt, runner_lock
from promptreel.tables.storage import open_storage
storage = open_storage(sys.argv[1])
with runner_lock(storage, sys.argv[3]):
    begin_attempt(storage, sys.argv[3])
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def hanging():
    """Starts a process that holds a run as its runner and does nothing; killed at the end of the test."""
    processes = []

    def start(storage, run_id, module="promptreel.pipelines.runner"):
        command = [sys.executable, "-c", HANGS, storage.root, module, run_id]
        process = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE)
        processes.append(process)
        assert process.stdout.readline() == b"held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_runner_that_hangs_is_ended_by_a_service_that_did_not_start_it(on_sqlite, api_media, hanging):
    bench = on_sqlite
    run_id, _ = bench.waiting_run(api_media)
    bench.set(run_id, status="processing", starts=1)
    bench.storage.write_atomic(f"{layout.run_folder(run_id)}/runner.log", b"")
    runner = hanging(bench.storage, run_id)
    object.__setattr__(bench.config, "run_deadline_s", 1.0)
    supervisor = bench.supervisor()
    supervisor.step()
    supervisor.step()
    assert runner.poll() is None
    supervisor._jobs[run_id].started_s -= 700
    run = bench.to_end(supervisor, run_id)
    assert runner.wait(10) == -9
    assert (run.status, run.starts) == ("completed", 2)


def test_no_process_is_killed_that_is_not_surely_the_runner(tmp_path, hanging):
    storage = open_storage(tmp_path)
    run_id, other_id = (make_run(storage, {"vid_a": [{}]}) for _ in range(2))
    assert not kill_runner(storage, run_id)  # nobody holds the run
    hanging(storage, run_id, module="something.else")
    assert not kill_runner(storage, run_id)
    runner = hanging(storage, other_id)
    name = f"{layout.attempts_folder(other_id)}/{last_attempt(storage, other_id):06d}.json"
    storage.write_atomic(name, b'{"host": "not %s", "pid": %d}' % (socket.gethostname().encode(), runner.pid))
    assert not kill_runner(storage, other_id)
    assert is_running(storage, run_id)
    assert is_running(storage, other_id)
