"""`current_results` and `current_fields`: the newest answer of each segment per prompt, across runs."""

from datetime import UTC, datetime, timedelta

import pytest

from promptreel.schemas.prompt import prompt_from_dict
from promptreel.schemas.run_labels import RunLabels
from promptreel.tables.analyst_views import analyst_views, connect_views
from promptreel.tables.reader import committed_run, query
from promptreel.tables.storage import open_storage
from tests.synthetic_runs import make_run

FIRST_TIME = datetime(2026, 4, 20, 10, tzinfo=UTC)


def prompt_of(properties, name="scenes"):
    schema = {"type": "object", "properties": properties}
    return prompt_from_dict({"name": name, "prompt_text": "Say what is seen.", "json_schema": schema})


TITLE = {"title": {"type": "string"}}
FIRST = prompt_of(TITLE)
SECOND = prompt_of({**TITLE, "run_id": {"type": "integer"}, "score": {"type": "number"}})
OTHER = prompt_of({"score": {"type": "integer"}}, "scores")


@pytest.fixture
def storage(tmp_path):
    return open_storage(tmp_path)


def run_of(storage, prompt, answers, day, version=None, labels=RunLabels()):
    """Commit a run of one item whose answers were given on a day; None as an answer is a failed segment."""
    run_id = make_run(
        storage, {"v": answers}, prompt, executed_at=(FIRST_TIME + timedelta(days=day)).isoformat(),
        prompt_version=version, labels=labels,
    )  # fmt: skip
    return committed_run(storage, run_id)


def current(storage, runs, statement):
    with connect_views(storage, runs) as connection:
        return [tuple(row.values()) for row in query(connection, statement).to_pylist()]


def test_each_segment_has_its_newest_successful_answer(storage):
    old = run_of(storage, FIRST, [{"title": "a"}, {"title": "b"}, {"title": "c"}], 0, 1, RunLabels("base"))
    new = run_of(storage, SECOND, [{"title": "A", "run_id": 7, "score": 0.5}, None, None], 1, 2, RunLabels("better"))
    columns = 'title, "metadata.run_id", score, run_id, prompt_version, run_name'
    fields = f"SELECT {columns} FROM current_fields ORDER BY start_time"
    expected = [
        ("A", 7, 0.5, new.run_id, 2, "better"),
        ("b", None, None, old.run_id, 1, "base"),
        ("c", None, None, old.run_id, 1, "base"),
    ]
    for runs in ([new, old], [old, new]):
        assert current(storage, runs, fields) == expected
        results = "SELECT metadata->>'title', prompt_name, prompt_version FROM current_results ORDER BY start_time"
        assert current(storage, runs, results) == [("A", "scenes", 2), ("b", "scenes", 1), ("c", "scenes", 1)]


def test_old_answer_reused_by_a_newer_run_is_not_newest(storage):
    reused = run_of(storage, FIRST, [{"title": "old"}], 0)
    fresh = run_of(storage, FIRST, [{"title": "new"}], 1)
    later = run_of(storage, FIRST, [{"title": "old"}], 0)  # reuses the answer of day 0
    assert current(storage, [later, fresh, reused], "SELECT title FROM current_fields") == [("new",)]


def test_prompts_of_other_names_have_their_own_rows(storage):
    runs = [run_of(storage, SECOND, [{"score": 0.5}], 0), run_of(storage, OTHER, [{"score": 2}], 1)]
    rows = current(storage, runs, "SELECT prompt_name, score FROM current_fields ORDER BY prompt_name")
    assert rows == [("scenes", 0.5), ("scores", 2.0)]


def test_views_describe_their_columns_and_exist_without_runs(storage):
    runs = [run_of(storage, FIRST, [{"title": "a"}], 0), run_of(storage, SECOND, [{"title": "b"}], 1)]
    for scope in (runs, runs[:1], []):
        with connect_views(storage, scope) as connection:
            for view in analyst_views(storage, scope).views:
                if view.name.startswith("current_"):
                    described = connection.execute(f'DESCRIBE "{view.name}"').fetchall()
                    assert [(row[0], row[1]) for row in described] == [(c.name, c.type) for c in view.columns]
    views = {view.name: view for view in analyst_views(storage, runs).views}
    paths = {column.name: column.field_path for column in views["current_fields"].columns if column.field_path}
    assert paths == {"title": "title", "metadata.run_id": "run_id", "score": "score"}
