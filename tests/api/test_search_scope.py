"""The scope of searches: accounts, indexes, runs and deleted media."""

import pytest
from fastapi.testclient import TestClient

from promptreel.api.app import PREFIX
from promptreel.api.db.models import RunRecord
from promptreel.api.search import ranking
from promptreel.api.web.auth import create_key
from tests.api.search_calls import Searcher, for_account, hit_keys, random_image
from tests.api_server import assert_error, ok_json
from tests.search_runs import Segment

pytest_plugins = ["tests.api.search_fixtures"]


def test_other_accounts_data_is_not_found(search_app, searcher):
    other = Searcher(search_app)
    index_id, run_id = searcher.create_run()
    other_index, other_run = other.create_run()
    assert {hit["run_id"] for hit in searcher.text(index_id, "dog")} == {run_id}
    for path, body, code in (
        (f"/indexes/{other_index}/search", {"query": "dog"}, "resource_index_not_found"),
        (f"/indexes/{index_id}/search", {"query": "dog", "index_ids": [other_index]}, "resource_index_not_found"),
        (f"/indexes/{index_id}/search", {"query": "dog", "run_ids": [other_run]}, "resource_run_not_found"),
        (f"/indexes/{other_index}/image-search", {"image_data": random_image()}, "resource_index_not_found"),
        (f"/indexes/{other_index}/multimodal-search", {"text_query": "dog"}, "resource_index_not_found"),
        ("/search/multi-run", {"query": "dog", "run_ids": [run_id, other_run]}, "resource_run_not_found"),
        ("/search/multi-run", {"query": "dog", "index_id": other_index}, "resource_index_not_found"),
        (f"/playground/search?run_id={other_run}", {"query": "dog"}, "resource_run_not_found"),
    ):
        assert_error(searcher.post(path, **body), 404, code)
    assert ok_json(searcher.post("/playground/search", query="dog")) == []


def test_search_scope_is_sufficient_and_missing_key_is_401(search_app, searcher):
    index_id, _ = searcher.create_run()
    with search_app.state.database.write() as session:
        _, key = create_key(session, searcher.shelf.account_id, "k", ["search"])
    path = f"{PREFIX}/indexes/{index_id}/search"
    plain = TestClient(search_app)
    assert ok_json(plain.post(path, json={"query": "dog"}, headers={"X-API-Key": key}))
    assert_error(plain.post(path, json={"query": "dog"}), 401, "authentication_required")


def test_run_ids_and_index_ids_select_runs(searcher):
    index_id, first = searcher.create_run()
    second = searcher.shelf.run(index_id, for_account({"vid_harbour": [Segment(summary="A dog barks")]}, searcher))
    other_index, other = searcher.create_run({"vid_other": [Segment(summary="A dog digs")]})
    runs = lambda hits: {hit["run_id"] for hit in hits}  # noqa: E731
    assert runs(searcher.text(index_id, "dog")) == {first, second}
    assert runs(searcher.text(index_id, "dog", run_ids=[second])) == {second}
    assert runs(searcher.text("ignored", "dog", index_ids=[other_index])) == {other}
    assert runs(searcher.text(index_id, "dog", index_ids=[index_id, other_index])) == {first, second, other}
    error = assert_error(
        searcher.post(f"/indexes/{index_id}/search", query="dog", run_ids=[other]), 422, "validation_failed"
    )
    assert other_index in error["message"]


def test_unfinished_run_is_skipped_and_409_if_named(search_app, searcher):
    index_id, run_id = searcher.create_run()
    pending = searcher.shelf.run(index_id, for_account({"vid_harbour": [Segment(summary="A dog barks")]}, searcher))
    with search_app.state.database.write() as session:
        run = session.get(RunRecord, pending)
        run.status, run.manifest_number = "processing", None
    assert {hit["run_id"] for hit in searcher.text(index_id, "dog")} == {run_id}
    path = f"/indexes/{index_id}/search"
    assert assert_error(searcher.post(path, query="dog", run_ids=[pending]), 409, "run_not_finished")["details"] == {
        "run_id": pending,
        "status": "processing",
    }


def test_playground_is_searched_separately(searcher):
    index_id, _ = searcher.create_run()
    alone = for_account({"vid_alone": [Segment(summary="A dog in a garden")]}, searcher)
    run_id = searcher.shelf.run(None, alone)
    again = searcher.shelf.run(None, alone)
    assert {hit["run_id"] for hit in ok_json(searcher.post("/playground/search", query="dog"))} == {run_id, again}
    hits = ok_json(searcher.post(f"/playground/search?run_id={run_id}", query="dog", top_k=5))
    assert [(hit["run_id"], hit["source_index_id"]) for hit in hits] == [(run_id, None)]
    assert run_id not in {hit["run_id"] for hit in searcher.text(index_id, "dog")}
    assert_error(
        searcher.post(f"/playground/search?run_id={searcher.create_run()[1]}", query="dog"), 422, "validation_failed"
    )


def test_deleted_media_does_not_affect_other_hits(search_app, searcher):
    many = {f"vid_{number:02d}": [Segment(summary=f"A dog number {number}")] for number in range(12)}
    index_id, _ = searcher.create_run(many)
    before = searcher.text(index_id, "dog", top_k=12)
    assert len(before) == 12
    for hit in before[:5]:
        searcher.shelf.delete(hit["video_id"])
    remaining = {hit["video_id"].rsplit("_", 1)[0] for hit in before[5:]}
    other = Searcher(search_app)
    other_index, _ = other.create_run(
        {video_id: segments for video_id, segments in many.items() if video_id in remaining}
    )
    for top_k in (4, 7, 100):
        hits, expected = searcher.text(index_id, "dog", top_k=top_k), other.text(other_index, "dog", top_k=top_k)
        assert hit_keys(hits) == hit_keys(expected)
        assert [hit["reranked_score"] for hit in hits] == [hit["reranked_score"] for hit in expected]
    several = ok_json(searcher.post("/search/multi-run", query="dog", index_id=index_id))
    assert {video_id for video_id, _ in hit_keys(several)} <= remaining


def test_deleted_media_beyond_ranking_depth_is_not_found(searcher, monkeypatch):
    monkeypatch.setattr(ranking, "_MIN_DEPTH", 1)
    index_id, _ = searcher.create_run(
        {f"vid_{number:02d}": [Segment(summary=f"A dog number {number}")] for number in range(12)}
    )
    for hit in searcher.text(index_id, "dog", top_k=12)[:10]:
        searcher.shelf.delete(hit["video_id"])
    assert len(searcher.text(index_id, "dog", top_k=1)) == 1
    assert len(searcher.text(index_id, "dog", top_k=2)) == 2


@pytest.fixture
def three_runs(searcher):
    """Return (index id, run ids oldest first): runs over the same two segments."""
    index_id = searcher.shelf.index()
    runs = []
    for summary in ("a dog", "a dog on a lawn", "a brown dog on a lawn"):
        films = for_account({"vid_dog": [Segment(summary=summary), Segment(summary="rain falls")]}, searcher)
        runs.append(searcher.shelf.run(index_id, films))
    return index_id, runs


def test_hits_of_several_runs_are_joined_by_aggregation(searcher, three_runs):
    index_id, runs = three_runs
    search = lambda **body: ok_json(searcher.post("/search/multi-run", query="a dog", **body))  # noqa: E731
    every = search(run_ids=runs, aggregation="all", top_k=1)
    assert sorted(hit["run_id"] for hit in every) == sorted(runs)
    assert every[0]["run_id"] == runs[0]  # its text is the closest to the query
    assert {hit["segment_id"][-1] for hit in every} == {"0"}
    every = search(run_ids=runs, aggregation="all", top_k=50)
    assert len(every) == 6
    best = search(run_ids=runs, top_k=50)
    assert [hit["segment_id"][-1] for hit in best] == ["0", "1"]
    assert best[0] == every[0]
    assert search(index_id=index_id, top_k=50) == best
    weighted = search(run_ids=runs[::-1], aggregation="weighted", top_k=50)
    score = {hit["result_id"]: hit for hit in every}
    assert {hit["run_id"] for hit in weighted} == {runs[2]}  # the score halves with each older run
    ages = {run_id: age for age, run_id in enumerate(reversed(runs))}
    for hit in weighted:
        for name in ("reranked_score", "similarity_score"):
            assert hit[name] == pytest.approx(score[hit["result_id"]][name] * 0.5 ** ages[hit["run_id"]], abs=1e-6)
    older = search(run_ids=runs[:1], aggregation="weighted", top_k=50)
    assert older[0]["similarity_score"] == pytest.approx(1, abs=0.02)  # the only run is the newest


@pytest.mark.parametrize(
    "body", [{"query": "a"}, {"query": "a", "run_ids": []}, {"query": "a", "run_ids": ["r"], "aggregation": "worst"},
             {"query": "a", "run_ids": ["r"], "top_k": 51}],
)  # fmt: skip
def test_multi_run_search_without_runs_is_422(searcher, body):
    assert_error(searcher.post("/search/multi-run", **body), 422, "validation_failed")
