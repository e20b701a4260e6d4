"""The version that answers: warnings if it is another model, and results that are never reused across versions."""

from dataclasses import replace

import pytest

from promptreel.pipelines.runner import execute_run
from promptreel.providers.answers import CheckedAnswer
from promptreel.providers.gemini import GeminiProvider
from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL, KNOWN_MODELS
from promptreel.schemas.errors import StorageError
from promptreel.schemas.settings import ModelSettings
from promptreel.tables.operation_cache import OperationCache
from promptreel.transforms.rows.version_warnings import version_warnings
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import check_counts, create_run, make_video, manifest_of, run_media, settings_for
from tests.prompts import NESTED

ALIAS = "gemini-flash-latest"
OLD, NEW = "gemini-3.8-flash-001", "gemini-3.8-flash-002"
ROUTED = "gemini-2.5-flash"
PROMPT = replace(NESTED, video_level=None)


@pytest.fixture(autouse=True)
def _set_key(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("film") / "film.mp4", seconds=3, sound=False)


def serve(data, media, model, version, prompt=PROMPT, **options):
    """Run the prompt while the service answers with a version; return the rows, the manifest and the server's calls."""
    with FakeGemini(versions={model: version}, retired=(), **options) as server:
        settings = settings_for(server, window_s=1, model=model, media_input="frames")
        run_id = run_media(data, media, settings, prompt)
        return check_counts(data, run_id), manifest_of(data, run_id), server.ledger.calls()


def warnings_of(manifest):
    """Return the run's warnings without those about operations that did not run."""
    return [warning for warning in manifest.warnings if not warning.startswith("no ")]


def versions_of(rows):
    return [row["model_version"] for row in rows["results"]]


def test_answers_of_another_model_warn_on_row_and_run(tmp_path, film):
    successor = KNOWN_MODELS[ROUTED].successor
    rows, manifest, _ = serve(tmp_path, film, ROUTED, successor, NESTED)
    warning = f"the service answered with '{successor}' instead of '{ROUTED}'"
    assert {row["warning"] for row in (*rows["results"], *rows["video_results"])} == {warning}
    text = f"results are answers of '{successor}' instead of '{ROUTED}'; name the model that answers, or another"
    assert warnings_of(manifest) == [text]


@pytest.mark.parametrize(("model", "version"), [(DEFAULT_GEMINI_MODEL, f"{DEFAULT_GEMINI_MODEL}-001"), (ALIAS, OLD)])
def test_version_of_the_same_model_does_not_warn(tmp_path, film, model, version):
    rows, manifest, _ = serve(tmp_path, film, model, version)
    assert {row["warning"] for row in rows["results"]} == {None}
    assert warnings_of(manifest) == []


def test_results_of_an_earlier_version_are_not_reused(tmp_path, film):
    serve(tmp_path, film, ALIAS, OLD)
    rows, manifest, calls = serve(tmp_path, film, ALIAS, NEW)
    assert versions_of(rows) == [NEW] * 3
    assert manifest.counts["results.reused"] == 0
    assert len(calls) == 1 + 3  # the version is asked for once
    assert warnings_of(manifest) == []


def test_results_of_the_same_version_are_reused(tmp_path, film):
    serve(tmp_path, film, ALIAS, OLD)
    rows, manifest, calls = serve(tmp_path, film, ALIAS, OLD)
    assert manifest.counts["results.reused"] == 3
    assert (len(rows["llm_calls"]), len(calls)) == (0, 1)


def test_each_version_reuses_its_own_results(tmp_path, film):
    for version in (OLD, NEW):
        serve(tmp_path, film, ALIAS, version)
    for version in (OLD, NEW, OLD):
        rows, manifest, calls = serve(tmp_path, film, ALIAS, version)
        assert versions_of(rows) == [version] * 3
        assert (manifest.counts["results.reused"], len(calls)) == (3, 1)


def test_name_that_is_its_version_is_reused_without_a_question(tmp_path, film):
    serve(tmp_path, film, DEFAULT_GEMINI_MODEL, DEFAULT_GEMINI_MODEL)
    _, manifest, calls = serve(tmp_path, film, DEFAULT_GEMINI_MODEL, DEFAULT_GEMINI_MODEL)
    assert (manifest.counts["results.reused"], calls) == (3, [])


def test_results_before_the_shutdown_are_not_reused_after_it(tmp_path, film):
    successor = KNOWN_MODELS[ROUTED].successor
    serve(tmp_path, film, ROUTED, ROUTED)
    rows, _, _ = serve(tmp_path, film, ROUTED, successor)
    assert versions_of(rows) == [successor] * 3


def test_unreachable_service_reuses_stored_results(tmp_path, film):
    serve(tmp_path, film, ALIAS, OLD)
    rows, manifest, calls = serve(tmp_path, film, ALIAS, NEW, faults=[Fault(status=503)])
    assert (versions_of(rows), manifest.counts["results.reused"]) == ([OLD] * 3, 3)
    assert len(calls) == 1


def test_result_without_a_version_is_reused(tmp_path, film, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(CheckedAnswer, "origin", lambda self: {})
        serve(tmp_path, film, ALIAS, OLD)
    rows, manifest, calls = serve(tmp_path, film, ALIAS, NEW)
    assert (versions_of(rows), manifest.counts["results.reused"], calls) == ([None] * 3, 3, [])


def test_run_that_mixes_versions_says_so():
    provider = GeminiProvider(ModelSettings(DEFAULT_GEMINI_MODEL), 1.0)
    newer = f"{DEFAULT_GEMINI_MODEL}-002"
    counts = {f"served.{DEFAULT_GEMINI_MODEL}": 3, f"served.{newer}": 2, "served.gone": 0, "results.total": 5}
    text = f"the results are answers of 2 versions of the model: {DEFAULT_GEMINI_MODEL}, {newer}"
    assert version_warnings(provider, counts) == {text}


def test_answer_of_a_killed_process_is_recovered_under_the_key_of_its_version(tmp_path, film, monkeypatch):
    serve(tmp_path, film, ALIAS, OLD)
    with FakeGemini(versions={ALIAS: NEW}, retired=()) as server:
        settings = settings_for(server, window_s=1, model=ALIAS, media_input="frames")
        run_id = create_run(tmp_path, film, settings, PROMPT)
        with monkeypatch.context() as patch:  # nothing is stored after an answer, as if the process died there
            patch.setattr(OperationCache, "put", fail_to_store)
            execute_run(str(tmp_path), run_id)
        paid = len(server.ledger.calls())
        execute_run(str(tmp_path), run_id)
        assert [entry for entry in server.ledger.calls()[paid:] if entry.text != "Answer with: ok"] == []
        assert versions_of(check_counts(tmp_path, run_id)) == [NEW] * 3


def fail_to_store(cache, key, value):
    raise StorageError("the disk is full")
