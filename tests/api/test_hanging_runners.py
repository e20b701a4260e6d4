"""Runners that hang are killed; other processes are not."""

import socket
import subprocess
import sys

import pytest

from promptreel.tables import layout
from promptreel.tables.attempts import is_running, kill_runner, last_attempt
from promptreel.tables.storage import open_storage
from tests.pipeline_runs import CHECKOUT
from tests.synthetic_runs import make_run

pytest_plugins = ["tests.api_fixtures", "tests.api.supervisor_fixtures"]

HANGING_RUNNER = """
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
def start_hanging_runner():
    """Function that starts a process which holds the lock of a run and then hangs; killed after the test."""
    processes = []

    def start(storage, run_id, module="promptreel.pipelines.runner"):
        command = [sys.executable, "-c", HANGING_RUNNER, storage.root, module, run_id]
        process = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE)
        processes.append(process)
        assert process.stdout.readline() == b"held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_hanging_runner_of_an_earlier_service_is_killed(on_sqlite, api_media, start_hanging_runner):
    bench = on_sqlite
    run_id, _ = bench.pending_run(api_media)
    bench.update(run_id, status="processing", starts=1)
    bench.storage.write_atomic(f"{layout.run_folder(run_id)}/runner.log", b"")
    runner = start_hanging_runner(bench.storage, run_id)
    object.__setattr__(bench.config, "run_deadline_s", 1.0)
    supervisor = bench.supervisor()
    supervisor.step()
    supervisor.step()
    assert runner.poll() is None
    supervisor._jobs[run_id].started_s -= 700
    run = bench.run_to_end(supervisor, run_id)
    assert runner.wait(10) == -9
    assert (run.status, run.starts) == ("completed", 2)


def test_only_a_verified_runner_is_killed(tmp_path, start_hanging_runner):
    storage = open_storage(tmp_path)
    run_id, other_id = (make_run(storage, {"vid_a": [{}]}) for _ in range(2))
    assert not kill_runner(storage, run_id)  # no process holds the run
    start_hanging_runner(storage, run_id, module="something.else")
    assert not kill_runner(storage, run_id)
    runner = start_hanging_runner(storage, other_id)
    name = f"{layout.attempts_folder(other_id)}/{last_attempt(storage, other_id):06d}.json"
    storage.write_atomic(name, b'{"host": "not %s", "pid": %d}' % (socket.gethostname().encode(), runner.pid))
    assert not kill_runner(storage, other_id)
    assert is_running(storage, run_id)
    assert is_running(storage, other_id)
