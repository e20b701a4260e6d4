"""SQL over the API: catalog, rows, row context and scope."""

import json

import duckdb
import pytest

from promptreel.api.app import PREFIX
from promptreel.api.db.models import MediaIndex, RunRecord
from promptreel.schemas.wire.sql import SqlCatalogBody, SqlRowsBody
from tests.api.sql_service import ELSEWHERE, UNFINISHED, day_of_january
from tests.sql_runs import (
    FIRST_RUN,
    OTHER_RUN,
    SECOND_RUN,
    SEGMENTS,
    first_fields,
)

pytest_plugins = ["tests.api.sql_fixtures"]


def test_catalog_lists_run_tables_and_common_tables(sql_service):
    answer = sql_service.post("idx_mine/catalog")
    assert answer.status_code == 200
    body = answer.json()
    SqlCatalogBody.model_validate(body)
    tables = {table["name"]: table for table in body["tables"]}
    assert list(tables) == [
        SECOND_RUN, FIRST_RUN, "segments", "media", "results", "field_evidence", "transcripts", "utterances",
        "video_results", "failures", "frames", "current_results", "current_fields",
    ]  # fmt: skip
    first = tables[FIRST_RUN]
    assert (first["run_id"], first["prompt_id"], first["row_count"]) == (FIRST_RUN, "prompt_nested", SEGMENTS - 3)
    columns = {column["name"]: column for column in first["columns"]}
    assert columns["video_id"] == {"name": "video_id", "type": "VARCHAR", "field_path": None}
    assert columns["products[].price"] == {
        "name": "products[].price", "type": "DOUBLE[]", "field_path": "products[].price",
    }  # fmt: skip
    assert columns["metadata.start_time"]["field_path"] == "start_time"
    assert tables["segments"]["row_count"] == 2 * SEGMENTS
    assert tables["failures"]["row_count"] == 6
    assert body["limits"]["max_result_limit"] == 2000
    assert body["run_ids"] == [SECOND_RUN, FIRST_RUN]
    assert "uri" not in {column["name"] for column in tables["media"]["columns"]}


def test_catalog_columns_and_counts_agree_with_queries(sql_service):
    tables = sql_service.post("idx_mine/catalog").json()["tables"]
    counts = " UNION ALL ".join(f"SELECT '{t['name']}' AS name, count(*) AS n FROM \"{t['name']}\"" for t in tables)
    assert sql_service.rows(counts)["rows"] == [{"name": table["name"], "n": table["row_count"]} for table in tables]
    for table in tables:
        described = sql_service.rows(f'DESCRIBE "{table["name"]}"', result_limit=2000)["rows"]
        listed = [(column["name"], column["type"]) for column in table["columns"]]
        assert listed == [(row["column_name"], row["column_type"]) for row in described], table["name"]


def test_catalog_examples_run(sql_service):
    shown = sql_service.post("idx_mine/catalog").json()["examples"]
    assert len(shown) == 9
    for example in shown:
        assert sql_service.rows(example["query"])["rows"], example


def test_index_without_runs_has_empty_tables(sql_service):
    with sql_service.app.state.database.write() as session:
        account = session.get(MediaIndex, "idx_mine").account_id
        session.merge(MediaIndex(index_id="idx_empty", account_id=account, name="e", created_at=day_of_january(1)))
    body = sql_service.post("idx_empty/catalog").json()
    assert {table["row_count"] for table in body["tables"]} == {0}
    for example in body["examples"]:
        assert sql_service.rows(example["query"], "idx_empty")["rows"] == []


def test_rows_agree_with_plain_duckdb(sql_service):
    answer = sql_service.rows(
        f'SELECT segment_id, "scene.location", "products[].name" FROM "{FIRST_RUN}" ORDER BY segment_id',
        result_limit=50,
    )
    SqlRowsBody.model_validate(answer)
    with duckdb.connect() as plain:
        plain.execute(
            f"CREATE VIEW r AS FROM read_parquet('{sql_service.data}/runs/{FIRST_RUN}/tables/results/*.parquet')"
        )
        expected = plain.execute(
            "SELECT segment_id, fields.scene.location, [p.name for p in fields.products] FROM r ORDER BY segment_id"
        ).fetchall()
    assert [tuple(row.values()) for row in answer["rows"]] == expected
    assert (answer["truncated"], answer["applied_result_limit"]) == (False, 50)
    assert answer["columns"][2] == {"name": "products[].name", "type": "VARCHAR[]"}


def test_segments_combine_runs_and_unify_field_types(sql_service):
    rows = sql_service.rows("FROM segments ORDER BY run_id, start_time", result_limit=100)["rows"]
    assert len(rows) == 2 * SEGMENTS
    for number, row in enumerate(rows[:SEGMENTS]):
        fields = first_fields(number)
        done = row["status"] == "succeeded"
        assert done is (number % 4 != 3)
        assert row["segment_id"] == f"seg_{number}"
        assert row["scene.people_count"] == (number if done else None)
        assert row["summary"] == (json.dumps(fields["summary"]) if done else None)
        assert row["metadata.start_time"] == (fields["start_time"] if done else None)
        assert row["count"] is None
    for number, row in enumerate(rows[SEGMENTS:]):
        done = row["status"] == "succeeded"
        assert row["metadata.status"] == ("good" if done else None)
        assert json.loads(row["summary"] or "[]") == (["a word", str(number)] if done else [])
        assert row["metadata.start_time"] == (number if done else None)


def test_current_views_have_each_segment_of_a_prompt_once(sql_service):
    answers = sql_service.rows(
        "SELECT prompt_name, count(*) AS n, count(DISTINCT segment_id) AS d FROM current_results GROUP BY 1 ORDER BY 1"
    )["rows"]
    assert answers == [{"prompt_name": name, "n": 9, "d": 9} for name in ("nested", "second")]
    rows = sql_service.rows("SELECT * FROM current_fields WHERE segment_id = 'seg_2' ORDER BY prompt_name")
    assert [(row["run_id"], row["count"], row["metadata.start_time"]) for row in rows["rows"]] == [
        (FIRST_RUN, None, 2.5), (SECOND_RUN, 2, 2.0),
    ]  # fmt: skip
    assert [context["segment_id"] for context in rows["row_context"]] == ["seg_2", "seg_2"]
    tables = {table["name"]: table for table in sql_service.post("idx_mine/catalog").json()["tables"]}
    assert tables["current_results"]["row_count"] == 18


def test_result_limit_is_applied_and_reported(sql_service):
    answer = sql_service.rows("SELECT * FROM segments", result_limit=5)
    assert (len(answer["rows"]), len(answer["row_context"]), answer["truncated"]) == (5, 5, True)
    assert sql_service.rows("SELECT 1 AS a FROM range(200)")["applied_result_limit"] == 100
    for limit in (0, 2001, "x"):
        assert sql_service.post("idx_mine", {"query": "SELECT 1", "result_limit": limit}).status_code == 422


def test_row_context_follows_the_columns(sql_service):
    context = sql_service.rows("SELECT * FROM segments ORDER BY run_id, start_time LIMIT 1")["row_context"][0]
    assert context == {
        "video_id": "vid_0", "segment_id": "seg_0", "run_id": FIRST_RUN, "start_time": 0.0, "end_time": 1.0,
    }  # fmt: skip
    of_view = sql_service.rows(f'SELECT segment_id FROM "{SECOND_RUN}" LIMIT 1')["row_context"][0]
    assert (of_view["run_id"], of_view["segment_id"], of_view["start_time"]) == (SECOND_RUN, "seg_0", None)
    of_one = sql_service.rows("SELECT video_id FROM media LIMIT 1", run_ids=[FIRST_RUN])["row_context"][0]
    assert (of_one["run_id"], of_one["video_id"], of_one["segment_id"]) == (FIRST_RUN, "vid_0", None)
    assert sql_service.rows("SELECT video_id FROM media LIMIT 1")["row_context"][0]["run_id"] is None
    assert sql_service.rows("SELECT count(*) AS n FROM segments")["row_context"] == [None]
    assert sql_service.rows("SELECT 1 AS segment_id, true AS start_time")["row_context"] == [None]


def test_run_ids_and_index_ids_select_runs(sql_service):
    count = "SELECT count(DISTINCT run_id) AS n, min(run_id) AS r FROM segments"
    assert sql_service.rows(count, run_ids=[FIRST_RUN])["rows"] == [{"n": 1, "r": FIRST_RUN}]
    assert (
        sql_service.rows(count, run_ids=[FIRST_RUN, ELSEWHERE], index_ids=["idx_mine", "idx_two"])["rows"][0]["n"] == 2
    )
    assert sql_service.rows(count, index_ids=["idx_two"])["rows"] == [{"n": 1, "r": ELSEWHERE}]
    assert sql_service.rows(count, index_ids=["idx_two", "idx_mine"])["rows"][0]["n"] == 3
    assert sql_service.rows(count, run_ids=[])["rows"] == [{"n": 0, "r": None}]
    assert sql_service.rows(count, "idx_two")["run_ids"] == [ELSEWHERE]


@pytest.mark.parametrize("path", ["{}/catalog", "{}", "{}/generate"])
def test_run_of_another_index_is_422_in_every_search(sql_service, path):
    body = {"query": "SELECT 1", "instruction": "count", "run_ids": [FIRST_RUN, ELSEWHERE]}
    searches = ["/indexes/idx_mine/search", "/search/filter/idx_mine"]
    condition = {"field": "summary", "type": "string", "operator": "is_not_empty"}
    errors = []
    for url, content in (
        (f"/search/sql/{path.format('idx_mine')}", body),
        (f"/search/sql/{path.format('playground')}", body),
        (searches[0], {"query": "dock", "run_ids": body["run_ids"]}),
        (searches[1], {"conditions": [condition], "run_ids": body["run_ids"]}),
    ):
        answer = sql_service.client.post(PREFIX + url, json=content, headers={"X-API-Key": sql_service.keys["mine"]})
        errors.append(
            (answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["details"]["errors"][0])
        )
    assert [(status, code, first["path"]) for status, code, first in errors] == [
        (422, "validation_failed", "run_ids")
    ] * 4
    assert [(ELSEWHERE in first["message"], "idx_two" in first["message"]) for _, _, first in errors] == [
        (True, True), (True, True), (True, True), (True, True),
    ]  # fmt: skip
    for run_id in (OTHER_RUN, "run_none"):
        answer = sql_service.post(path.format("idx_mine"), {**body, "run_ids": [run_id]})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "resource_run_not_found")


def test_playground_runs_are_only_read_in_the_playground(sql_service):
    with sql_service.app.state.database.write() as session:
        session.get(RunRecord, ELSEWHERE).index_id = None
    try:
        count = "SELECT count(DISTINCT run_id) AS n, min(run_id) AS r FROM segments"
        assert sql_service.rows(count, "playground")["rows"] == [{"n": 1, "r": ELSEWHERE}]
        assert sql_service.rows(count, "playground", run_ids=[ELSEWHERE])["rows"] == [{"n": 1, "r": ELSEWHERE}]
        assert sql_service.rows(count, "idx_two")["rows"] == [{"n": 0, "r": None}]
        assert sql_service.post("idx_two", {"query": count, "run_ids": [ELSEWHERE]}).status_code == 422
        assert sql_service.post("playground", {"query": count}, "other").json()["run_ids"] == []
    finally:
        with sql_service.app.state.database.write() as session:
            session.get(RunRecord, ELSEWHERE).index_id = "idx_two"


def test_unfinished_run_is_409(sql_service):
    answer = sql_service.post("idx_mine", {"query": "SELECT 1", "run_ids": [UNFINISHED]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "run_not_finished")
    assert UNFINISHED not in sql_service.rows("SELECT 1")["run_ids"]
