"""Filter search over HTTP: which runs and media it asks, its pages and hits, what it refuses, and the published clients."""

import base64
import json
from pathlib import Path

import pytest

from promptreel.api.search import filter_engine
from promptreel.schemas.prompt import prompt_from_dict
from tests.api_server import ApiServer, assert_error, ok_json
from tests.made_runs import Catalogue, commit
from tests.prompts import NESTED
from tests.published_clients import CLIENTS, run_client

EQUALS = {"field": "summary", "type": "string", "operator": "equals", "value": "a crane"}
CRANE, OTHER = {"summary": "A Crane", "scene": {"location": "dock"}}, {"summary": "a ship", "keywords": ["Dock"]}
COUNTS = prompt_from_dict(
    {
        "name": "counts",
        "prompt_text": "Count what is seen.",
        "json_schema": {"type": "object", "properties": {"summary": {"type": "integer"}, "ships": {"type": "integer"}}},
    }
)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with ApiServer(tmp_path_factory.mktemp("filter"), supervise=False) as server:
        yield server


@pytest.fixture
def caller(service):
    return service.caller()


@pytest.fixture
def catalogue(service, caller):
    return Catalogue(service, caller.account_id)


def search(caller, index_id, *conditions, **body):
    given = {"conditions": list(conditions), **body} if conditions else body
    return ok_json(caller.post(f"/search/filter/{index_id}", given))


def found(page):
    return [(hit["run_id"], hit["segment_id"]) for hit in page["results"]]


def follow(caller, index_id, *conditions, **body):
    """All hits, page by page; checks what holds for every page."""
    hits, tokens, cursor = [], set(), {}
    while True:
        page = search(caller, index_id, *conditions, **body, **cursor)
        assert page["results"] == page["data"]
        assert page["total_shown"] == len(page["data"]) <= page["pagination"]["limit"]
        assert page["next_page_token"] == page["pagination"]["next_cursor"]
        assert page["pagination"]["has_more"] == (page["next_page_token"] is not None)
        hits += page["data"]
        if page["next_page_token"] is None:
            return hits
        assert page["next_page_token"] not in tokens
        tokens.add(page["next_page_token"])
        cursor = {"cursor": page["next_page_token"]}


def test_hit_matches_listed_segment(caller, catalogue):
    index = catalogue.index()
    video = catalogue.video(index)
    run = catalogue.run({video: [OTHER, CRANE, None]}, index_id=index)
    (hit,) = search(caller, index, EQUALS, run_ids=[run])["results"]
    shown = ok_json(caller.get(f"/videos/{video}/segments", params={"run_id": run}))["data"]
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


def test_default_is_newest_finished_run_per_prompt_and_item(caller, catalogue):
    index = catalogue.index()
    first, second = catalogue.video(index), catalogue.video(index)
    old = catalogue.run({first: [CRANE], second: [CRANE]}, index_id=index)
    new = catalogue.run({first: [OTHER]}, index_id=index, status="completed_with_failures")
    for status in ("failed", "cancelled", "processing"):
        catalogue.run({first: [CRANE], second: [CRANE]}, index_id=index, status=status)
    assert found(search(caller, index, EQUALS)) == [(old, f"seg_{second}_a_0")]
    ship = {**EQUALS, "value": "a ship"}
    assert found(search(caller, index, ship)) == [(new, f"seg_{first}_a_0")]
    assert len(search(caller, index, EQUALS, run_ids=[old])["results"]) == 2
    assert found(search(caller, index, EQUALS, run_ids=[new, old])) == [
        (old, f"seg_{video}_a_0") for video in sorted((first, second))
    ]


def test_runs_are_separated_by_index_and_playground(caller, catalogue):
    places = [catalogue.index(), catalogue.index(), None]
    runs = [catalogue.run({catalogue.video(place): [CRANE]}, index_id=place) for place in places]

    def runs_found(place, **body):
        return {run for run, _ in found(search(caller, place, EQUALS, **body))}

    assert runs_found(places[0]) == {runs[0]}
    assert runs_found("playground") == {runs[2]}
    assert runs_found(places[0], index_ids=[places[1]]) == {runs[1]}
    assert runs_found("playground", index_ids=places[:2]) == set(runs[:2])
    assert runs_found(places[0], index_ids=places[:2], run_ids=[runs[1]]) == {runs[1]}
    error = assert_error(caller.post(f"/search/filter/{places[0]}", {"conditions": [EQUALS], "run_ids": [runs[1]]}), 422,
                    "validation_failed")  # fmt: skip
    assert places[1] in error["message"]


def test_other_accounts_data_is_not_found(service, caller, catalogue):
    other = service.caller()
    theirs = Catalogue(service, other.account_id)
    their_index, my_index = theirs.index(), catalogue.index()
    their_run = theirs.run({theirs.video(their_index): [CRANE]}, index_id=their_index)
    theirs.run({theirs.video(): [CRANE]})
    catalogue.run({catalogue.video(my_index): [OTHER]}, index_id=my_index)

    def post(path, **body):
        return caller.post(f"/search/filter/{path}", {"conditions": [EQUALS], **body})

    assert_error(post(their_index), 404, "resource_index_not_found")
    assert_error(post(my_index, index_ids=[their_index]), 404, "resource_index_not_found")
    assert_error(post(my_index, run_ids=[their_run]), 404, "resource_run_not_found")
    assert_error(post("idx_none"), 404, "resource_index_not_found")
    assert search(caller, "playground", EQUALS)["results"] == []
    # A cursor is no key: what it names is looked up like everything else.
    mine = [catalogue.run({catalogue.video(my_index): [CRANE] * 3}, index_id=my_index) for _ in range(1)]
    page = search(caller, my_index, EQUALS, run_ids=mine, page_size=1)
    token = page["next_page_token"]
    signature, place = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    for pins in (
        [[their_run, 1]],
        [[mine[0], 99]],
        [[mine[0], -1]],
        [["../../x", 1]],
        [[mine[0]]],
        [1],
        [[1, mine[0]]],
    ):
        forged = base64.urlsafe_b64encode(json.dumps([signature, [pins, *place[1:]]]).encode()).decode()
        assert post(my_index, run_ids=mine, page_size=1, cursor=forged).status_code in (404, 422), pins
    for numbers in ([-1, 0, 0], [0, -1, 0], [0, 0, -5], [0, 0, True], ["0", 0, 0]):
        forged = base64.urlsafe_b64encode(json.dumps([signature, [place[0], *numbers]]).encode()).decode()
        assert_error(post(my_index, run_ids=mine, page_size=1, cursor=forged), 422, "validation_failed")
    far = base64.urlsafe_b64encode(json.dumps([signature, [place[0], 10**6, 10**6, 2**62]]).encode()).decode()
    assert ok_json(post(my_index, run_ids=mine, page_size=1, cursor=far))["results"] == []


def test_deleted_media_is_not_found(caller, catalogue):
    index = catalogue.index()
    lost, kept = sorted(catalogue.video(index) for _ in range(2))
    run = catalogue.run({kept: [CRANE], lost: [CRANE]}, index_id=index)
    assert len(search(caller, index, EQUALS)["results"]) == 2
    ok_json(caller.delete(f"/videos/{lost}"))
    assert found(search(caller, index, EQUALS)) == [(run, f"seg_{kept}_a_0")]
    page = search(caller, index, EQUALS, run_ids=[run], page_size=1)
    assert (found(page), page["next_page_token"]) == ([(run, f"seg_{kept}_a_0")], None)


def test_pages_contain_each_hit_once_in_order(caller, catalogue):
    index = catalogue.index()
    videos = [catalogue.video(index) for _ in range(4)]
    answers = [CRANE if number % 3 else OTHER for number in range(20)]
    runs = [catalogue.run(dict.fromkeys(videos, answers), index_id=index, shards=2) for _ in range(2)]
    whole = [(hit["run_id"], hit["segment_id"]) for hit in follow(caller, index, EQUALS, run_ids=runs, page_size=100)]
    assert sorted(whole) == sorted(
        (run, f"seg_{video}_a_{n}") for run in runs for video in videos for n in range(20) if n % 3
    )
    assert [run for run, _ in whole] == sorted((run for run, _ in whole), key=runs[::-1].index)
    for size in (9, 52):
        assert [
            (h["run_id"], h["segment_id"]) for h in follow(caller, index, EQUALS, run_ids=runs, page_size=size)
        ] == whole


def test_commits_and_new_runs_do_not_change_later_pages(service, caller, catalogue):
    index = catalogue.index()
    video, other = catalogue.video(index), catalogue.video(index)
    run = catalogue.run({video: [CRANE] * 6, other: [CRANE] * 6}, index_id=index)
    before = found({"results": follow(caller, index, EQUALS, page_size=100)})
    first = search(caller, index, EQUALS, page_size=5)
    commit(service.app.state.storage, run, {video: [OTHER] * 6, other: [CRANE] * 3 + [OTHER] * 3}, attempt=2)
    newer = catalogue.run({video: [CRANE] * 6}, index_id=index)
    rest = search(caller, index, EQUALS, page_size=100, cursor=first["next_page_token"])
    assert found(first) + found(rest) == before
    assert found(search(caller, index, EQUALS, page_size=100)) == [
        *((newer, f"seg_{video}_a_{n}") for n in range(6)),
        *((run, f"seg_{other}_a_{n}") for n in range(3)),
    ]
    ok_json(caller.delete(f"/videos/{other}"))
    again = search(caller, index, EQUALS, page_size=100, cursor=first["next_page_token"])
    assert found(again) == [pair for pair in found(rest) if other not in pair[1]]


def test_cursor_of_another_query_is_422(caller, catalogue):
    index = catalogue.index()
    catalogue.run({catalogue.video(index): [CRANE] * 3}, index_id=index)
    token = search(caller, index, EQUALS, page_size=1)["next_page_token"]
    for body in ({"conditions": [{**EQUALS, "value": "x"}]}, {"conditions": [EQUALS, EQUALS]},
                 {"conditions": [EQUALS], "index_ids": [index]}):  # fmt: skip
        assert_error(caller.post(f"/search/filter/{index}", {**body, "cursor": token}), 422, "validation_failed")
    for wrong in ("x", "!!", token[:-3], "é"):
        assert_error(caller.post(f"/search/filter/{index}", {"conditions": [EQUALS], "cursor": wrong}), 422,
                "validation_failed")  # fmt: skip
    assert search(caller, index, EQUALS, page_size=50, cursor=token)["total_shown"] == 2


def test_runs_without_field_are_skipped_and_unknown_field_is_422(caller, catalogue):
    index = catalogue.index()
    video = catalogue.video(index)
    nested = catalogue.run({video: [CRANE]}, index_id=index)
    counts = catalogue.run({video: [{"summary": 3, "ships": 2}]}, COUNTS, index_id=index)
    ships = {"field": "ships", "type": "integer", "operator": "greater_than", "value": 1}
    assert [run for run, _ in found(search(caller, index, EQUALS))] == [nested]
    assert [run for run, _ in found(search(caller, index, ships))] == [counts]
    # A run that cannot be judged is not found by the opposite either.
    assert [run for run, _ in found(search(caller, index, groups=[{"not": ships}]))] == []
    error = assert_error(caller.post(f"/search/filter/{index}", {"conditions": [{**EQUALS, "field": "sumary"}]}), 422,
                    "validation_failed")  # fmt: skip
    for path in ("summary", "scene.location", "products[].name", "ships", "transcription"):
        assert path in error["message"]
    number = {"field": "scene.location", "type": "number", "operator": "equals", "value": 1}
    error = assert_error(caller.post(f"/search/filter/{index}", {"conditions": [number], "run_ids": [nested]}), 422,
                    "validation_failed")  # fmt: skip
    assert "'scene.location' has type string" in error["message"]


def test_groups_allow_more_than_four_conditions(caller, catalogue):
    index = catalogue.index()
    documents = [{"summary": f"{n}", "scene": {"people_count": n}} for n in range(10)]
    catalogue.run({catalogue.video(index): documents}, index_id=index)

    def is_count(n):
        return {"field": "scene.people_count", "type": "integer", "operator": "equals", "value": n}

    def numbers(**body):
        return [hit["metadata"]["scene"]["people_count"] for hit in search(caller, index, **body)["results"]]

    assert numbers(groups=[{"any": [is_count(n) for n in range(6)]}]) == list(range(6))
    below = {**is_count(4), "operator": "less_than"}
    assert numbers(conditions=[below], groups=[{"not": {"any": [is_count(1), is_count(2)]}}]) == [0, 3]
    assert numbers(groups=[{"all": [below, {"not": is_count(0)}]}, {"not": is_count(3)}]) == [1, 2]
    deep = {"not": {"not": {"not": {"not": {"not": is_count(1)}}}}}
    assert numbers(groups=[deep]) == [0, *range(2, 10)]
    for groups in (
        [{"not": deep}],
        [{"any": [is_count(1)] * 101}],
        [{"any": [is_count(1)] * 60}] * 2,
        [{"any": []}],
        [],
        [{"not": [below]}],
        [{"any": [below], "all": [below]}],
        [{"none": [below]}],
        {"any": [below]},
    ):
        assert_error(caller.post(f"/search/filter/{index}", {"groups": groups}), 422, "validation_failed")


LIST = {"field": "keywords", "type": "array"}
REFUSED = [
    {**EQUALS, "extra": 1},
    {**EQUALS, "fuzzyMatch": True},
    {**EQUALS, "operator": "eq"},
    {**EQUALS, "operator": "greater_than"},
    {**EQUALS, "type": "text"},
    {**EQUALS, "value": "  "},
    {**EQUALS, "value": 3},
    {**EQUALS, "value": None},
    {**EQUALS, "value": "\ud800"},
    {**EQUALS, "field": "  "},
    {**EQUALS, "field": 3},
    {key: value for key, value in EQUALS.items() if key != "value"},
    {key: value for key, value in EQUALS.items() if key != "type"},
    {**EQUALS, "operator": "is_empty"},
    {**EQUALS, "operator": "is_empty", "value": None},
    {"field": "scene.people_count", "type": "integer", "operator": "equals", "value": True},
    {"field": "scene.people_count", "type": "integer", "operator": "equals", "value": 1.0},
    {"field": "scene.people_count", "type": "integer", "operator": "equals", "value": 2**63},
    {"field": "scene.people_count", "type": "integer", "operator": "contains", "value": 1},
    {"field": "start_time", "type": "number", "operator": "equals", "value": "1"},
    {"field": "start_time", "type": "number", "operator": "equals", "value": False},
    {"field": "start_time", "type": "number", "operator": "equals", "value": 10**400},
    {"field": "scene.bright", "type": "boolean", "operator": "equals", "value": 1},
    {"field": "scene.bright", "type": "boolean", "operator": "is_empty"},
    {**LIST, "operator": "length_equals", "value": -1},
    {**LIST, "operator": "length_equals", "value": 1.5},
    {**LIST, "operator": "length_equals", "value": True},
    {**LIST, "operator": "item_contains", "value": 1},
    {**LIST, "operator": "item_equals", "value": ["a"]},
    {**LIST, "operator": "item_equals", "value": {}},
    {**LIST, "operator": "item_equals", "value": " "},
    {**LIST, "operator": "equals", "value": "a"},
    {**LIST, "operator": "is_not_empty", "value": 1},
    "summary",
    None,
    [],
]


@pytest.mark.parametrize("condition", REFUSED, ids=str)
def test_invalid_condition_is_422(caller, catalogue, condition):
    index = catalogue.index()
    body = json.dumps({"conditions": [condition]})
    headers = {"Content-Type": "application/json"}
    assert_error(caller.http.post(f"/search/filter/{index}", content=body, headers=headers), 422, "validation_failed")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"conditions": []},
        {"conditions": [EQUALS] * 5},
        {"conditions": [EQUALS], "page_size": 0},
        {"conditions": [EQUALS], "page_size": 101},
        {"conditions": [EQUALS], "page_size": "5"},
        {"conditions": [EQUALS], "run_ids": []},
        {"conditions": [EQUALS], "run_id": "run_1"},
        {"conditions": [EQUALS], "start_after": "x"},
        {"conditions": EQUALS},
    ],
    ids=str,
)
def test_invalid_body_is_422(caller, catalogue, body):
    assert_error(caller.post(f"/search/filter/{catalogue.index()}", body), 422, "validation_failed")


def test_null_counts_as_absent_and_field_is_trimmed(caller, catalogue):
    index = catalogue.index()
    catalogue.run({catalogue.video(index): [CRANE]}, index_id=index)
    body = dict.fromkeys(("cursor", "run_ids", "index_ids", "groups"))
    assert search(caller, index, {**EQUALS, "field": "  summary "}, **body)["total_shown"] == 1


def test_search_scope_is_sufficient_and_missing_key_is_401(service, catalogue, caller):
    index = catalogue.index()
    searcher = service.caller("search", account_id=caller.account_id)
    assert search(searcher, index, EQUALS)["results"] == []
    assert_error(
        service.stranger().post(f"/search/filter/{index}", {"conditions": [EQUALS]}), 401, "authentication_required"
    )


ENDLESS = "(SELECT sum(hash(a.range * b.range)) FROM range(10000000) AS a, range(10000000) AS b) > 0"


def test_slow_filter_is_stopped_and_the_next_one_served(service, caller, catalogue, monkeypatch):
    index = catalogue.index()
    catalogue.run({catalogue.video(index): [CRANE]}, index_id=index)
    body = {"conditions": [EQUALS]}
    assert search(caller, index, EQUALS)["total_shown"] == 1
    with monkeypatch.context() as patch:
        patch.setattr(service.app.state.filter_engine, "timeout_s", 0.3)
        compiled = filter_engine.compile_filter
        patch.setattr(filter_engine, "compile_filter", lambda *given: (ENDLESS, {}) if given[2:] else compiled(*given))
        error = assert_error(caller.post(f"/search/filter/{index}", body), 422, "filter_timeout")
        assert error["details"] == {"timeout_seconds": 0.3}
        assert "run_ids" in error["message"]
        assert_error(caller.post("/search/filter/playground", {**body, "index_ids": [index]}), 422, "filter_timeout")
    assert search(caller, index, EQUALS)["total_shown"] == 1


@pytest.mark.parametrize("client", CLIENTS)
def test_published_client_filters_and_pages(service, caller, catalogue, client):
    index = catalogue.index()
    video = catalogue.video(index)
    run = catalogue.run({video: [CRANE, OTHER, CRANE]}, index_id=index)
    playground = catalogue.run({catalogue.video(): [OTHER]})
    program = """
        conditions = [{"field": "summary", "operator": "equals", "value": "a crane", "type": "string"}]
        page = client.search.filter(index_id=given["index"], conditions=conditions, page_size=1, run_ids=[given["run"]])
        second = client.search.filter(
            index_id=given["index"], conditions=conditions, page_size=1, run_ids=[given["run"]],
            cursor=page.next_page_token)
        open_place = client.search.filter_playground(
            conditions=[{"field": "keywords", "operator": "item_contains", "value": "dock", "type": "array"},
                        {"field": "scene.location", "operator": "is_empty", "type": "string"}])
        say([[hit.segment_id, hit.run_id, hit.metadata, hit.similarity_score, hit.video_name]
             for part in (page, second, open_place) for hit in part.results],
            page.pagination.has_more, second.pagination.has_more, page.total_shown)
    """
    hits, first_more, second_more, shown = run_client(client, caller, program, index=index, run=run)
    assert [hit[:4] for hit in hits[:2]] == [[f"seg_{video}_a_{n}", run, CRANE, None] for n in (0, 2)]
    assert (hits[2][1], hits[2][2]) == (playground, OTHER)
    assert (first_more, second_more, shown) == (True, False, 1)


def test_documented_examples_are_accepted(caller, catalogue):
    """Every request body in docs/filters.md is one that this service takes."""
    index = catalogue.index()
    catalogue.run({catalogue.video(index): [CRANE]}, NESTED, index_id=index)
    text = (Path(__file__).parents[2] / "docs" / "filters.md").read_text()
    bodies = [part.split("```")[0] for part in text.split("```json request\n")[1:]]
    assert len(bodies) >= 3
    for body in bodies:
        ok_json(caller.post(f"/search/filter/{index}", json.loads(body)))
