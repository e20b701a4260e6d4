"""What the reuse of fields costs and saves: look-ups, estimates, tiers, and two runs at once."""

from dataclasses import replace

import pytest

from promptreel.cli.target import expand_target
from promptreel.pipelines.estimate import estimate_run
from promptreel.pipelines.runner import execute_run
from promptreel.providers.earlier_fields import MAX_LOOK_UPS
from promptreel.providers.registry import provider_of
from promptreel.tables import asked_schemas
from promptreel.tables.operation_cache import OperationCache
from promptreel.tables.storage import open_storage
from tests.pipeline_runs import create_run, kill, make_video, manifest_of, plain_rows, start_runner, wait_for
from tests.pipelines.batch_runs import _short_waits, batch_settings, kill_runner_at  # noqa: F401
from tests.pipelines.conftest import frame_settings
from tests.pipelines.field_runs import SECONDS, TEXT, Service, prompt_of, results_of, run, run_of, values_of


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("media") / "film.mp4", SECONDS, sound=False)


@pytest.fixture
def service():
    with Service() as server:
        yield server


def estimate(service, data, film, prompt, **changes):
    settings = replace(frame_settings(service), **changes)
    target = expand_target([str(film)]).items
    return estimate_run(open_storage(data), prompt, settings, provider_of(settings), target).to_dict()


def count_reads(monkeypatch, service, data, film, prompt, **changes):
    """Execute a run without interim states; return the number of values that it reads from the operation cache."""
    read, get = [], OperationCache.get
    with monkeypatch.context() as patch:
        patch.setattr(OperationCache, "get", lambda self, key: read.append(key) or get(self, key))
        run(service, data, film, prompt, commit_interval_s=0, **changes)
    return len(read)


def test_run_without_earlier_schemas_makes_no_further_reads(service, tmp_path, film, monkeypatch):
    counts = []
    for is_on in (True, False):
        prompt = prompt_of("mood", text=f"Describe it: {is_on}.")
        counts.append(count_reads(monkeypatch, service, tmp_path, film, prompt, reuse_fields=is_on))
    assert counts[0] == counts[1]


def test_look_ups_are_bounded_with_many_earlier_schemas(service, tmp_path, film, monkeypatch):
    alone = count_reads(monkeypatch, service, tmp_path, film, prompt_of("mood"))
    (folder,) = (path for path in (tmp_path / "cache" / "schemas").glob("*/*") if path.is_dir())
    for number in range(40):
        schema = prompt_of("mood", f"f{number}", fields={"mood": TEXT, f"f{number}": TEXT}).json_schema
        asked_schemas.store_asked_schema(open_storage(tmp_path), folder.name, {**schema, "$defs": {}})
    among = count_reads(monkeypatch, service, tmp_path, film, prompt_of("mood", "who"))
    assert alone < among <= alone + SECONDS * MAX_LOOK_UPS


def test_estimate_counts_only_the_tokens_of_missing_fields(service, tmp_path, film):
    run(service, tmp_path, film, prompt_of("mood", "seen"))
    prompt = prompt_of("mood", "seen", "who")
    reused = estimate(service, tmp_path, film, prompt)
    alone = estimate(service, tmp_path, film, prompt_of("who"))
    complete = estimate(service, tmp_path, film, prompt, reuse_fields=False)
    assert reused["model_calls"] == complete["model_calls"] == [SECONDS] * 2
    assert reused["reused_results"] == 0
    assert reused["expected_tokens"] == alone["expected_tokens"]
    assert reused["input_tokens"] == alone["input_tokens"]
    assert reused["expected_tokens"]["output"]["expected"] < complete["expected_tokens"]["output"]["expected"]
    assert reused["input_tokens"]["image"] == complete["input_tokens"]["image"]  # the media is sent again


def test_estimate_counts_merged_answers_as_reused(service, tmp_path, film):
    for name in ("mood", "who"):
        run(service, tmp_path, film, prompt_of(name))
    prompt = prompt_of("who", "mood")
    before = estimate(service, tmp_path, film, prompt)
    assert (before["model_calls"], before["reused_results"]) == ([0, 0], SECONDS)
    assert before["input_tokens"] == {"total": 0}
    counts = manifest_of(tmp_path, run_of(run(service, tmp_path, film, prompt))).counts
    assert (counts["results.reused"], counts.get("calls.total", 0)) == (SECONDS, 0)


@pytest.mark.usefixtures("_short_waits")
def test_batch_requests_only_the_missing_fields(service, tmp_path, film):
    first = run(service, tmp_path, film, prompt_of("mood"))
    service.take()
    run_id = create_run(tmp_path, film, batch_settings(service), prompt_of("mood", "who"))
    kill_runner_at("promptreel.tables.batch_groups:BatchGroups:store:after:2", tmp_path, run_id)
    execute_run(str(tmp_path), run_id)
    assert service.take() == [{"who"}] * SECONDS
    assert values_of(results_of(tmp_path, run_id), "mood") == values_of(first, "mood")
    assert {call["tier"] for call in plain_rows(tmp_path, run_id, "llm_calls")} == {"batch"}


def test_two_runs_at_once_request_the_missing_fields_once(service, tmp_path, film):
    run(service, tmp_path, film, prompt_of("mood"))
    service.take()
    runs = [create_run(tmp_path, film, frame_settings(service), prompt_of("mood", "who")) for _ in range(2)]
    children = [start_runner(tmp_path, run_id) for run_id in runs]
    try:
        wait_for(lambda: all(child.poll() is not None for child in children))
    finally:
        for child in children:
            kill(child)
    assert service.take() == [{"who"}] * SECONDS
    assert values_of(results_of(tmp_path, runs[0]), "who") == values_of(results_of(tmp_path, runs[1]), "who")
