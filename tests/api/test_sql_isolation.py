"""SQL over the API between accounts, under load, and with hostile queries."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient

from promptreel.api.app import PREFIX
from promptreel.api.sql.limits import SqlLimits
from tests.api.sql_service import ELSEWHERE, SqlService
from tests.pipeline_runs import wait_for
from tests.sql_runs import (
    FIRST_RUN,
    OTHER_RUN,
    SECOND_RUN,
    SECRET,
    SEGMENTS,
    commit_run,
    corpus,
    tree_hash,
)

pytest_plugins = ["tests.api.sql_fixtures"]


def test_warm_processes_exit_with_the_service(tmp_path):
    data = tmp_path / "data"
    for run_id in (FIRST_RUN, SECOND_RUN, ELSEWHERE, OTHER_RUN):
        commit_run(data, run_id)
    sql_service = SqlService(data)
    with TestClient(sql_service.app) as sql_service.client:
        sandbox = sql_service.app.state.sql_sandbox
        wait_for(lambda: len(sandbox._ready) == sandbox.limits.warm)
        ready = [child._process for child in sandbox._ready]
        sql_service.rows("SELECT 1")
    for process in ready:
        process.wait(timeout=10)
    assert not sandbox._ready


@pytest.mark.parametrize("path", ["", "/catalog", "/generate"])
def test_other_accounts_runs_and_indexes_are_404(sql_service, path):
    body = {"query": "SELECT 1", "instruction": "x"}
    for request in (
        sql_service.post(f"idx_other{path}", body),
        sql_service.post(f"idx_mine{path}", {**body, "index_ids": ["idx_other"]}),
        sql_service.post(f"idx_mine{path}", {**body, "run_ids": [OTHER_RUN]}),
        sql_service.post(f"idx_mine{path}", {**body, "run_ids": [FIRST_RUN, OTHER_RUN]}),
        sql_service.post(f"idx_nowhere{path}", body),
        sql_service.post(f"idx_mine{path}", {**body, "run_ids": ["../../etc"]}),
        sql_service.post(f"idx_mine{path}", body, who="other"),
    ):
        assert request.status_code == 404, request.text
        assert request.json()["error"]["code"] in ("resource_index_not_found", "resource_run_not_found")
        assert SECRET not in request.text
    assert sql_service.post(f"idx_mine{path}", {**body, "run_ids": [OTHER_RUN]}).json()["error"]["message"] == (
        f"Run {OTHER_RUN} does not exist."
    )


def test_other_accounts_run_is_not_a_table(sql_service):
    answer = sql_service.post("idx_mine", {"query": f'SELECT * FROM "{OTHER_RUN}"'})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "sql_rejected")
    assert "Unknown table" in answer.json()["error"]["message"]
    assert SECRET not in json.dumps(sql_service.rows("SELECT * FROM results", result_limit=2000))
    assert SECRET in sql_service.post("idx_other", {"query": "SELECT * FROM results"}, who="other").text


def test_rejection_has_duckdb_message_without_service_paths(sql_service):
    answer = sql_service.post("idx_mine", {"query": "SELECT nothing FROM segments"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (422, "sql_rejected")
    assert 'Referenced column "nothing" not found' in error["message"]
    for query in (
        "SELEC 1",
        "SELECT 1; SELECT 2",
        "COPY segments TO 'x.csv'",
        "SELECT * FROM read_text('/etc/passwd')",
    ):
        rejected = sql_service.post("idx_mine", {"query": query})
        assert (rejected.status_code, rejected.json()["error"]["code"]) == (422, "sql_rejected"), query
        assert str(sql_service.data) not in rejected.text
    missing = sql_service.post("idx_mine", {"query": "SELECT 1 " + " " * 20_000})
    assert (missing.status_code, missing.json()["error"]["code"]) == (422, "sql_too_large")
    assert sql_service.post("idx_mine", {"query": ""}).status_code == 422
    assert sql_service.post("idx_mine", {}).status_code == 422


def test_escapes_over_http_are_rejected_and_change_nothing(sql_service):
    before = tree_hash(sql_service.data / "runs")
    part = next((sql_service.data / "runs" / FIRST_RUN / "parts" / "results").iterdir())
    for statement, quiet in corpus("escapes.txt")[::40]:
        if not quiet:
            answer = sql_service.post("idx_mine", {"query": statement.replace("{part}", str(part))})
            assert (answer.status_code, answer.json()["error"]["code"]) == (422, "sql_rejected"), statement
    assert tree_hash(sql_service.data / "runs") == before


def test_damaged_part_error_has_no_service_path(tmp_path):
    data = tmp_path / "data"
    for run_id in (FIRST_RUN, SECOND_RUN, ELSEWHERE, OTHER_RUN):
        commit_run(data, run_id)
    (part,) = (data / "runs" / FIRST_RUN / "parts" / "results").iterdir()
    part.write_bytes(part.read_bytes()[:100])
    sql_service = SqlService(data)
    with TestClient(sql_service.app) as sql_service.client:
        answer = sql_service.post("idx_mine", {"query": f'SELECT * FROM "{FIRST_RUN}"'})
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "sql_rejected")
        assert str(data) not in answer.text
        assert sql_service.rows(f'SELECT count(*) AS n FROM "{SECOND_RUN}"')["rows"] == [{"n": SEGMENTS - 3}]


def test_service_responds_while_bombs_run(tmp_path):
    data = tmp_path / "data"
    for run_id in (FIRST_RUN, SECOND_RUN, ELSEWHERE, OTHER_RUN):
        commit_run(data, run_id)
    sql_service = SqlService(data)
    sql_service.app.state.sql_limits = SqlLimits(timeout_s=10)  # far longer than the other requests take
    bomb = {"query": "SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000000) c"}
    with TestClient(sql_service.app) as sql_service.client, ThreadPoolExecutor(4) as threads:
        bombs = [threads.submit(sql_service.post, "idx_mine", bomb) for _ in range(4)]
        threading.Event().wait(0.5)
        status = sql_service.client.get("/healthz")
        listed = sql_service.client.get(f"{PREFIX}/indexes", headers={"X-API-Key": sql_service.keys["other"]})
        assert not any(bomb.done() for bomb in bombs), "the bombs ended before the other requests were answered"
        assert (status.status_code, listed.status_code) == (200, 200)
        ended = [bomb.result().json()["error"]["code"] for bomb in bombs]
    assert ended == ["sql_timeout"] * 4


def test_excess_queries_are_429_with_retry_after(tmp_path):
    data = tmp_path / "data"
    commit_run(data, FIRST_RUN)
    for run_id in (SECOND_RUN, ELSEWHERE, OTHER_RUN):
        commit_run(data, run_id)
    sql_service = SqlService(data)
    sql_service.app.state.sql_limits = SqlLimits(timeout_s=1, running=1, waiting=1, warm=1)
    bomb = {"query": "SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000000) c"}
    with TestClient(sql_service.app) as sql_service.client, ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: sql_service.post("idx_mine", bomb), range(4)))
    codes = sorted(answer.json()["error"]["code"] for answer in answers)
    assert codes == ["sql_busy", "sql_busy", "sql_busy", "sql_timeout"]
    busy = [answer for answer in answers if answer.status_code == 429]
    assert [answer.headers["retry-after"] for answer in busy] == ["1"] * 3


def test_missing_key_is_401(sql_service):
    answer = sql_service.client.post(f"{PREFIX}/search/sql/idx_mine", json={"query": "SELECT 1"})
    assert answer.status_code == 401
