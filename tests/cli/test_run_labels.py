"""`promptreel run --name --tag` and `promptreel runs` with filters."""

import json

import pytest

from tests.cli.in_process import invoke
from tests.pipeline_runs import make_image, promptreel


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three runs: two named and tagged, one with a changed prompt and no labels."""
    folder = tmp_path_factory.mktemp("labelled")
    make_image(folder / "a.png")
    prompt = {"name": "size", "prompt_text": "Measure the picture.", "json_schema": {"type": "object", "properties": {
        "brightness": {"type": "number"}}}}  # fmt: skip
    for name, text in (("one.json", "Measure the picture."), ("two.json", "Measure the picture again.")):
        (folder / name).write_text(json.dumps({**prompt, "prompt_text": text}))
    for prompt_file, *labels in (
        ("one.json", "--name", "first", "--tag", "team=red", "--tag", "goal=test"),
        ("one.json", "--name", "second", "--tag", "team=red"),
        ("two.json",),
    ):
        code, _, err = promptreel(
            "run", folder / "a.png", "--prompt", folder / prompt_file, *labels, "--data-dir", folder / "data",
            "--model", "signals", "--no-text-embedding", "--no-image-embedding",
        )  # fmt: skip
        assert code == 0, err
    return folder / "data"


def listed(data, *words):
    code, out, err = invoke("runs", *words, "--data-dir", data, "--json")
    assert code == 0, err
    return [(row["name"], row["tags"], row["prompt_version"]) for row in json.loads(out)]


def test_runs_show_and_filter_names_tags_and_versions(data):
    first, second, third = ("first", {"team": "red", "goal": "test"}, 1), ("second", {"team": "red"}, 1), (None, {}, 2)
    assert listed(data) == [third, second, first]
    assert listed(data, "--name", "first") == [first]
    assert listed(data, "--tag", "team=red", "--limit", 1) == [second]
    assert listed(data, "--tag", "team=red", "--tag", "goal=test") == [first]
    assert listed(data, "--tag", "team=blue") == []
    assert listed(data, "--prompt", "size", "--limit", 2) == [third, second]
    assert listed(data, "--prompt", "other") == []
    _, out, _ = invoke("runs", "--data-dir", data)
    assert "goal=test" in out
    assert "size v2" in out


def test_labels_of_a_finished_run_cannot_change_on_resume(data):
    run_id = sorted(path.name for path in (data / "runs").iterdir())[0]
    code, _, err = invoke("run", "--resume", run_id, "--name", "other", "--data-dir", data)
    assert (code, "remove --name" in err) == (2, True)


def test_invalid_tag_stops_the_run_before_it_exists(tmp_path):
    make_image(tmp_path / "a.png")
    code, _, err = invoke(
        "run", tmp_path / "a.png", "--tag", "red", "--data-dir", tmp_path / "data", "--model", "signals"
    )
    assert (code, "tag is 'red'; give it as key=value" in err) == (2, True)
    assert not (tmp_path / "data" / "runs").exists()


def test_sample_is_shown_by_summary_and_list_of_runs(data, tmp_path):
    folder = data.parent
    words = ["--prompt", folder / "one.json", "--sample", 3, "--sample-of", "items", "--sample-seed", 4]
    code, out, err = promptreel("run", folder / "a.png", *words, "--data-dir", tmp_path, "--model", "signals")
    assert code == 0, err
    assert "sample   3 items of the target, seed 4" in out
    _, out, _ = invoke("runs", "--data-dir", tmp_path, "--json")
    assert json.loads(out)[0]["sample"] == {"count": 3, "unit": "items", "seed": 4}
    code, _, err = invoke("run", folder / "a.png", "--sample", 0, "--data-dir", tmp_path)
    assert (code, "--sample" in err) == (2, True)
