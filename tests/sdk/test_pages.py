"""Pagination."""

import json

import pytest

from promptreel import sdk
from tests.sdk.bodies import HIT, VIDEO, page_body
from tests.sdk.scripted_server import ScriptedServer
from tests.synthetic_runs import Catalogue


def test_iterating_over_a_page_yields_all_pages(make_client):
    pages = [([0, 1], "c/1"), ([], "c 2"), ([2], None)]
    responses = [page_body([{**VIDEO, "video_id": f"v{n}"} for n in numbers], cursor) for numbers, cursor in pages]
    with ScriptedServer(*responses) as server:
        first = make_client(base_url=server.base_url).indexes.list_videos("idx_1", limit=2)
        assert [video.video_id for video in first.data] == ["v0", "v1"]
        assert (first.has_more, first.next_cursor, len(server.requests)) == (True, "c/1", 1)
        assert [video.video_id for video in first] == ["v0", "v1", "v2"]
    assert [request.params for request in server.requests] == [
        {"limit": "2"},
        {"limit": "2", "cursor": "c/1"},
        {"limit": "2", "cursor": "c 2"},
    ]


def test_last_page_has_no_next_page(make_client):
    with ScriptedServer(page_body([], "c1"), page_body([])) as server:
        first = make_client(base_url=server.base_url).playground.list_videos()
        last = first.next_page()
        assert (last.data, last.has_more, last.next_page()) == ([], False, None)
        assert "last" in repr(last)


@pytest.mark.parametrize("cursors", [["c1", "c1"], [""]])
def test_missing_or_repeated_cursor_raises(make_client, cursors):
    with ScriptedServer(*[page_body([], cursor) for cursor in cursors], page_body([])) as server:
        client = make_client(base_url=server.base_url)
        with pytest.raises(sdk.PromptReelError, match="missing or repeated"):
            list(client.indexes.list_prompt_runs("idx_1"))
    assert len(server.requests) == len(cursors)


def test_filter_sends_the_cursor_in_the_body(make_client):
    hit = {**HIT, "a_field_of_a_newer_service": 1}
    condition = {"field": "a", "operator": "is_empty", "type": "string"}
    with ScriptedServer({**page_body([hit], "c1"), "results": [hit], "total_shown": 1}, page_body([hit])) as server:
        page = make_client(base_url=server.base_url).search.filter("playground", [condition], page_size=1)
        hits = list(page)
    assert [(hit.segment_id, hit.similarity_score) for hit in hits] == [("s", None)] * 2
    bodies = [json.loads(request.body) for request in server.requests]
    assert bodies == [
        {"conditions": [condition], "page_size": 1},
        {"conditions": [condition], "page_size": 1, "cursor": "c1"},
    ]
    assert {request.path for request in server.requests} == {"/search/filter/playground"}


def test_diff_has_a_summary_and_pages(client, real_service):
    catalogue = Catalogue(real_service, client.rate_limits.status().user_id)
    index_id = catalogue.index()
    videos = [catalogue.video(index_id) for _ in range(3)]

    def create_run(label):
        results = {video: [{"summary": f"{label} {n}"}, {"summary": "same"}] for n, video in enumerate(videos)}
        return catalogue.run(results, index_id=index_id)

    before, after = create_run("old"), create_run("new")
    page = client.prompt_runs.diff(before, after, limit=2)
    assert (page.summary.items, page.summary.changed_segments) == (3, 3)
    assert page.summary.fields["summary"] == {"added": 0, "removed": 0, "changed": 3, "same": 3}
    assert (len(page.data), page.has_more, client.prompt_runs.diff(before, after).has_more) == (2, True, False)
    changes = {(row.video_id, row.field, row.before, row.after, row.change) for row in page}
    assert changes == {(video, "summary", f"old {n}", f"new {n}", "changed") for n, video in enumerate(videos)}
    all_fields = list(client.prompt_runs.diff(before, after, include_same=True, limit=5))
    assert sorted(row.change for row in all_fields) == ["changed"] * 3 + ["same"] * 3
    with pytest.raises(sdk.NotFoundError, match="run_none"):
        client.prompt_runs.diff(before, "run_none")
