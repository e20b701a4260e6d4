"""Processes of the SQL sandbox: each runs one query and ends in time."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from promptreel.api.sql.limits import SqlLimits
from promptreel.api.sql.sandbox import Sandbox, SqlError
from tests.api.sql_world import run
from tests.sql_runs import (
    SECRET,
    corpus,
)

ROOT = Path(__file__).parents[2]

pytest_plugins = ["tests.api.sql_sandbox_fixtures"]

BOMBS = [text for text, _ in corpus("bombs.txt")]


def check_bombs(sql_world, statements):
    """Check that each statement fails by its deadline, the pool still answers, and nothing has changed."""
    sandbox = Sandbox(SqlLimits(timeout_s=1, waiting=100))
    before = sql_world.state()

    def code_of(statement):
        with pytest.raises(SqlError) as error:
            run(sandbox, sql_world, statement, account=statement)
        return error.value.code

    try:
        with ThreadPoolExecutor(2) as threads:
            codes = dict(zip(statements, threads.map(code_of, statements), strict=True))
        assert set(codes.values()) <= {"sql_timeout", "sql_too_large", "sql_rejected"}, codes
        assert run(sandbox, sql_world, "SELECT 1 AS a")["rows"] == [{"a": 1}]
    finally:
        sandbox.close()
    assert sql_world.state() == before
    return codes


def test_sampled_bombs_are_stopped(sql_world):
    codes = check_bombs(sql_world, BOMBS[::6])
    assert len(codes) >= 8
    assert set(codes.values()) == {"sql_timeout", "sql_too_large"}


@pytest.mark.slow
def test_every_bomb_is_stopped(sql_world):
    assert len(BOMBS) >= 30
    rejected = [statement for statement, code in check_bombs(sql_world, BOMBS).items() if code == "sql_rejected"]
    assert len(rejected) <= len(BOMBS) // 4, rejected


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("SELECT " + "(" * 400 + "1" + ")" * 400, None),
        ("SELECT " + "(" * 4000 + "1" + ")" * 4000, "sql_rejected"),
        ("SELECT * FROM " + "(SELECT * FROM " * 400 + "range(1)" + ")" * 400, None),
        ("SELECT 1 WHERE 1 IN (" + ",".join(map(str, range(2000))) + ")", None),
        ("SELECT " + "+".join(["1"] * 400), None),
        ("SELECT " + "+".join(["1"] * 4000), "sql_rejected"),
        ("SELECT 1 --" + "x" * 20_000, "sql_too_large"),
        ("SELECT 1 WHERE 1 IN (" + ",".join(map(str, range(200_000))) + ")", "sql_too_large"),
    ],
    ids=["nested", "nested-too-deeply", "subqueries", "list", "sum", "long-sum", "long", "long-list"],
)
def test_large_or_deep_queries_are_answered_or_rejected(sql_world, sandbox, statement, code):
    if code is None:
        assert len(run(sandbox, sql_world, statement)["rows"]) == 1
        return
    with pytest.raises(SqlError) as rejection:
        run(sandbox, sql_world, statement)
    assert rejection.value.code == code


def test_process_has_empty_environment_and_folder_and_no_descriptors(sandbox, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", SECRET)
    with open(os.devnull) as inherited:  # a descriptor of the service that no process may inherit
        os.set_inheritable(inherited.fileno(), True)
        fresh = Sandbox(SqlLimits(warm=1))
        try:
            child = fresh._next_child()
            proc = Path(f"/proc/{child._process.pid}")
            assert (proc / "environ").read_bytes() == b""
            assert len(list((proc / "fd").iterdir())) == 3
            assert list((proc / "cwd").iterdir()) == []
            assert os.getsid(child._process.pid) == child._process.pid
            limits = (proc / "limits").read_text()
            assert [
                line.split()[-3:-1] for line in limits.splitlines() if line.startswith(("Max file size", "Max core"))
            ] == [["0", "0"]] * 2
            child.end()
        finally:
            fresh.close()


def test_each_query_runs_in_a_process_that_exits(sql_world):
    sandbox = Sandbox(SqlLimits(warm=1))
    seen = []
    next_child = sandbox._next_child

    def watched():
        child = next_child()
        seen.append(child._process)
        return child

    sandbox._next_child = watched
    try:
        for _ in range(3):
            run(sandbox, sql_world, "SELECT count(*) FROM segments")
        with pytest.raises(SqlError):
            run(sandbox, sql_world, "nonsense")
    finally:
        sandbox.close()
    assert len({process.pid for process in seen}) == 4
    for process in seen:
        process.wait(timeout=5)
        assert not Path(f"/proc/{process.pid}").exists()


def test_processes_exit_with_the_service(sql_world):
    code = (
        "import sys, time, threading; sys.path.append(sys.argv[1])\n"
        "from promptreel.api.sql.sandbox import Sandbox; from promptreel.api.sql.limits import SqlLimits\n"
        "sandbox = Sandbox(SqlLimits(timeout_s=60)); child = sandbox._next_child(); print(child._process.pid, flush=True)\n"
        "import os; os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    until = threading.Event()
    for _ in range(100):
        if not _is_running(pid):
            return
        until.wait(0.1)
    raise AssertionError(f"process {pid} is still running after its service exited")


def _is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_one_account_cannot_use_all_slots():
    sandbox = Sandbox(SqlLimits(running=3, waiting=1, timeout_s=1, warm=0))
    try:
        with contextlib.ExitStack() as slots:
            for account in ("greedy", "greedy", "other"):
                slots.enter_context(sandbox._slot(account))
            with pytest.raises(SqlError) as busy, sandbox._slot("greedy"):
                pass
            assert busy.value.code == "sql_busy"
            with pytest.raises(SqlError), sandbox._slot("third"):
                pass  # admitted, but no slot was freed in time
        for account in ("greedy", "greedy", "greedy"):
            with sandbox._slot(account):
                pass
        assert sandbox._admitted.total() == 0
    finally:
        sandbox.close()


def test_stopped_process_is_killed_at_the_deadline(sql_world):
    sandbox = Sandbox(SqlLimits(timeout_s=1, warm=0))
    stopped_processes = []
    next_child = sandbox._next_child

    def stopped():
        child = next_child()
        os.kill(child._process.pid, signal.SIGSTOP)
        stopped_processes.append(child._process)
        return child

    sandbox._next_child = stopped
    try:
        with pytest.raises(SqlError) as error:
            run(sandbox, sql_world, "SELECT 1")
    finally:
        sandbox.close()
    assert error.value.code == "sql_timeout"
    assert stopped_processes[0].wait(timeout=10) == -signal.SIGKILL
