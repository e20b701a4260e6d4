"""Search requests and results."""

import pytest

from promptreel.sdk.calls import playground, search, sql
from tests.sdk.bodies import HIT
from tests.sdk.scripted_server import ScriptedServer

SEARCHES = [
    (
        search.text("idx_1", "a dog", top_k=3, search_fields=["a"], run_ids=["r"], index_ids=["i"]),
        "/indexes/idx_1/search",
        {"query": "a dog", "top_k": 3, "search_fields": ["a"], "run_ids": ["r"], "index_ids": ["i"]},
    ),
    (search.image("idx_1", b"\xff\xd8"), "/indexes/idx_1/image-search", {"image_data": "/9g="}),
    (
        search.multimodal("idx_1", text_query="a", image=b"\xff\xd8", text_weight=0.25, image_weight=0.75),
        "/indexes/idx_1/multimodal-search",
        {"text_query": "a", "image_data": "/9g=", "text_weight": 0.25, "image_weight": 0.75},
    ),
    (
        search.multi_run("a", run_ids=["r1", "r2"], aggregation="weighted", top_k=5),
        "/search/multi-run",
        {"query": "a", "run_ids": ["r1", "r2"], "aggregation": "weighted", "top_k": 5},
    ),
    (playground.search("a", run_id="r", top_k=9), "/playground/search", {"query": "a", "top_k": 9}),
    (sql.catalog("idx_1"), "/search/sql/idx_1/catalog", {}),
    (
        sql.execute("idx_1", "SELECT 1", result_limit=5, run_ids=["r"]),
        "/search/sql/idx_1",
        {"query": "SELECT 1", "result_limit": 5, "run_ids": ["r"]},
    ),
    (
        sql.generate("idx_1", "count", existing_query="SELECT 1"),
        "/search/sql/idx_1/generate",
        {"instruction": "count", "existing_query": "SELECT 1"},
    ),
]


@pytest.mark.parametrize(("call", "path", "body"), SEARCHES, ids=lambda value: value if isinstance(value, str) else "")
def test_search_requests_match_the_contract(call, path, body):
    assert (call.request.method, call.request.path, call.request.json) == ("POST", path, body)
    assert not call.request.is_repeatable


def test_search_results_are_typed(make_client):
    match = {"field_path": "people[].name", "field_instance_key": "k", "field_instance_path": "people[0].name"}
    hit = {
        **HIT,
        "matched_field_instances": [{**match, "score": 0.5, "value_preview": "Ada"}],
        "similarity_score": 0.25,
    }
    hit |= {"field_scores": {}, "field_instance_scores": {}, "fused_score": 0.5, "match_type": "both"}
    limits = {"default_result_limit": 1, "max_result_limit": 1, "timeout_seconds": 1, "max_query_chars": 1}
    limits |= {"max_answer_bytes": 1, "max_runs": 1}
    scope = {"run_ids": ["run_1"], "runs_left_out": 0}
    tables = {"tables": [{"name": "run_1", "row_count": 1, "columns": []}], "limits": limits, "examples": [], **scope}
    rows = {"rows": [{"n": 1}], "row_context": [None], "columns": [], "truncated": False, **scope}
    rows |= {"applied_result_limit": 1, "duration_ms": 1.5}
    with ScriptedServer([hit], [hit], [hit], tables, rows, {"query": "SELECT", "model": "m"}) as server:
        client = make_client(base_url=server.base_url)
        assert client.search.text("idx_1", "a")[0].matched_field_instances[0].field_path == "people[].name"
        assert client.search.image("idx_1", b"a")[0].similarity_score == 0.25
        assert client.search.multimodal("idx_1", text_query="a")[0].match_type == "both"
        assert client.search.sql.catalog("idx_1").tables[0].name == "run_1"
        assert client.search.sql.execute("idx_1", "SELECT 1").rows == [{"n": 1}]
        assert client.search.sql.generate("idx_1", "a").query == "SELECT"
