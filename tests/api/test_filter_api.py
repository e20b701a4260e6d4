"""Filter search over HTTP: scope, pages, hits, time limit and the published clients."""

import base64
import json

import pytest

from promptreel.api.search import filter_engine
from promptreel.schemas.prompt import prompt_from_dict
from tests.api.filter_calls import CRANE, EQUALS, OTHER, follow, found, search
from tests.api_server import assert_error, ok_json
from tests.published_clients import CLIENTS, run_client
from tests.synthetic_runs import Catalogue, commit

pytest_plugins = ["tests.api.filter_fixtures"]

COUNTS = prompt_from_dict(
    {
        "name": "counts",
        "prompt_text": "Count what is seen.",
        "json_schema": {"type": "object", "properties": {"summary": {"type": "integer"}, "ships": {"type": "integer"}}},
    }
)


def test_hit_matches_listed_segment(filter_caller, filter_catalogue):
    index = filter_catalogue.index()
    video = filter_catalogue.video(index)
    run = filter_catalogue.run({video: [OTHER, CRANE, None]}, index_id=index)
    (hit,) = search(filter_caller, index, EQUALS, run_ids=[run])["results"]
    shown = ok_json(filter_caller.get(f"/videos/{video}/segments", params={"run_id": run}))["data"]
    (segment,) = [row for row in shown if row["segment_id"] == hit["segment_id"]]
    for name in ("video_id", "start_time", "end_time", "metadata", "metadata_text"):
        assert hit[name] == segment[name]
    assert hit["metadata"] == hit["extracted_metadata"] == CRANE
    assert hit["result_id"] == f"segment:{hit['segment_id']}:{run}"
    assert hit["run_id"] == hit["source_run_id"] == hit["prompt_run_id"] == run
    assert (hit["video_name"], hit["video_uri"], hit["source_index_id"]) == (f"{video}.mp4", f"media://{video}", index)
    assert [hit[name] for name in hit if name.endswith("_score")] == [None, None]
    assert hit["text_content"] == "summary: A Crane\nscene.location: dock"
    assert hit["matched_field_paths"] == ["summary"]


def test_default_is_newest_finished_run_per_prompt_and_item(filter_caller, filter_catalogue):
    index = filter_catalogue.index()
    first, second = filter_catalogue.video(index), filter_catalogue.video(index)
    old = filter_catalogue.run({first: [CRANE], second: [CRANE]}, index_id=index)
    new = filter_catalogue.run({first: [OTHER]}, index_id=index, status="completed_with_failures")
    for status in ("failed", "cancelled", "processing"):
        filter_catalogue.run({first: [CRANE], second: [CRANE]}, index_id=index, status=status)
    assert found(search(filter_caller, index, EQUALS)) == [(old, f"seg_{second}_a_0")]
    ship = {**EQUALS, "value": "a ship"}
    assert found(search(filter_caller, index, ship)) == [(new, f"seg_{first}_a_0")]
    assert len(search(filter_caller, index, EQUALS, run_ids=[old])["results"]) == 2
    assert found(search(filter_caller, index, EQUALS, run_ids=[new, old])) == [
        (old, f"seg_{video}_a_0") for video in sorted((first, second))
    ]


def test_runs_are_separated_by_index_and_playground(filter_caller, filter_catalogue):
    indexes = [filter_catalogue.index(), filter_catalogue.index(), None]
    runs = [filter_catalogue.run({filter_catalogue.video(index): [CRANE]}, index_id=index) for index in indexes]

    def runs_found(index, **body):
        return {run for run, _ in found(search(filter_caller, index, EQUALS, **body))}

    assert runs_found(indexes[0]) == {runs[0]}
    assert runs_found("playground") == {runs[2]}
    assert runs_found(indexes[0], index_ids=[indexes[1]]) == {runs[1]}
    assert runs_found("playground", index_ids=indexes[:2]) == set(runs[:2])
    assert runs_found(indexes[0], index_ids=indexes[:2], run_ids=[runs[1]]) == {runs[1]}
    body = {"conditions": [EQUALS], "run_ids": [runs[1]]}
    error = assert_error(filter_caller.post(f"/search/filter/{indexes[0]}", body), 422, "validation_failed")
    assert indexes[1] in error["message"]


def test_other_accounts_data_is_not_found(filter_service, filter_caller, filter_catalogue):
    other = filter_service.caller()
    other_catalogue = Catalogue(filter_service, other.account_id)
    their_index, my_index = other_catalogue.index(), filter_catalogue.index()
    their_run = other_catalogue.run({other_catalogue.video(their_index): [CRANE]}, index_id=their_index)
    other_catalogue.run({other_catalogue.video(): [CRANE]})
    filter_catalogue.run({filter_catalogue.video(my_index): [OTHER]}, index_id=my_index)

    def post(path, **body):
        return filter_caller.post(f"/search/filter/{path}", {"conditions": [EQUALS], **body})

    assert_error(post(their_index), 404, "resource_index_not_found")
    assert_error(post(my_index, index_ids=[their_index]), 404, "resource_index_not_found")
    assert_error(post(my_index, run_ids=[their_run]), 404, "resource_run_not_found")
    assert_error(post("idx_none"), 404, "resource_index_not_found")
    assert search(filter_caller, "playground", EQUALS)["results"] == []
    # A cursor grants no access: runs in it are checked like any others.
    own_runs = [
        filter_catalogue.run({filter_catalogue.video(my_index): [CRANE] * 3}, index_id=my_index) for _ in range(1)
    ]
    page = search(filter_caller, my_index, EQUALS, run_ids=own_runs, page_size=1)
    token = page["next_page_token"]
    signature, position = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    for pins in (
        [[their_run, 1]],
        [[own_runs[0], 99]],
        [[own_runs[0], -1]],
        [["../../x", 1]],
        [[own_runs[0]]],
        [1],
        [[1, own_runs[0]]],
    ):
        forged = base64.urlsafe_b64encode(json.dumps([signature, [pins, *position[1:]]]).encode()).decode()
        assert post(my_index, run_ids=own_runs, page_size=1, cursor=forged).status_code in (404, 422), pins
    for numbers in ([-1, 0, 0], [0, -1, 0], [0, 0, -5], [0, 0, True], ["0", 0, 0]):
        forged = base64.urlsafe_b64encode(json.dumps([signature, [position[0], *numbers]]).encode()).decode()
        assert_error(post(my_index, run_ids=own_runs, page_size=1, cursor=forged), 422, "validation_failed")
    far = base64.urlsafe_b64encode(json.dumps([signature, [position[0], 10**6, 10**6, 2**62]]).encode()).decode()
    assert ok_json(post(my_index, run_ids=own_runs, page_size=1, cursor=far))["results"] == []


def test_deleted_media_is_not_found(filter_caller, filter_catalogue):
    index = filter_catalogue.index()
    deleted, remaining = sorted(filter_catalogue.video(index) for _ in range(2))
    run = filter_catalogue.run({remaining: [CRANE], deleted: [CRANE]}, index_id=index)
    assert len(search(filter_caller, index, EQUALS)["results"]) == 2
    ok_json(filter_caller.delete(f"/videos/{deleted}"))
    assert found(search(filter_caller, index, EQUALS)) == [(run, f"seg_{remaining}_a_0")]
    page = search(filter_caller, index, EQUALS, run_ids=[run], page_size=1)
    assert (found(page), page["next_page_token"]) == ([(run, f"seg_{remaining}_a_0")], None)


def test_pages_contain_each_hit_once_in_order(filter_caller, filter_catalogue):
    index = filter_catalogue.index()
    videos = [filter_catalogue.video(index) for _ in range(4)]
    answers = [CRANE if number % 3 else OTHER for number in range(20)]
    runs = [filter_catalogue.run(dict.fromkeys(videos, answers), index_id=index, shards=2) for _ in range(2)]
    all_hits = [
        (hit["run_id"], hit["segment_id"]) for hit in follow(filter_caller, index, EQUALS, run_ids=runs, page_size=100)
    ]
    assert sorted(all_hits) == sorted(
        (run, f"seg_{video}_a_{n}") for run in runs for video in videos for n in range(20) if n % 3
    )
    assert [run for run, _ in all_hits] == sorted((run for run, _ in all_hits), key=runs[::-1].index)
    for size in (9, 52):
        assert [
            (h["run_id"], h["segment_id"]) for h in follow(filter_caller, index, EQUALS, run_ids=runs, page_size=size)
        ] == all_hits


def test_commits_and_new_runs_do_not_change_later_pages(filter_service, filter_caller, filter_catalogue):
    index = filter_catalogue.index()
    video, other = filter_catalogue.video(index), filter_catalogue.video(index)
    run = filter_catalogue.run({video: [CRANE] * 6, other: [CRANE] * 6}, index_id=index)
    before = found({"results": follow(filter_caller, index, EQUALS, page_size=100)})
    first = search(filter_caller, index, EQUALS, page_size=5)
    commit(filter_service.app.state.storage, run, {video: [OTHER] * 6, other: [CRANE] * 3 + [OTHER] * 3}, attempt=2)
    newer = filter_catalogue.run({video: [CRANE] * 6}, index_id=index)
    rest = search(filter_caller, index, EQUALS, page_size=100, cursor=first["next_page_token"])
    assert found(first) + found(rest) == before
    assert found(search(filter_caller, index, EQUALS, page_size=100)) == [
        *((newer, f"seg_{video}_a_{n}") for n in range(6)),
        *((run, f"seg_{other}_a_{n}") for n in range(3)),
    ]
    ok_json(filter_caller.delete(f"/videos/{other}"))
    again = search(filter_caller, index, EQUALS, page_size=100, cursor=first["next_page_token"])
    assert found(again) == [pair for pair in found(rest) if other not in pair[1]]


def test_cursor_of_another_query_is_422(filter_caller, filter_catalogue):
    index = filter_catalogue.index()
    filter_catalogue.run({filter_catalogue.video(index): [CRANE] * 3}, index_id=index)
    token = search(filter_caller, index, EQUALS, page_size=1)["next_page_token"]
    for body in ({"conditions": [{**EQUALS, "value": "x"}]}, {"conditions": [EQUALS, EQUALS]},
                 {"conditions": [EQUALS], "index_ids": [index]}):  # fmt: skip
        assert_error(filter_caller.post(f"/search/filter/{index}", {**body, "cursor": token}), 422, "validation_failed")
    for wrong in ("x", "!!", token[:-3], "é"):
        assert_error(filter_caller.post(f"/search/filter/{index}", {"conditions": [EQUALS], "cursor": wrong}), 422,
                "validation_failed")  # fmt: skip
    assert search(filter_caller, index, EQUALS, page_size=50, cursor=token)["total_shown"] == 2


def test_runs_without_field_are_skipped_and_unknown_field_is_422(filter_caller, filter_catalogue):
    index = filter_catalogue.index()
    video = filter_catalogue.video(index)
    nested = filter_catalogue.run({video: [CRANE]}, index_id=index)
    counts = filter_catalogue.run({video: [{"summary": 3, "ships": 2}]}, COUNTS, index_id=index)
    ships = {"field": "ships", "type": "integer", "operator": "greater_than", "value": 1}
    assert [run for run, _ in found(search(filter_caller, index, EQUALS))] == [nested]
    assert [run for run, _ in found(search(filter_caller, index, ships))] == [counts]
    # A run without the field does not match the negated condition either.
    assert [run for run, _ in found(search(filter_caller, index, groups=[{"not": ships}]))] == []
    error = assert_error(filter_caller.post(f"/search/filter/{index}", {"conditions": [{**EQUALS, "field": "sumary"}]}), 422,
                    "validation_failed")  # fmt: skip
    for path in ("summary", "scene.location", "products[].name", "ships", "transcription"):
        assert path in error["message"]
    number = {"field": "scene.location", "type": "number", "operator": "equals", "value": 1}
    error = assert_error(filter_caller.post(f"/search/filter/{index}", {"conditions": [number], "run_ids": [nested]}), 422,
                    "validation_failed")  # fmt: skip
    assert "'scene.location' has type string" in error["message"]


def test_search_scope_is_sufficient_and_missing_key_is_401(filter_service, filter_catalogue, filter_caller):
    index = filter_catalogue.index()
    searcher = filter_service.caller("search", account_id=filter_caller.account_id)
    assert search(searcher, index, EQUALS)["results"] == []
    assert_error(
        filter_service.stranger().post(f"/search/filter/{index}", {"conditions": [EQUALS]}),
        401,
        "authentication_required",
    )


ENDLESS = "(SELECT sum(hash(a.range * b.range)) FROM range(10000000) AS a, range(10000000) AS b) > 0"


def test_slow_filter_is_stopped_and_the_next_one_served(filter_service, filter_caller, filter_catalogue, monkeypatch):
    index = filter_catalogue.index()
    filter_catalogue.run({filter_catalogue.video(index): [CRANE]}, index_id=index)
    body = {"conditions": [EQUALS]}
    assert search(filter_caller, index, EQUALS)["total_shown"] == 1
    with monkeypatch.context() as patch:
        patch.setattr(filter_service.app.state.filter_engine, "timeout_s", 0.3)
        compiled = filter_engine.compile_filter
        patch.setattr(filter_engine, "compile_filter", lambda *args: (ENDLESS, {}) if args[2:] else compiled(*args))
        error = assert_error(filter_caller.post(f"/search/filter/{index}", body), 422, "filter_timeout")
        assert error["details"] == {"timeout_seconds": 0.3}
        assert "run_ids" in error["message"]
        assert_error(
            filter_caller.post("/search/filter/playground", {**body, "index_ids": [index]}), 422, "filter_timeout"
        )
    assert search(filter_caller, index, EQUALS)["total_shown"] == 1


@pytest.mark.parametrize("client", CLIENTS)
def test_published_client_filters_and_pages(filter_service, filter_caller, filter_catalogue, client):
    index = filter_catalogue.index()
    video = filter_catalogue.video(index)
    run = filter_catalogue.run({video: [CRANE, OTHER, CRANE]}, index_id=index)
    playground = filter_catalogue.run({filter_catalogue.video(): [OTHER]})
    program = """
        conditions = [{"field": "summary", "operator": "equals", "value": "a crane", "type": "string"}]
        page = client.search.filter(index_id=given["index"], conditions=conditions, page_size=1, run_ids=[given["run"]])
        second = client.search.filter(
            index_id=given["index"], conditions=conditions, page_size=1, run_ids=[given["run"]],
            cursor=page.next_page_token)
        in_playground = client.search.filter_playground(
            conditions=[{"field": "keywords", "operator": "item_contains", "value": "dock", "type": "array"},
                        {"field": "scene.location", "operator": "is_empty", "type": "string"}])
        report([[hit.segment_id, hit.run_id, hit.metadata, hit.similarity_score, hit.video_name]
             for part in (page, second, in_playground) for hit in part.results],
            page.pagination.has_more, second.pagination.has_more, page.total_shown)
    """
    hits, first_more, second_more, shown = run_client(client, filter_caller, program, index=index, run=run)
    assert [hit[:4] for hit in hits[:2]] == [[f"seg_{video}_a_{n}", run, CRANE, None] for n in (0, 2)]
    assert (hits[2][1], hits[2][2]) == (playground, OTHER)
    assert (first_more, second_more, shown) == (True, False, 1)
