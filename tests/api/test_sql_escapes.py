"""Hostile queries read nothing but the caller's tables and change nothing: each layer of the sandbox, and all together."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from promptreel.api.sql.landlock import landlock_version
from promptreel.api.sql.sandbox import SqlError
from tests.api.sql_world import LIMITS, run
from tests.sql_runs import (
    SECRET,
    answers_of_children,
    corpus,
)

pytest_plugins = ["tests.api.sql_sandbox_fixtures"]

ROOT = Path(__file__).parents[2]


needs_landlock = pytest.mark.skipif(landlock_version() == 0, reason="this kernel has no Landlock; it needs Linux 5.13")


def test_escapes_return_nothing_and_change_no_file(sql_world):
    before = sql_world.state()
    statements = [(sql_world.filled(text), quiet) for text, quiet in corpus("escapes.txt")]
    assert len(statements) >= 150
    answers = answers_of_children([sql_world.request(text) for text, _ in statements], LIMITS.memory_bytes)
    assert len(answers) == len(statements)
    for (statement, quiet), (code, text) in zip(statements, answers, strict=True):
        # An error may repeat the statement, but must not contain data.
        found = json.loads(text) if code == 0 and text else None
        assert found is not None, f"{statement!r} crashed its process ({code})"
        if not quiet:
            assert found.get("error", {}).get("code") == "sql_rejected", (statement, text)
            assert not (SECRET in text and SECRET not in statement), statement
        else:
            rows = json.dumps(found.get("rows", []))
            assert not [word for word in sql_world.leaks(rows) if word not in statement], (statement, text)
    assert sql_world.state() == before
    assert sql_world.visits == []


@pytest.mark.parametrize("statement", [text for text, quiet in corpus("escapes.txt") if not quiet][::30])
def test_pool_rejects_sampled_escapes(sql_world, sandbox, statement):
    before = sql_world.state()
    with pytest.raises(SqlError) as rejection:
        run(sandbox, sql_world, sql_world.filled(statement))
    assert rejection.value.code == "sql_rejected"
    assert sql_world.state() == before


@pytest.mark.slow
@pytest.mark.parametrize("statement", [text for text, quiet in corpus("escapes.txt") if not quiet])
def test_pool_rejects_every_escape(sql_world, sandbox, statement):
    with pytest.raises(SqlError) as rejection:
        run(sandbox, sql_world, sql_world.filled(statement))
    assert rejection.value.code == "sql_rejected"


LOCKED = """
import json, os, sys
sys.path.append(sys.argv[1])
from promptreel.api.sql import child
request = json.load(sys.stdin)
child._lock_down(request["limits"]["memory_bytes"])
child._warm_up()
child._restrict_to(request)
connection = child._connect(request)
for statement in request["statements"]:
    try:
        print(json.dumps(["answered", repr(connection.execute(statement).fetchall())[:200]]), flush=True)
    except Exception as error:
        print(json.dumps(["rejected", str(error)]), flush=True)
"""


def run_unchecked(sql_world, statements):
    """Run statements in the locked DuckDB without the syntax check; return ((outcome, message) of each, exit code)."""
    child = subprocess.run(
        [sys.executable, "-I", "-c", LOCKED, str(ROOT)],
        input=json.dumps({**sql_world.request(""), "statements": statements}),
        capture_output=True,
        text=True,
        env={},
        check=False,
    )
    return [json.loads(line) for line in child.stdout.splitlines()], child.returncode


def test_locked_duckdb_rejects_unchecked_statements(sql_world):
    """The second layer alone."""
    before = sql_world.state()
    outcomes, code = run_unchecked(
        sql_world,
        [
            f"COPY (SELECT 1 AS a) TO '{sql_world.part}' (FORMAT csv)",
            f"COPY (SELECT 1) TO '{sql_world.secrets}/new.csv'",
            f"SELECT * FROM read_text('{sql_world.secrets}/secret.txt')",
            f"SELECT * FROM '{sql_world.secrets}/secret.csv'",
            f"SELECT * FROM read_parquet('{sql_world.other_part}')",
            f"ATTACH '{sql_world.secrets}/secret.duckdb'",
            "SELECT * FROM glob('/*')",
            "LOAD httpfs",
            "SET enable_external_access = true",
            "SET lock_configuration = false",
            "SET temp_directory = '/tmp'",
        ],
    )
    assert code == 0
    for outcome, message in outcomes:
        assert outcome == "rejected"
        assert any(word in message for word in ("disabled", "locked")), message
    assert sql_world.state() == before


@needs_landlock
@pytest.mark.parametrize("kind", ["csv", "parquet", "json"])
def test_kernel_denies_writes_to_allowed_parts(sql_world, kind):
    """The third layer alone: DuckDB allows access to a part, even for a COPY that overwrites it."""
    before = sql_world.state()
    statements = [
        f"COPY (SELECT 1 AS a) TO '{part}' (FORMAT {kind}, USE_TMP_FILE false)"
        for part in (sql_world.part, sql_world.files[-1])
    ]
    outcomes, _ = run_unchecked(sql_world, statements)
    assert [outcome for outcome, _ in outcomes] == ["rejected"] * 2, outcomes
    assert all("Permission denied" in message for _, message in outcomes), outcomes
    assert sql_world.state() == before


ON_FILES = """
import json, os, socket, sys
sys.path.append(sys.argv[1])
from promptreel.api.sql.landlock import allow_reading_only
allowed, other, folder, port = sys.argv[2:]
tries = {
    "read allowed": lambda: open(allowed).read(),
    "read other": lambda: open(other).read(),
    "write allowed": lambda: open(allowed, "a"),
    "empty allowed": lambda: os.open(allowed, os.O_WRONLY | os.O_TRUNC),
    "truncate allowed": lambda: os.truncate(allowed, 0),
    "remove allowed": lambda: os.unlink(allowed),
    "rename allowed": lambda: os.rename(allowed, allowed + ".x"),
    "link allowed": lambda: os.link(allowed, folder + "/link"),
    "make file": lambda: open(folder + "/new", "w"),
    "make folder": lambda: os.mkdir(folder + "/new"),
    "list folder": lambda: os.listdir(folder),
    "run program": lambda: os.execv(sys.executable, [sys.executable, "-c", "pass"]),
    "connect": lambda: socket.create_connection(("127.0.0.1", int(port)), 5),
}
assert allow_reading_only([allowed])
outcomes = {}
for name, attempt in tries.items():
    try:
        attempt()
        outcomes[name] = "done"
    except OSError as error:
        outcomes[name] = error.errno
print(json.dumps(outcomes))
"""


@needs_landlock
def test_kernel_allows_only_reading_given_files(sql_world, tmp_path):
    """Also if the process runs as root."""
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    allowed.write_text("a")
    other.write_text("b")
    command = [
        sys.executable,
        "-I",
        "-c",
        ON_FILES,
        str(ROOT),
        allowed,
        other,
        tmp_path,
        str(sql_world.server.server_port),
    ]
    outcomes = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert outcomes.pop("read allowed") == "done"
    if landlock_version() < 4:
        outcomes.pop("connect")
    rejected = {code for code in outcomes.values() if code in (1, 13, 18)}  # EPERM, EACCES, EXDEV
    assert set(outcomes.values()) == rejected, outcomes
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"allowed": "a", "other": "b"}


def test_cte_name_does_not_allow_a_file_of_that_name(sql_world, sandbox):
    """The name of a common table expression does not allow a file of that name outside its scope."""
    inner = f'(WITH "{sql_world.secrets}/secret.csv" AS (SELECT 1 AS a) SELECT 1 AS b)'
    with pytest.raises(SqlError) as rejection:
        run(sandbox, sql_world, f'SELECT * FROM {inner}, "{sql_world.secrets}/secret.csv"')
    assert rejection.value.code == "sql_rejected"
