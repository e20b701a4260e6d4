"""Diffs of two runs, checked against a comparison in plain Python; the endpoint and the command."""

import csv
import json
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptreel.cli.diff import diff as diff_command
from promptreel.schemas.errors import InvalidInput
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.tables.diff import CHANGES, RunDiff
from promptreel.tables.reader import committed_run
from promptreel.tables.run_views import views_sql
from promptreel.tables.storage import open_storage
from tests.api_server import ApiServer, assert_error, ok_json
from tests.pipeline_runs import make_video, run_media, settings_for
from tests.prompts import NESTED
from tests.synthetic_runs import Catalogue, commit, make_run, segment_id

LEAVES = [leaf.path for leaf in NESTED.leaves]
words = st.sampled_from(["a", "b", "", "é\"'\\ $v0"])
scenes = st.fixed_dictionaries({}, optional={"people_count": st.integers(0, 2), "bright": st.booleans()})
products = st.lists(st.fixed_dictionaries({"name": words}, optional={"price": st.floats(0, 1)}), max_size=2)
answers = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "summary": st.none() | words,
        "scene": st.none() | scenes,
        "products": st.none() | products,
        "keywords": st.none() | st.lists(words, max_size=2),
        "extra": st.none() | st.sampled_from([{"a": [1, "x"]}, "text", 2]),
    },
)
items = st.dictionaries(st.sampled_from(["v1", "v2", "v3"]), st.lists(answers, min_size=1, max_size=8), min_size=1)


def compared(storage, before, after, **options):
    diff = RunDiff(storage, committed_run(storage, before), committed_run(storage, after))
    return [change for _, change in diff.rows(**options)], diff.summary()


def value_of(answer, path):
    """The value of a field as in the run's view: lists in lists are nested, missing values in them are null."""

    def below(value, keys):
        for at, key in enumerate(keys):
            if not isinstance(value, dict):
                return None
            value = value.get(key.removesuffix("[]"))
            if key.endswith("[]"):
                return None if value is None else [below(part, keys[at + 1 :]) for part in value]
        return value

    return None if answer is None else below(answer, path.split("."))


def expected_rows(before, after):
    """(segment, field, before, after, change) of two runs with the same segments."""
    rows = []
    for video in sorted(set(before) & set(after)):
        pair = [{segment_id(video, n): answer for n, answer in enumerate(side[video])} for side in (before, after)]
        for name in sorted(set(pair[0]) | set(pair[1])):
            for path in LEAVES:
                old, new = (value_of(side.get(name), path) for side in pair)
                if old is not None or new is not None:
                    change = (
                        "added" if old is None else "removed" if new is None else "same" if old == new else "changed"
                    )
                    rows.append((name, path, old, new, change))
    return rows


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(before=items, after=items)
def test_rows_and_summary_match_plain_python(tmp_path_factory, before, after):
    storage = open_storage(tmp_path_factory.mktemp("d"))
    runs = [make_run(storage, side, run_id=f"run_{name}") for name, side in (("a", before), ("b", after))]
    if not set(before) & set(after):
        with pytest.raises(InvalidInput, match="share no media"):
            compared(storage, *runs)
        return
    rows, summary = compared(storage, *runs, include_same=True)
    expected = expected_rows(before, after)
    assert [(r.segment_id, r.field, r.before, r.after, r.change) for r in rows] == expected
    assert [r for r in rows if r.change != "same"] == compared(storage, *runs)[0]
    for change in CHANGES:
        assert compared(storage, *runs, change=change)[0] == [r for r in rows if r.change == change]
    assert compared(storage, *runs, field="summary", include_same=True)[0] == [r for r in rows if r.field == "summary"]
    for path in LEAVES:
        counted = {
            change: sum(row[1] == path and row[4] == change for row in expected) for change in summary.fields[path]
        }
        assert summary.fields[path] == counted
    assert summary.changed_segments == len({row[0] for row in expected if row[4] != "same"})
    assert (summary.only_before, summary.only_after) == (len(set(before) - set(after)), len(set(after) - set(before)))
    shared = set(before) & set(after)
    longest = sum(max(len(before[video]), len(after[video])) for video in shared)
    assert sum(summary.segments.values()) == longest


def test_differently_segmented_runs_are_matched_by_overlap(tmp_path):
    storage = open_storage(tmp_path)
    coarse = {"v": [{"summary": f"c{n}"} for n in range(2)]}  # 0-6, 6-12
    fine = {"v": [{"summary": f"f{n}"} for n in range(4)]}  # 0-4, 4-8, 8-12, 12-16
    a = make_run(storage, coarse, run_id="run_a", window_us=6_000_000, cut="coarse")
    b = make_run(storage, fine, run_id="run_b", window_us=4_000_000, cut="fine")
    rows, summary = compared(storage, a, b)
    assert [
        (r.segment_id[-8:], (r.other_segment_id or "none")[-6:], r.matched_by, r.before, r.after) for r in rows
    ] == [
        ("coarse_0", "fine_0", "overlap", "c0", "f0"),
        ("v_fine_1", "none", "none", None, "f1"),
        ("coarse_1", "fine_2", "overlap", "c1", "f2"),
        ("v_fine_3", "none", "none", None, "f3"),
    ]
    assert summary.segments == {"id": 0, "overlap": 2, "none": 2}
    rows, summary = compared(storage, b, a)
    assert [(r.segment_id[-6:], (r.other_segment_id or "none")[-8:], r.after) for r in rows] == [
        ("fine_0", "coarse_0", "c0"), ("fine_1", "coarse_0", "c0"), ("fine_2", "coarse_1", "c1"), ("fine_3", "none", None)
    ]  # fmt: skip
    assert summary.segments == {"id": 0, "overlap": 3, "none": 1}


def test_prompts_may_differ_and_integers_equal_floats(tmp_path):
    def prompt(**fields):
        schema = {"type": "object", "properties": fields}
        return prompt_from_dict({"name": "any", "prompt_text": "Say what is seen.", "json_schema": schema})

    storage = open_storage(tmp_path)
    lists = {"type": "array", "items": {"type": "integer"}}
    first = prompt(n={"type": "integer"}, ns=lists, gone={"type": "string"})
    second = prompt(n={"type": "number"}, ns={**lists, "items": {"type": "number"}}, new={"type": "boolean"})
    a = make_run(storage, {"v": [{"n": 1, "ns": [1, 2], "gone": "x"}, {"n": 2}]}, first)
    b = make_run(storage, {"v": [{"n": 1.0, "ns": [1.0, 2.0], "new": False}, {"n": 2.5}]}, second)
    rows, summary = compared(storage, a, b)
    assert [(r.segment_id[-1], r.field, r.before, r.after, r.change) for r in rows] == [
        ("0", "gone", "x", None, "removed"), ("0", "new", None, False, "added"), ("1", "n", 2.0, 2.5, "changed")
    ]  # fmt: skip
    assert summary.fields["n"]["same"] == summary.fields["ns"]["same"] == 1
    empty = make_run(storage, {"v": [{"x": 1}]}, prompt())
    with pytest.raises(InvalidInput, match="no named fields"):
        compared(storage, empty, empty)
    nothing = make_run(storage, {"v": [None]}, first)  # no results table
    assert {r.change for r in compared(storage, nothing, a)[0]} == {"added"}


def test_page_continues_after_any_row_across_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("promptreel.tables.diff._FIRST_BATCH_SEGMENTS", 3)
    storage = open_storage(tmp_path)
    before = {f"v{n}": [{"summary": "a", "keywords": ["x"]}, {"summary": "b"}] for n in range(12)}
    after = {f"v{n}": [{"summary": "c", "keywords": ["y"]}, {"summary": "b"}] for n in range(12)}
    runs = [make_run(storage, before, run_id="run_a", shards=3), make_run(storage, after, run_id="run_b", shards=2)]
    diff = RunDiff(storage, *(committed_run(storage, run) for run in runs))
    complete = list(diff.rows())
    assert len(complete) == 24
    assert [row.video_id for _, row in complete] == sorted(row.video_id for _, row in complete)
    for at in range(len(complete)):
        assert list(diff.rows(after=complete[at][0], limit=5)) == complete[at + 1 : at + 6]


def test_real_runs_with_different_windows_are_matched_by_overlap(tmp_path):
    make_video(tmp_path / "media" / "a.mp4", seconds=4)
    schema = {"type": "object", "properties": {"duration_seconds": {"type": "number"}}}
    measure = prompt_from_dict({"name": "lengths", "prompt_text": "Say how long it is.", "json_schema": schema})
    data = tmp_path / "data"
    fine, coarse = (run_media(data, tmp_path / "media", settings_for(window_s=window), measure) for window in (1, 2))
    storage = open_storage(data)
    rows, summary = compared(storage, fine, fine, include_same=True)
    assert [row.change for row in rows] == ["same"] * 4
    assert summary.segments == {"id": 4, "overlap": 0, "none": 0}
    rows, summary = compared(storage, fine, coarse)
    assert [(row.before, row.after, row.matched_by) for row in rows] == [(1.0, 2.0, "overlap")] * 4


# ------------------------------------------------------------------------------------------------ the command


@pytest.fixture
def two_runs(tmp_path):
    storage = open_storage(tmp_path / "data")
    before = {"v": [{"summary": "a", "scene": {"people_count": 1}}, {"summary": "b"}], "only": [{}]}
    after = {"v": [{"summary": "a", "scene": {"people_count": 2}}, {"keywords": ["x,", "y"]}]}
    make_run(storage, before, run_id="run_a")
    make_run(storage, after, run_id="run_b")
    return tmp_path / "data"


def invoke(data, *words):
    return CliRunner().invoke(diff_command, ["run_a", "run_b", "--data-dir", str(data), *map(str, words)])


def test_command_prints_changes(two_runs):
    printed = invoke(two_runs)
    assert printed.exit_code == 0, printed.output
    assert "2 of 2 segments differ; matched: 2 by id" in printed.output
    assert "1 media only in run_a are not compared" in printed.output
    answer = json.loads(invoke(two_runs, "--json").output)
    assert [(row["field"], row["change"], row["before"], row["after"]) for row in answer["changes"]] == [
        ("scene.people_count", "changed", 1, 2), ("summary", "removed", "b", None), ("keywords", "added", None, ["x,", "y"])
    ]  # fmt: skip
    assert answer["summary"]["fields"]["summary"] == {"added": 0, "removed": 1, "changed": 0, "same": 1}
    assert len(json.loads(invoke(two_runs, "--json", "--same").output)["changes"]) == 4
    assert len(json.loads(invoke(two_runs, "--json", "--limit", 1).output)["changes"]) == 1


def test_command_writes_all_rows_to_a_file(two_runs, tmp_path):
    rows = json.loads(invoke(two_runs, "--json").output)["changes"]
    for extension in ("csv", "jsonl", "parquet"):
        done = invoke(two_runs, "--out", tmp_path / f"d.{extension}", "--limit", 1)
        assert "3 rows in" in done.output
    assert [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()] == rows
    with (tmp_path / "d.csv").open(newline="") as file:
        flat = list(csv.DictReader(file))
    table = pq.read_table(tmp_path / "d.parquet").to_pylist()
    for found in (flat, table):
        assert [json.loads(row["after"] or "null") for row in found] == [row["after"] for row in rows]
        assert [float(row["start_time"]) for row in found] == [row["start_time"] for row in rows]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["d.csv", "d.jsonl", "d.parquet"]
    unknown_extension = invoke(two_runs, "--out", tmp_path / "d.xls")
    assert "the extension must be one of" in str(unknown_extension.exception)
    missing_folder = invoke(two_runs, "--out", tmp_path / "none" / "d.csv")
    assert "cannot write" in str(missing_folder.exception)


def test_documented_sql_finds_the_same_changes(two_runs):
    text = (Path(__file__).parents[2] / "docs" / "run-diff.md").read_text()
    recipe = text.split("```sql recipe\n")[1].split("```")[0]
    storage = open_storage(two_runs)
    with duckdb.connect() as connection:
        for run_id in ("run_a", "run_b"):
            run = committed_run(storage, run_id)
            connection.execute(views_sql(run.prompt, run.manifest, str(two_runs / "runs" / run_id)))
        found = connection.execute(recipe).fetchall()
    rows = [row for row in compared(storage, "run_a", "run_b")[0] if row.field in ("summary", "scene.people_count")]
    assert sorted((row.segment_id, row.field) for row in rows) == sorted((row[1], row[2]) for row in found)


# ------------------------------------------------------------------------------------------------ the endpoint


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with ApiServer(tmp_path_factory.mktemp("diff"), supervise=False) as server:
        yield server


@pytest.fixture
def caller(service):
    return service.caller()


def test_endpoint_pages_are_stable_across_commits(service, caller):
    catalogue = Catalogue(service, caller.account_id)
    index = catalogue.index()
    videos = [catalogue.video(index) for _ in range(3)]
    a = catalogue.run({video: [{"summary": f"a{n}"} for n in range(4)] for video in videos}, index_id=index)
    b = catalogue.run({video: [{"summary": f"b{n}"} for n in range(4)] for video in videos}, index_id=index)

    def page(**parameters):
        return ok_json(caller.get(f"/prompt-runs/{a}/diff", params={"other_run_id": b, **parameters}))

    complete = page()
    assert complete["pagination"]["has_more"] is False
    assert [row["before"] for row in complete["data"]] == [f"a{n}" for n in range(4)] * 3
    assert (complete["run_id"], complete["other_run_id"]) == (a, b)
    assert complete["summary"]["fields"]["summary"] == {"added": 0, "removed": 0, "changed": 12, "same": 0}
    first = page(limit=5)
    commit(
        service.app.state.storage, b, {video: [{"summary": f"a{n}"} for n in range(4)] for video in videos}, attempt=2
    )
    rows, cursor = first["data"], first["pagination"]["next_cursor"]
    while cursor:
        found = page(limit=5, cursor=cursor)
        assert found["summary"] is None
        rows, cursor = rows + found["data"], found["pagination"]["next_cursor"]
    assert rows == complete["data"]
    assert page()["data"] == []
    assert len(page(include_same="true")["data"]) == 12
    assert len(page(change="same", field="summary")["data"]) == 12
    assert page(change="removed")["data"] == []
    params = {"other_run_id": a, "cursor": first["pagination"]["next_cursor"]}
    assert_error(caller.get(f"/prompt-runs/{b}/diff", params=params), 422, "validation_failed")


def test_endpoint_rejects_incomparable_runs(service, caller):
    catalogue = Catalogue(service, caller.account_id)
    other = service.caller()
    theirs = Catalogue(service, other.account_id)
    mine, unrelated = (catalogue.run({catalogue.video(): [{"summary": "a"}]}) for _ in range(2))
    foreign = theirs.run({theirs.video(): [{"summary": "a"}]})
    for pair in ((mine, foreign), (foreign, mine), (mine, "run_none")):
        assert_error(
            caller.get(f"/prompt-runs/{pair[0]}/diff", params={"other_run_id": pair[1]}), 404, "resource_run_not_found"
        )
    error = assert_error(
        caller.get(f"/prompt-runs/{mine}/diff", params={"other_run_id": unrelated}), 422, "validation_failed"
    )
    assert "share no media" in error["message"]
    assert_error(caller.get(f"/prompt-runs/{mine}/diff"), 422, "validation_failed")
    searcher = service.caller("search", account_id=caller.account_id)
    assert_error(searcher.get(f"/prompt-runs/{mine}/diff", params={"other_run_id": mine}), 403,
            "authorization_insufficient_scope")  # fmt: skip
