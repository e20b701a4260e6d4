"""The locked-down processes: nothing of a hostile query gets out, nothing changes, and each one ends in time."""

import contextlib
import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from promptreel.api.sql.landlock import landlock_version
from promptreel.api.sql.limits import SqlLimits
from promptreel.api.sql.sandbox import Sandbox, SqlError
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.tables.analyst_views import analyst_views
from promptreel.tables.layout import run_folder
from promptreel.tables.reader import committed_run
from promptreel.tables.storage import open_storage
from tests.sql_runs import (
    FIRST_RUN,
    OTHER_RUN,
    SECOND,
    SECOND_RUN,
    SECRET,
    answers_of_children,
    commit_run,
    corpus,
    second_fields,
    tree_hash,
)

ROOT = Path(__file__).parents[2]
LIMITS = SqlLimits(timeout_s=10)
needs_landlock = pytest.mark.skipif(landlock_version() == 0, reason="this kernel has no Landlock; Linux 5.13 has")


class World:
    """A data folder with runs of two accounts, a folder of secrets beside it, and a web server that counts its visitors."""

    def __init__(self, folder):
        self.data, self.secrets = folder / "data", folder / "secrets"
        commit_run(self.data, FIRST_RUN)
        commit_run(self.data, SECOND_RUN, SECOND, second_fields)
        commit_run(self.data, OTHER_RUN, word=SECRET)
        self.secrets.mkdir()
        for name, text in (
            ("secret.txt", SECRET),
            ("secret.csv", f"a,b\n{SECRET},1\n"),
            ("secret.json", json.dumps({"a": SECRET})),
        ):
            (self.secrets / name).write_text(text)
        with duckdb.connect(str(self.secrets / "secret.duckdb")) as connection:
            connection.execute(f"CREATE TABLE t AS SELECT '{SECRET}' AS a")
            connection.execute(f"COPY t TO '{self.secrets}/secret.parquet'")
        storage = open_storage(self.data)
        runs = [committed_run(storage, run_id) for run_id in (SECOND_RUN, FIRST_RUN)]
        self.tables = analyst_views(storage, runs)
        self.views = {view.name: view.sql for view in self.tables.views}
        self.files = self.tables.files
        self.part = self._part_of(storage, FIRST_RUN)
        self.other_part = self._part_of(storage, OTHER_RUN)
        self.visits = []
        visits = self.visits

        class Canary(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                visits.append(self.path)
                self.send_response(404)
                self.end_headers()

            do_HEAD = do_PUT = do_POST = do_GET

            def log_message(self, *words):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Canary)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _part_of(self, storage, run_id):
        part = committed_run(storage, run_id).manifest.parts_of("results")[0]
        return str(self.data / run_folder(run_id) / part.file)

    def filled(self, statement):
        """A statement of a corpus with this world's places."""
        places = {
            "part": self.part, "other_part": self.other_part, "folder": str(self.secrets), "run": FIRST_RUN,
            "other": OTHER_RUN, "url": f"http://127.0.0.1:{self.server.server_port}",
        }  # fmt: skip
        for name, place in places.items():
            statement = statement.replace("{" + name + "}", place)
        return statement.replace("{{", "{").replace("}}", "}")

    def request(self, statement, limits=LIMITS):
        return {
            "query": statement, "views": self.views, "files": list(self.files), "row_limit": 50, "check_only": False,
            "limits": limits.to_child(),
        }  # fmt: skip

    def state(self):
        return tree_hash(self.data), tree_hash(self.secrets)

    def tells(self, text):
        """What an answer lets out, by the words that it must not hold."""
        return [word for word in (SECRET, str(self.data), "root:x:0") if word in text]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("sql"))
    yield world
    world.server.shutdown()
    world.server.server_close()


@pytest.fixture(scope="module")
def sandbox():
    sandbox = Sandbox(LIMITS)
    sandbox.warm()
    yield sandbox
    sandbox.close()


def run(sandbox, world, statement, **options):
    return sandbox.run(statement, world.views, world.files, **{"row_limit": 100, **options})


def test_escapes_return_nothing_and_change_no_file(world):
    before = world.state()
    statements = [(world.filled(text), quiet) for text, quiet in corpus("escapes.txt")]
    assert len(statements) >= 150
    answers = answers_of_children([world.request(text) for text, _ in statements], LIMITS.memory_bytes)
    assert len(answers) == len(statements)
    for (statement, quiet), (code, text) in zip(statements, answers, strict=True):
        # A refusal repeats what was asked; what it must not do is to say what lies there.
        found = json.loads(text) if code == 0 and text else None
        assert found is not None, f"{statement!r} ended its process ({code})"
        if not quiet:
            assert found.get("error", {}).get("code") == "sql_rejected", (statement, text)
            assert not (SECRET in text and SECRET not in statement), statement
        else:
            said = json.dumps(found.get("rows", []))
            assert not [word for word in world.tells(said) if word not in statement], (statement, text)
    assert world.state() == before
    assert world.visits == []


@pytest.mark.parametrize("statement", [text for text, quiet in corpus("escapes.txt") if not quiet][::30])
def test_pool_rejects_sampled_escapes(world, sandbox, statement):
    before = world.state()
    with pytest.raises(SqlError) as refused:
        run(sandbox, world, world.filled(statement))
    assert refused.value.code == "sql_rejected"
    assert world.state() == before


@pytest.mark.slow
@pytest.mark.parametrize("statement", [text for text, quiet in corpus("escapes.txt") if not quiet])
def test_pool_rejects_every_escape(world, sandbox, statement):
    with pytest.raises(SqlError) as refused:
        run(sandbox, world, world.filled(statement))
    assert refused.value.code == "sql_rejected"


BOMBS = [text for text, _ in corpus("bombs.txt")]


def check_bombs(world, statements):
    """Each ends, refused, by its deadline; the pool answers afterwards; nothing has changed."""
    sandbox = Sandbox(SqlLimits(timeout_s=1, waiting=100))
    before = world.state()

    def ended(statement):
        with pytest.raises(SqlError) as error:
            run(sandbox, world, statement, account=statement)
        return error.value.code

    try:
        with ThreadPoolExecutor(2) as threads:
            codes = dict(zip(statements, threads.map(ended, statements), strict=True))
        assert set(codes.values()) <= {"sql_timeout", "sql_too_large", "sql_rejected"}, codes
        assert run(sandbox, world, "SELECT 1 AS a")["rows"] == [{"a": 1}]
    finally:
        sandbox.close()
    assert world.state() == before
    return codes


def test_sampled_bombs_are_stopped(world):
    codes = check_bombs(world, BOMBS[::6])
    assert len(codes) >= 8
    assert set(codes.values()) == {"sql_timeout", "sql_too_large"}


@pytest.mark.slow
def test_every_bomb_is_stopped(world):
    assert len(BOMBS) >= 30
    refused = [statement for statement, code in check_bombs(world, BOMBS).items() if code == "sql_rejected"]
    assert len(refused) <= len(BOMBS) // 4, refused


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
def test_large_or_deep_queries_are_answered_or_rejected(world, sandbox, statement, code):
    if code is None:
        assert len(run(sandbox, world, statement)["rows"]) == 1
        return
    with pytest.raises(SqlError) as refused:
        run(sandbox, world, statement)
    assert refused.value.code == code


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
        print(json.dumps(["refused", str(error)]), flush=True)
"""


def unguarded(world, statements):
    """(outcome, message) of statements that go straight to the locked DuckDB, with no check of what they are, and how the
    process ended."""
    child = subprocess.run(
        [sys.executable, "-I", "-c", LOCKED, str(ROOT)],
        input=json.dumps({**world.request(""), "statements": statements}),
        capture_output=True,
        text=True,
        env={},
        check=False,
    )
    return [json.loads(line) for line in child.stdout.splitlines()], child.returncode


def test_locked_duckdb_rejects_unchecked_statements(world):
    """The second layer by itself."""
    before = world.state()
    outcomes, code = unguarded(
        world,
        [
            f"COPY (SELECT 1 AS a) TO '{world.part}' (FORMAT csv)",
            f"COPY (SELECT 1) TO '{world.secrets}/new.csv'",
            f"SELECT * FROM read_text('{world.secrets}/secret.txt')",
            f"SELECT * FROM '{world.secrets}/secret.csv'",
            f"SELECT * FROM read_parquet('{world.other_part}')",
            f"ATTACH '{world.secrets}/secret.duckdb'",
            "SELECT * FROM glob('/*')",
            "LOAD httpfs",
            "SET enable_external_access = true",
            "SET lock_configuration = false",
            "SET temp_directory = '/tmp'",
        ],
    )
    assert code == 0
    for outcome, message in outcomes:
        assert outcome == "refused"
        assert any(word in message for word in ("disabled", "locked")), message
    assert world.state() == before


@needs_landlock
@pytest.mark.parametrize("kind", ["csv", "parquet", "json"])
def test_kernel_denies_writes_to_allowed_parts(world, kind):
    """The third layer by itself: a part is among the paths that DuckDB allows, also to a COPY in place."""
    before = world.state()
    statements = [
        f"COPY (SELECT 1 AS a) TO '{part}' (FORMAT {kind}, USE_TMP_FILE false)"
        for part in (world.part, world.files[-1])
    ]
    outcomes, _ = unguarded(world, statements)
    assert [outcome for outcome, _ in outcomes] == ["refused"] * 2, outcomes
    assert all("Permission denied" in message for _, message in outcomes), outcomes
    assert world.state() == before


ON_FILES = """
import json, os, socket, sys
sys.path.append(sys.argv[1])
from promptreel.api.sql.landlock import allow_reading_only
mine, other, folder, port = sys.argv[2:]
tries = {
    "read mine": lambda: open(mine).read(),
    "read other": lambda: open(other).read(),
    "write mine": lambda: open(mine, "a"),
    "empty mine": lambda: os.open(mine, os.O_WRONLY | os.O_TRUNC),
    "truncate mine": lambda: os.truncate(mine, 0),
    "remove mine": lambda: os.unlink(mine),
    "rename mine": lambda: os.rename(mine, mine + ".x"),
    "link mine": lambda: os.link(mine, folder + "/link"),
    "make file": lambda: open(folder + "/new", "w"),
    "make folder": lambda: os.mkdir(folder + "/new"),
    "list folder": lambda: os.listdir(folder),
    "run program": lambda: os.execv(sys.executable, [sys.executable, "-c", "pass"]),
    "connect": lambda: socket.create_connection(("127.0.0.1", int(port)), 5),
}
assert allow_reading_only([mine])
told = {}
for name, attempt in tries.items():
    try:
        attempt()
        told[name] = "done"
    except OSError as error:
        told[name] = error.errno
print(json.dumps(told))
"""


@needs_landlock
def test_kernel_allows_only_reading_given_files(world, tmp_path):
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.write_text("a")
    other.write_text("b")
    command = [sys.executable, "-I", "-c", ON_FILES, str(ROOT), mine, other, tmp_path, str(world.server.server_port)]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert told.pop("read mine") == "done"
    if landlock_version() < 4:
        told.pop("connect")
    refused = {code for code in told.values() if code in (1, 13, 18)}  # EPERM, EACCES, EXDEV
    assert set(told.values()) == refused, told
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"mine": "a", "other": "b"}


def test_process_has_empty_environment_and_folder_and_no_descriptors(sandbox, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", SECRET)
    with open(os.devnull) as held:  # a descriptor of the service that no process may have
        os.set_inheritable(held.fileno(), True)
        fresh = Sandbox(SqlLimits(warm=1))
        try:
            child = fresh._take()
            place = Path(f"/proc/{child._process.pid}")
            assert (place / "environ").read_bytes() == b""
            assert len(list((place / "fd").iterdir())) == 3
            assert list((place / "cwd").iterdir()) == []
            assert os.getsid(child._process.pid) == child._process.pid
            limits = (place / "limits").read_text()
            assert [
                line.split()[-3:-1] for line in limits.splitlines() if line.startswith(("Max file size", "Max core"))
            ] == [["0", "0"]] * 2
            child.end()
        finally:
            fresh.close()


def test_each_query_runs_in_a_process_that_exits(world):
    sandbox = Sandbox(SqlLimits(warm=1))
    seen = []
    take = sandbox._take

    def watched():
        child = take()
        seen.append(child._process)
        return child

    sandbox._take = watched
    try:
        for _ in range(3):
            run(sandbox, world, "SELECT count(*) FROM segments")
        with pytest.raises(SqlError):
            run(sandbox, world, "nonsense")
    finally:
        sandbox.close()
    assert len({process.pid for process in seen}) == 4
    for process in seen:
        process.wait(timeout=5)
        assert not Path(f"/proc/{process.pid}").exists()


def test_processes_exit_with_the_service(world):
    code = (
        "import sys, time, threading; sys.path.append(sys.argv[1])\n"
        "from promptreel.api.sql.sandbox import Sandbox; from promptreel.api.sql.limits import SqlLimits\n"
        "sandbox = Sandbox(SqlLimits(timeout_s=60)); child = sandbox._take(); print(child._process.pid, flush=True)\n"
        "import os; os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    until = threading.Event()
    for _ in range(100):
        if not _lives(pid):
            return
        until.wait(0.1)
    raise AssertionError(f"process {pid} outlives its service")


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_sandbox_reports_tables_and_columns(world, sandbox):
    answer = run(sandbox, world, f'SELECT count(*) AS n FROM "{FIRST_RUN}" JOIN media USING (video_id);')
    assert answer["tables"] == sorted([FIRST_RUN, "media"])
    assert answer["columns"] == [{"name": "n", "type": "BIGINT"}]


def test_limit_applies_after_filtering_by_field(tmp_path, sandbox):
    prompt = prompt_from_dict(
        {
            "name": "flat",
            "prompt_text": "Say how long it is.",
            "json_schema": {"type": "object", "properties": {"seconds": {"type": "number"}}},
        }
    )
    commit_run(tmp_path, FIRST_RUN, prompt, lambda number, word: {"seconds": float(number)})
    storage = open_storage(tmp_path)
    tables = analyst_views(storage, [committed_run(storage, FIRST_RUN)])
    views = {view.name: view.sql for view in tables.views}
    for source in (f'"{FIRST_RUN}"', "segments"):
        statement = f"SELECT video_id, start_time, seconds FROM {source} WHERE seconds >= 2 ORDER BY start_time LIMIT 2"
        rows = sandbox.run(statement, views, tables.files, row_limit=100)["rows"]
        assert [row["seconds"] for row in rows] == [2.0, 4.0]  # the third of four has failed


def test_row_and_byte_limits_are_reported(world, sandbox):
    assert run(sandbox, world, "FROM range(10)", row_limit=10)["truncated"] is False
    answer = run(sandbox, world, "FROM range(11)", row_limit=10)
    assert (len(answer["rows"]), answer["truncated"]) == (10, True)
    small = Sandbox(SqlLimits(max_answer_bytes=10_000, warm=0))
    try:
        answer = run(small, world, "SELECT repeat('x', 3000) AS a FROM range(10)")
        assert (len(answer["rows"]), answer["truncated"]) == (3, True)
        with pytest.raises(SqlError, match="One row exceeds"):
            run(small, world, "SELECT repeat('x', 30000) AS a")
    finally:
        small.close()


def test_values_of_every_type_are_json(world, sandbox):
    statement = """SELECT 1.5 AS d, 0.10::DECIMAL(10,2) AS e, 12345678901234567890.123::DECIMAL(38,3) AS big_decimal,
        9007199254740992 AS exact, 9007199254740993 AS beyond, 170141183460469231731687303715884105727 AS huge,
        'nan'::DOUBLE AS nan, '-inf'::FLOAT AS inf, DATE '2026-04-20' AS day, TIMESTAMP '2026-04-20 10:00:00.5' AS t,
        TIMESTAMPTZ '2026-04-20 12:00:00+02' AS tz, DATE '290000-01-01' AS far, 'a'::BLOB AS blob,
        {'a': [{'b': 'nan'::DOUBLE}]} AS nested, map(['k'], [[1]]) AS m, map([1], ['x']) AS n, [1, NULL] AS l,
        'é\u2603'  AS text, NULL AS nothing, true AS yes, INTERVAL 1 DAY AS span,
        '123e4567-e89b-12d3-a456-426614174000'::UUID AS id, 1 AS a, 2 AS a"""
    (row,) = run(sandbox, world, statement)["rows"]
    assert row == {
        "d": 1.5, "e": 0.1, "big_decimal": "12345678901234567890.123", "exact": 9007199254740992,
        "beyond": "9007199254740993", "huge": "170141183460469231731687303715884105727", "nan": None, "inf": None,
        "day": "2026-04-20", "t": "2026-04-20T10:00:00.500000", "tz": "2026-04-20T10:00:00+00:00",
        "far": "290000-01-01", "blob": "YQ==", "nested": {"a": [{"b": None}]}, "m": {"k": [1]}, "n": {"1": "x"},
        "l": [1, None], "text": "é☃", "nothing": None, "yes": True, "span": "1 day, 0:00:00",
        "id": "123e4567-e89b-12d3-a456-426614174000", "a": 1, "a_1": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    "statement",
    """SELECT *, row_number() OVER (PARTITION BY video_id ORDER BY start_time) AS n FROM segments QUALIFY n = 1
    SELECT list_transform("products[].name", lambda x: upper(x)) FROM "{run}"
    SELECT [x for x in keywords if x > 'a'] FROM "{run}"
    SELECT a.* FROM segments a ASOF JOIN segments b ON a.video_id = b.video_id AND a.start_time >= b.start_time
    SELECT * FROM "{run}", LATERAL (SELECT unnest(keywords) AS word)
    SELECT video_id, count(*) FROM segments GROUP BY GROUPING SETS ((video_id), ())
    SELECT * FROM segments USING SAMPLE 2 ROWS
    SELECT DISTINCT ON (video_id) * FROM segments ORDER BY ALL
    SELECT 1 AS a UNION ALL BY NAME SELECT 2 AS b
    WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT * FROM t
    WITH segments AS (SELECT * FROM segments WHERE status = 'failed') SELECT * FROM segments
    SELECT COLUMNS('.*_time') FROM segments
    SELECT * EXCLUDE (status) REPLACE (1 AS start_time) FROM segments
    SELECT count(*) FILTER (WHERE start_time > 1), string_agg(segment_id, ',' ORDER BY start_time) FROM segments
    SELECT * FROM (PIVOT segments ON status IN ('failed', 'succeeded') USING count(*) GROUP BY video_id)
    SELECT * FROM (UNPIVOT (SELECT segment_id, start_time, end_time FROM segments) ON start_time, end_time)
    FROM segments SELECT video_id
    DESCRIBE segments
    SUMMARIZE "{run}"
    SELECT f.code, m.name FROM failures f JOIN media m USING (run_id, video_id)
    SELECT word.text FROM (SELECT unnest(words) AS word FROM transcripts)
    SELECT fields.scene.location FROM (SELECT NULL::STRUCT(scene STRUCT(location VARCHAR)) AS fields)
    SELECT "main"."segments"."video_id" FROM main.segments
    SELECT * FROM json_each((SELECT metadata FROM results LIMIT 1))
    (SELECT 1) INTERSECT (SELECT 1) -- with a comment at its end""".splitlines(),
)
def test_read_only_sql_of_every_form_is_answered(world, sandbox, statement):
    assert run(sandbox, world, world.filled(statement.strip()))["rows"] is not None


def test_cte_name_does_not_allow_a_file_of_that_name(world, sandbox):
    """A name of the query's own does not open a file of that name outside its reach."""
    inner = f'(WITH "{world.secrets}/secret.csv" AS (SELECT 1 AS a) SELECT 1 AS b)'
    with pytest.raises(SqlError) as refused:
        run(sandbox, world, f'SELECT * FROM {inner}, "{world.secrets}/secret.csv"')
    assert refused.value.code == "sql_rejected"


def test_one_account_cannot_use_all_slots():
    sandbox = Sandbox(SqlLimits(running=3, waiting=1, timeout_s=1, warm=0))
    try:
        with contextlib.ExitStack() as held:
            for account in ("greedy", "greedy", "other"):
                held.enter_context(sandbox._place(account))
            with pytest.raises(SqlError) as busy, sandbox._place("greedy"):
                pass
            assert busy.value.code == "sql_busy"
            with pytest.raises(SqlError), sandbox._place("third"):
                pass  # admitted, and no process came free in time
        for account in ("greedy", "greedy", "greedy"):
            with sandbox._place(account):
                pass
        assert sandbox._admitted.total() == 0
    finally:
        sandbox.close()


def test_stopped_process_is_killed_at_the_deadline(world):
    sandbox = Sandbox(SqlLimits(timeout_s=1, warm=0))
    taken = []
    take = sandbox._take

    def stopped():
        child = take()
        os.kill(child._process.pid, signal.SIGSTOP)
        taken.append(child._process)
        return child

    sandbox._take = stopped
    try:
        with pytest.raises(SqlError) as error:
            run(sandbox, world, "SELECT 1")
    finally:
        sandbox.close()
    assert error.value.code == "sql_timeout"
    assert taken[0].wait(timeout=10) == -signal.SIGKILL


def test_many_parts_are_read(tmp_path, sandbox):
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT range AS a FROM range(10)) TO '{tmp_path}/0.parquet'")
    content = (tmp_path / "0.parquet").read_bytes()
    files = [str(tmp_path / f"{number}.parquet") for number in range(600)]
    for file in files:
        Path(file).write_bytes(content)
    listed = ", ".join(f"'{file}'" for file in files)
    answer = sandbox.run(
        "SELECT count(*) AS n, sum(a) AS s FROM t", {"t": f"SELECT * FROM read_parquet([{listed}])"}, files, row_limit=1
    )
    assert answer["rows"] == [{"n": 6000, "s": 600 * 45}]
    assert hashlib.sha256(content).digest() == hashlib.sha256(Path(files[-1]).read_bytes()).digest()
