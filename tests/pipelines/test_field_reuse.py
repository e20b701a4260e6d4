"""After a change of the schema a run requests only the fields that no earlier answer has."""

import json
from dataclasses import replace

import pytest

from promptreel.pipelines.runner import execute_run
from promptreel.providers.gemini import GeminiProvider
from promptreel.schemas.evidence import EvidenceSettings
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.tables.operation_cache import OperationCache
from promptreel.tables.storage import open_storage
from tests.pipeline_runs import (
    create_run,
    kill_runner_after,
    make_video,
    manifest_of,
    plain_rows,
    run_media,
)
from tests.pipelines.conftest import frame_settings
from tests.pipelines.field_runs import (
    DEFS,
    FIELDS,
    SECONDS,
    TEXT,
    Service,
    prompt_of,
    results_of,
    run,
    run_of,
    sources_of,
    values_of,
)

ALL = {"mood", "who"}


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("media") / "film.mp4", SECONDS, sound=False)


@pytest.fixture
def service():
    with Service() as server:
        yield server


def test_added_field_is_the_only_one_requested(service, tmp_path, film):
    first = run(service, tmp_path, film, prompt_of("mood", "seen"))
    assert service.take() == [{"mood", "seen"}] * SECONDS
    second = run(service, tmp_path, film, prompt_of("mood", "who", "seen"))
    assert service.take() == [{"who"}] * SECONDS
    assert set(service.schemas[-1]["$defs"]) == {"person", "place"}
    assert values_of(second, "mood", "seen") == values_of(first, "mood", "seen")
    assert [list(row["metadata"]) for row in second.values()] == [["mood", "who", "seen"]] * SECONDS
    assert sources_of(second) == [[(["mood", "seen"], run_of(first))]] * SECONDS
    assert not any(row["reused"] for row in second.values())
    assert all(row["merged_from"] is None for row in first.values())


def test_run_with_evidence_requests_all_fields(service, tmp_path, film):
    run(service, tmp_path, film, prompt_of("mood"))
    run(service, tmp_path, film, prompt_of("mood"), evidence=EvidenceSettings())
    service.take()
    run(service, tmp_path, film, prompt_of("mood", "who"), evidence=EvidenceSettings())
    assert service.take() == [{"answer", "evidence"}] * SECONDS
    assert set(service.schemas[-1]["properties"]["answer"]["properties"]) == ALL


def test_records_of_a_reduced_call_have_its_schema(service, tmp_path, film):
    run(service, tmp_path, film, prompt_of("mood"))
    results = run(service, tmp_path, film, prompt_of("mood", "who"))
    calls = {call["llm_call_id"]: call for call in plain_rows(tmp_path, run_of(results), "llm_calls")}
    assert {tuple(json.loads(call["json_schema"])["properties"]) for call in calls.values()} == {("who",)}
    for row in results.values():
        (source,) = json.loads(row["merged_from"])
        own = [call_id for call_id in row["llm_call_ids"] if call_id in calls]
        assert sorted([*source["llm_call_ids"], *own]) == sorted(row["llm_call_ids"])
        assert len(own) == len(source["llm_call_ids"]) == 1


def test_removed_field_makes_no_call(service, tmp_path, film):
    first = run(service, tmp_path, film, prompt_of("mood", "seen", "who"))
    service.take()
    second = run(service, tmp_path, film, prompt_of("who", "seen"))
    assert service.take() == []
    assert values_of(second, "who", "seen") == values_of(first, "who", "seen")
    assert all(row["reused"] and set(row["metadata"]) == {"who", "seen"} for row in second.values())
    assert [row["executed_at"] for row in second.values()] == [row["executed_at"] for row in first.values()]
    assert manifest_of(tmp_path, run_of(second)).counts["results.reused"] == SECONDS


def test_fields_of_several_runs_make_an_answer_without_a_call(service, tmp_path, film):
    parts = [run(service, tmp_path, film, prompt_of(name)) for name in ("mood", "who")]
    service.take()
    both = run(service, tmp_path, film, prompt_of("mood", "who"))
    assert service.take() == []
    for part, name in zip(parts, ("mood", "who"), strict=True):
        assert values_of(both, name) == values_of(part, name)
    assert sources_of(both) == [[(["who"], run_of(parts[1])), (["mood"], run_of(parts[0]))]] * SECONDS


def test_fields_of_a_merged_answer_name_their_own_run(service, tmp_path, film):
    first = run(service, tmp_path, film, prompt_of("mood"))
    second = run(service, tmp_path, film, prompt_of("mood", "who"))
    third = run(service, tmp_path, film, prompt_of("mood", "who", "seen"))
    assert service.take()[-SECONDS:] == [{"seen"}] * SECONDS
    assert sources_of(third) == [[(["mood"], run_of(first)), (["who"], run_of(second))]] * SECONDS
    assert run(service, tmp_path, film, prompt_of("mood", "who", "seen"))
    assert service.take() == []


@pytest.mark.parametrize(
    ("fields", "defs"),
    [
        ({**FIELDS, "mood": {"type": "string", "maxLength": 9}}, DEFS),
        ({**FIELDS, "mood": {"enum": ["calm", "tense"]}}, DEFS),
    ],
    ids=["limit", "type"],
)
def test_changed_field_is_requested_again(service, tmp_path, film, fields, defs):
    run(service, tmp_path, film, prompt_of("mood", "who"))
    service.take()
    run(service, tmp_path, film, prompt_of("mood", "who", fields=fields, defs=defs))
    assert service.take() == [{"mood"}] * SECONDS


def test_field_whose_nested_definition_changed_is_requested_again(service, tmp_path, film):
    run(service, tmp_path, film, prompt_of("mood", "who"))
    service.take()
    place = {"type": "object", "properties": {"town": TEXT, "street": TEXT}, "required": ["town"]}
    run(service, tmp_path, film, prompt_of("mood", "who", defs={**DEFS, "place": place}))
    assert service.take() == [{"who"}] * SECONDS


def test_field_that_was_left_out_and_becomes_required_is_requested(service, tmp_path, film):
    first = run(service, tmp_path, film, prompt_of("mood", "who", required=["mood"]))
    left_out = sum("who" not in row["metadata"] for row in first.values())
    service.take()
    run(service, tmp_path, film, prompt_of("mood", "who", "seen", required=["mood", "who"]))
    requested = service.take()
    assert sorted(map(len, requested)) == [1] * (SECONDS - left_out) + [2] * left_out
    assert sum({"who"} <= fields for fields in requested) == left_out


@pytest.mark.parametrize(
    "more",
    [{"minProperties": 1}, {"dependentRequired": {"who": ["mood"]}}],
    ids=lambda more: next(iter(more)),
)
def test_schema_with_conditions_between_fields_is_requested_completely(service, tmp_path, film, more):
    run(service, tmp_path, film, prompt_of("mood"))
    service.take()
    run(service, tmp_path, film, prompt_of("mood", "who", **more))
    assert service.take() == [ALL] * SECONDS


@pytest.mark.parametrize("changes", [{"reuse_fields": False}, {"reuse_results": False}], ids=str)
def test_reuse_that_is_off_requests_all_fields(service, tmp_path, film, changes):
    run(service, tmp_path, film, prompt_of("mood"))
    service.take()
    run(service, tmp_path, film, prompt_of("mood", "who"), **changes)
    assert service.take() == [ALL] * SECONDS


def test_other_instructions_request_all_fields(service, tmp_path, film):
    run(service, tmp_path, film, prompt_of("mood"))
    service.take()
    run(service, tmp_path, film, prompt_of("mood", "who", text="Describe it in French."))
    assert service.take() == [ALL] * SECONDS


def test_account_reuses_only_fields_of_its_own_results(service, tmp_path, film):
    for owner in ("one", None):
        run(service, tmp_path, film, prompt_of("mood"), owner)
    service.take()
    run(service, tmp_path, film, prompt_of("mood", "who"), "two")
    assert service.take() == [ALL] * SECONDS
    run(service, tmp_path, film, prompt_of("mood", "who"), "one")
    assert service.take() == [{"who"}] * SECONDS


def test_times_are_those_of_the_item(service, tmp_path, film):
    first = run(service, tmp_path, film, prompt_of("seen"))
    second = run(service, tmp_path, film, prompt_of("seen", "mood"))
    assert service.take()[SECONDS:] == [{"mood"}] * SECONDS  # although 1.5 s exceeds the maximum of `seen`
    assert values_of(second, "seen") == values_of(first, "seen")
    assert all(start / 1e6 <= row["metadata"]["seen"] <= start / 1e6 + 1 for start, row in second.items())


def test_synthesis_is_requested_as_usual(service, tmp_path, film):
    level = {
        "instructions_text": "Sum up.",
        "included_segment_fields": ["mood"],
        "json_schema": {"type": "object", "properties": {"topic": TEXT}, "required": ["topic"]},
    }
    for names, expected in (
        (["mood"], [*[{"mood"}] * SECONDS, {"topic"}]),
        (["mood", "who"], [{"who"}] * SECONDS),  # its text is the same, so its answer is reused
    ):
        run(service, tmp_path, film, prompt_from_dict({**prompt_of(*names).to_dict(), "video_level": level}))
        assert service.take() == expected


def test_answers_of_another_version_are_not_merged(tmp_path, film):
    for version, names, expected in (
        ("gemini-3.8-flash-001", ["mood"], [{"mood"}] * SECONDS),
        ("gemini-3.8-flash-002", ["mood", "who"], [ALL] * SECONDS),
        ("gemini-3.8-flash-002", ["mood", "who", "seen"], [{"seen"}] * SECONDS),
    ):
        with Service(versions={"gemini-flash-latest": version}) as service:
            settings = frame_settings(service)
            settings = replace(settings, model=replace(settings.model, model="gemini-flash-latest"))
            results_of(tmp_path, run_media(tmp_path, film, settings, prompt_of(*names)))
            assert service.take() == expected


def test_killed_run_pays_no_reduced_call_again(service, tmp_path, film):
    first = run(service, tmp_path, film, prompt_of("mood"))
    service.take()
    run_id = create_run(tmp_path, film, frame_settings(service, max_in_flight=1), prompt_of("mood", "who"))
    kill_runner_after(2, tmp_path, run_id)
    execute_run(str(tmp_path), run_id)
    assert service.take() == [{"who"}] * SECONDS
    assert values_of(results_of(tmp_path, run_id), "mood") == values_of(first, "mood")


def test_corrupt_earlier_results_are_requested_again(service, tmp_path, film):
    first = run(service, tmp_path, film, prompt_of("mood"))
    service.take()
    cache = OperationCache(open_storage(tmp_path))
    keys = [row["operation_key"] for row in first.values()]
    cache.put(keys[0], {**cache.get(keys[0]), "text": "not JSON"})
    cache.put(keys[1], {**cache.get(keys[1]), "text": '{"mood": 3}'})
    run(service, tmp_path, film, prompt_of("mood", "who"))
    assert sorted(service.take(), key=len) == [{"who"}, ALL, ALL]


def test_version_that_only_the_answer_tells_is_not_merged(tmp_path, film, monkeypatch):
    async def unknown(provider):
        return None

    monkeypatch.setattr(GeminiProvider, "served_version", unknown)
    for version, names in (("gemini-3.8-flash-001", ["mood"]), ("gemini-3.8-flash-002", ["mood", "who"])):
        with Service(versions={"gemini-flash-latest": version}) as service:
            settings = frame_settings(service)
            settings = replace(settings, model=replace(settings.model, model="gemini-flash-latest"))
            results = results_of(tmp_path, run_media(tmp_path, film, settings, prompt_of(*names)))
    assert {row["model_version"] for row in results.values()} == {"gemini-3.8-flash-002"}
    assert {row["merged_from"] for row in results.values()} == {None}
    assert service.take().count(ALL) == SECONDS
