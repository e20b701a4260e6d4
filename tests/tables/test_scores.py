"""Scores of runs against labelled files."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from promptreel.schemas.errors import InvalidInput
from promptreel.schemas.field_paths import LeafField
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.tables.reader import committed_run
from promptreel.tables.scoring.labels import read_labels
from promptreel.tables.scoring.scores import score_runs
from promptreel.tables.storage import open_storage
from tests.synthetic_runs import make_run, segment_id

PROMPT = prompt_from_dict(
    {
        "name": "scenes",
        "prompt_text": "Say what is seen.",
        "json_schema": {
            "type": "object",
            "properties": {
                "title": {"type": "string"},
                "count": {"type": "integer"},
                "scene": {"type": "object", "properties": {"place": {"type": "string", "enum": ["dock", "yard"]}}},
                "people": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
            },
        },
    }
)


def answer(title, count, place, *people):
    return {"title": title, "count": count, "scene": {"place": place}, "people": [{"name": name} for name in people]}


FIRST = [answer("a ship", 2, "dock", "Ada"), answer("a crane", 10, "yard", "Ada", "Bob"), None]
SECOND = [answer("a ship", 3, "dock", "Ada"), answer("a crane", 10, "dock", "Ada"), answer("a bird", 1, "yard")]
LABELS = [
    {"name": "v.mp4", "time": 1.0, "title": "a ship", "count": 2, "scene": {"place": "dock"}, "people": [{"name": "Ada"}]},
    {"name": "v.mp4", "start_time": 4.0, "end_time": 9.0, "title": "A crane.", "count": 10, "scene.place": "yard",
     "people[].name": ["Ada", "Bob"]},
    {"name": "v.mp4", "segment_id": segment_id("v", 2), "title": "a bird", "count": None},
]  # fmt: skip


@pytest.fixture
def storage(tmp_path):
    return open_storage(tmp_path / "data")


def run_of(storage, answers, cut="a", prompt=PROMPT):
    return committed_run(storage, make_run(storage, {"v": answers}, prompt, cut=cut))


def write_json(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def scores_of(storage, runs, path, *options, **named):
    found = score_runs(storage, runs, read_labels(path), *options, **named)
    return [{part.field: part.to_dict() for part in run.fields} for run in found.runs]


def test_fields_are_scored_by_their_measures(storage, tmp_path):
    first, second = scores_of(
        storage, [run_of(storage, FIRST), run_of(storage, SECOND)], write_json(tmp_path / "l.jsonl", LABELS)
    )
    assert {name: (part["measure"], part["labels"], part["unanswered"]) for name, part in first.items()} == {
        "title": ("text", 3, 1), "count": ("numeric", 3, 0), "scene.place": ("exact", 2, 0), "people[].name": ("set", 2, 0),
    }  # fmt: skip
    assert [round(first[name]["score"], 3) for name in first] == [0.667, 1, 1, 1]
    assert [round(second[name]["score"], 3) for name in second] == [1, 0.333, 0.5, 0.8]
    assert (second["count"]["mean_absolute_error"], second["count"]["mean_relative_error"]) == (0.5, 0.25)
    assert (second["people[].name"]["precision"], second["people[].name"]["recall"]) == (1, pytest.approx(2 / 3))


def test_csv_and_parquet_labels_score_like_json(storage, tmp_path):
    rows = [
        {
            "video_id": "v",
            "segment_id": segment_id("v", 0),
            "count": 2,
            "people[].name": ["Ada"],
            "scene.place": "dock",
        },
        {"video_id": "v", "segment_id": segment_id("v", 1), "count": 9, "people[].name": ["Ada", "Bob"]},
    ]
    csv = tmp_path / "l.csv"
    csv.write_text(
        "video_id,segment_id,count,people[].name,scene.place\n"
        f"v,{segment_id('v', 0)},2,Ada,dock\n"
        f"v,{segment_id('v', 1)},9,Ada; Bob,\n"
    )
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "l.parquet")
    run = run_of(storage, FIRST)
    expected = scores_of(storage, [run], write_json(tmp_path / "l.jsonl", rows))
    assert [part["labels"] for part in expected[0].values()] == [2, 1, 2]
    assert scores_of(storage, [run], csv) == expected
    assert scores_of(storage, [run], tmp_path / "l.parquet") == expected


def test_measure_and_tolerance_can_be_named(storage, tmp_path):
    path = write_json(tmp_path / "l.jsonl", [{**LABELS[0], "title": "the ship", "count": 1.9}])
    run = run_of(storage, FIRST)
    (strict,) = scores_of(storage, [run], path, {"title": "exact"}, 0.01)
    (loose,) = scores_of(storage, [run], path, {"count": "exact"}, 0.1)
    assert (strict["title"]["score"], strict["count"]["score"]) == (0, 0)
    assert (loose["title"]["measure"], loose["count"]["measure"], loose["count"]["score"]) == ("text", "exact", 0)


def test_only_labels_that_every_run_covers_are_scored(storage, tmp_path):
    path = write_json(tmp_path / "l.jsonl", LABELS)
    whole, short = run_of(storage, SECOND), run_of(storage, SECOND[:1], cut="b")
    found = score_runs(storage, [whole, short], read_labels(path))
    assert (found.labels, found.common) == (3, 1)
    assert [part.labels for run in found.runs for part in run.fields] == [1] * 8
    assert [dict(run.unmatched) for run in found.runs] == [
        {}, {"the item has no segment at that time": 1, "the item has no such segment": 1},
    ]  # fmt: skip


def test_label_at_the_end_of_an_item_is_matched(storage, tmp_path):
    rows = [{"item": "v", "time": time, "title": "x"} for time in (15.0, 15.1, -1)]
    found = score_runs(storage, [run_of(storage, SECOND)], read_labels(write_json(tmp_path / "l.jsonl", rows)))
    assert (found.common, dict(found.runs[0].unmatched)) == (1, {"the item has no segment at that time": 2})
    assert found.runs[0].fields[0].values[0].position.segment_id == segment_id("v", 2)


def test_label_without_time_is_for_synthesis_or_only_segment(storage, tmp_path):
    level = {
        "instructions_text": "Sum up.", "included_segment_fields": ["title"],
        "json_schema": {"type": "object", "properties": {"topic": {"type": "string"}, "title": {"type": "string"}}},
    }  # fmt: skip
    with_level = prompt_from_dict({**PROMPT.to_dict(), "video_level": level})
    run_id = make_run(
        storage, {"v": FIRST, "w": FIRST}, with_level, syntheses={"v": {"topic": "harbour", "title": "a day"}}
    )
    rows = [{"name": f"{name}.mp4", "topic": "harbour", "title": "a day"} for name in "vw"]
    rows.append({"name": "v.mp4", "time": 1, "title": "a ship"})
    path = write_json(tmp_path / "l.jsonl", rows)
    (found,) = score_runs(storage, [committed_run(storage, run_id)], read_labels(path)).runs
    shown = [(part.field, part.level, part.labels, part.unanswered, part.figures["score"]) for part in found.fields]
    assert shown == [("title", "segment", 1, 0, 1), ("topic", "item", 2, 1, 0.5), ("title", "item", 2, 1, 0.5)]
    only = run_of(storage, FIRST[:1])
    (scored,) = scores_of(storage, [only], write_json(tmp_path / "l.jsonl", [{"name": "v.mp4", "title": "a ship"}]))
    assert (scored["title"]["level"], scored["title"]["score"]) == ("segment", 1)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (
            [{"name": "v.mp4", "time": 1, "titel": "x"}],
            "the column 'titel' is not a field of the prompt; its fields",
        ),
        ([{"time": 1, "title": "x"}], "row 1 names no media item"),
        ([{"name": "v.mp4", "start_time": 1, "title": "x"}], "only one of start_time and end_time"),
        ([{"name": "v.mp4", "start_time": 2, "end_time": 1}], "end_time is 1, before start_time 2"),
        ([{"name": "v.mp4", "time": "soon"}], "time is 'soon'"),
        ([{"name": "w.mp4", "time": 1, "title": "x"}], r"no label fits the run: .*no such item \(row 1\)"),
        ([{"name": "v.mp4", "title": "x"}], "several segments and no synthesis"),
        ([], "has no rows"),
    ],
)
def test_labels_that_do_not_fit_are_rejected_with_the_row(storage, tmp_path, rows, problem):
    path = write_json(tmp_path / "l.jsonl", rows)
    with pytest.raises(InvalidInput, match=problem):
        score_runs(storage, [run_of(storage, SECOND)], read_labels(path))


def test_unreadable_files_are_rejected_with_the_reason(tmp_path):
    (tmp_path / "l.txt").write_text("a")
    (tmp_path / "l.csv").write_text("name,title\na,b,c\n")
    (tmp_path / "l.jsonl").write_text("{")
    (tmp_path / "l.parquet").write_text("no table")
    for name, problem in (
        ("l.txt", "extension must be one of"), ("l.csv", "more or fewer cells"), ("l.jsonl", "cannot be read"),
        ("l.parquet", "cannot be read"), ("none.csv", "cannot be read"),
    ):  # fmt: skip
        with pytest.raises(InvalidInput, match=problem):
            read_labels(tmp_path / name)


def test_csv_cells_are_read_by_the_type_of_the_field(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text('name,n,b,l,j,s,t\nx,1.5,Yes,"[1, null, 2]","{""a"": 1}", ,null\n', encoding="utf-8-sig")
    (label,) = read_labels(path)
    leaves = [
        LeafField(*part, {})
        for part in (("n", "number", 0), ("b", "boolean", 0), ("l", "integer", 1), ("j", "json", 0), ("s", "string", 0),
                     ("t", "string", 0), ("u", "string", 0))
    ]  # fmt: skip
    assert [label.expected(part) for part in leaves] == [
        (True, 1.5), (True, True), (True, [1, 2]), (True, {"a": 1}), (False, None), (True, None), (False, None),
    ]  # fmt: skip
    with pytest.raises(InvalidInput, match=r"row 1: b is 'Yes', which is not of type number"):
        label.expected(LeafField("b", "number", 0, {}))
