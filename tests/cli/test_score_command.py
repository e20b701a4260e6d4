"""`promptreel score`: one run, a comparison of runs, and JSON."""

import json

import pytest

from promptreel.schemas.run_labels import RunLabels
from promptreel.tables.storage import open_storage
from tests.cli.in_process import invoke
from tests.synthetic_runs import make_run
from tests.tables.test_scores import FIRST, LABELS, PROMPT, SECOND, write_json


@pytest.fixture
def data(tmp_path):
    storage = open_storage(tmp_path / "data")
    tags = {"team": "red"}
    for number, (name, answers) in enumerate((("base", FIRST), ("better", SECOND)), 1):
        make_run(
            storage, {"v": answers}, PROMPT, run_id=f"run_{number}", prompt_version=number, labels=RunLabels(name, tags)
        )
    write_json(tmp_path / "labels.jsonl", LABELS)
    return tmp_path / "data"


def score(data, *words):
    return invoke("score", *words, "--labels", data.parent / "labels.jsonl", "--data-dir", data)


def test_one_run_shows_measures_and_details(data):
    code, out, err = score(data, "run_1", "--values")
    assert code == 0, err
    assert "Scores of base (scenes v1, signals)" in err
    assert "MAE 0" in err
    assert "precision 1, recall 1" in err
    assert "scored 3 of 3 labels" in err
    assert "a bird" in out
    assert out.splitlines()[0] == "row\tfield\titem\ttime\texpected\tanswer\tscore"
    assert "\tv.mp4\t" in out  # the item's name


def test_several_runs_are_compared_by_field(data):
    code, out, err = score(data, "--tag", "team=red")
    assert code == 0, err
    assert all(name in " ".join(out.split()) for name in ("base", "better", "scene.place", "mean of fields"))
    code, out, _ = score(data, "run_1", "run_2", "--json")
    body = json.loads(out)
    assert (code, body["labels"], body["scored_labels"]) == (0, 3, 3)
    shown = [(run["run_id"], run["name"], run["prompt_version"], run["model"]) for run in body["runs"]]
    assert shown == [("run_1", "base", 1, "signals"), ("run_2", "better", 2, "signals")]
    scores = [{part["field"]: round(part["score"], 2) for part in run["fields"]} for run in body["runs"]]
    assert scores[0]["count"] == 1
    assert scores[1]["count"] == 0.33
    assert body["runs"][0]["score"] == pytest.approx(sum(part["score"] for part in body["runs"][0]["fields"]) / 4)


def test_newest_run_is_scored_by_default(data):
    code, out, _ = score(data, "--json")
    assert (code, [run["run_id"] for run in json.loads(out)["runs"]]) == (0, ["run_2"])


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--measure", "title=fuzzy"], "--measure is 'title=fuzzy'; give FIELD=MEASURE with one of exact, numeric"),
        (["--measure", "titel=exact"], "measure: 'titel' is not a field of the prompt"),
        (["run_1", "--tag", "team=red"], "give either RUN_ID or --name and --tag"),
    ],
)
def test_invalid_options_are_rejected_with_their_value(data, words, problem):
    code, _, err = score(data, *words)
    assert (code, problem in err) == (2, True), err
    code, _, err = score(data, "--name", "none")
    assert (code, "no finished run fits" in err) == (2, True)
