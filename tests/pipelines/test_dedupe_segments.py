"""Near-duplicate segments share one call: its answers, failures, retries, estimate and records."""

import io
from dataclasses import replace

import av
import pytest

from promptreel.api.runs.retries import failures_of_segment
from promptreel.api.runs.run_tables import run_tables
from promptreel.cli.target import expand_target
from promptreel.pipelines.estimate import estimate_run
from promptreel.pipelines.runner import execute_run
from promptreel.providers.registry import check_run, provider_of
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.evidence import EvidenceSettings
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.tables.progress import read_progress
from promptreel.tables.retry_scope import RetryScope, target_of, write_retry
from promptreel.tables.storage import open_storage
from tests.fake_gemini import FakeGemini, Fault
from tests.fake_gemini.request_body import decode_base64, parts_of
from tests.pipeline_runs import check_counts, run_media, settings_for, with_models
from tests.prompts import NESTED
from tests.slides import draw_slide, write_talk

TITLED = prompt_from_dict(
    {
        "name": "titled",
        "prompt_text": "Read the title of the slide.",
        "json_schema": {"type": "object", "properties": {"paper": {"type": "string"}}, "required": ["paper"]},
    }
)
MEASURED = prompt_from_dict(
    {
        "name": "measured",
        "prompt_text": "Measure the segment.",
        "json_schema": {
            "type": "object",
            "properties": {"duration_seconds": {"type": "number"}},
            "required": ["duration_seconds"],
        },
    }
)
PAPERS = {"red": (250, 200, 200), "green": (200, 250, 200), "blue": (200, 200, 250)}


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    """Two minutes: three slides on paper of different colours."""
    slides = [draw_slide(["Results", "of the year"], paper=paper) for paper in PAPERS.values()]
    return write_talk(tmp_path_factory.mktemp("talk") / "talk.mp4", slides, 40)


def read_paper(body, schema):
    """Answer from the pictures alone: the colour of the paper in the last frame of the first clip or picture."""
    content = next(decode_base64(part["inlineData"]["data"]) for part in parts_of(body) if "inlineData" in part)
    with av.open(io.BytesIO(content)) as container:
        *_, frame = container.decode(video=0)
    corner = frame.to_ndarray(format="rgb24")[5, 5].tolist()
    return {"paper": tuple(PAPERS)[corner.index(max(corner))]}


def deduped(settings):
    return replace(settings, dedupe_segments=True)


def cheap(server, media_input="frames"):
    return with_models(settings_for(server, window_s=10, media_input=media_input))


def papers(rows):
    return [row["fields"]["paper"] for row in sorted(rows["results"], key=lambda row: row["start_us"])]


def estimated(data, talk, settings, prompt=TITLED, *, analyze=False):
    target = expand_target([str(talk)]).items
    return estimate_run(open_storage(data), prompt, settings, provider_of(settings), target, analyze=analyze).to_dict()


def test_talk_of_three_slides_needs_three_calls(tmp_path, talk):
    with FakeGemini(answer=read_paper) as server:
        complete = cheap(server, media_input="clips")
        undeduped = check_counts(tmp_path / "a", run_media(tmp_path / "a", talk, complete, TITLED))
        full = sum(call.input_tokens for call in server.ledger.answered())
        assert len(server.ledger.calls()) == 12
        server.ledger.clear()
        run_id = run_media(tmp_path / "b", talk, deduped(complete), TITLED)
        rows = check_counts(tmp_path / "b", run_id)
        assert len(server.ledger.calls()) == 3
        done = read_progress(open_storage(tmp_path / "b"), run_id)
        assert (done["segments_planned"], done["field_extraction.succeeded"], done["calls"]) == (12, 12, 3)
        assert sum(call.input_tokens for call in server.ledger.answered()) * 4 == pytest.approx(full, rel=0.01)
    assert papers(rows) == papers(undeduped) == ["red"] * 4 + ["green"] * 4 + ["blue"] * 4
    segments = sorted(rows["segments"], key=lambda row: row["segment_number"])
    answered_by = [row["answered_by_segment_id"] for row in segments]
    firsts = [segments[number // 4 * 4]["segment_id"] for number in range(12)]
    assert answered_by == [None if number % 4 == 0 else firsts[number] for number in range(12)]
    by_segment = {row["segment_id"]: row["answered_by_segment_id"] for row in rows["results"]}
    assert by_segment == {row["segment_id"]: row["answered_by_segment_id"] for row in segments}
    assert {call["segment_id"] for call in rows["llm_calls"]} == set(firsts)
    keys = {row["segment_id"]: row["operation_key"] for row in undeduped["results"]}
    assert {row["operation_key"] for row in rows["results"]} == {keys[segment_id] for segment_id in firsts}


def test_answers_are_reused_by_runs_with_and_without_duplicates(tmp_path, talk):
    with FakeGemini(answer=read_paper) as server:
        complete = cheap(server)
        run_media(tmp_path, talk, deduped(complete), TITLED)
        server.ledger.clear()
        run_media(tmp_path, talk, deduped(complete), TITLED)
        assert len(server.ledger.calls()) == 0
        check_counts(tmp_path, run_media(tmp_path, talk, complete, TITLED))
        assert len(server.ledger.calls()) == 9, "a call for each segment that another had answered for"
        rows = check_counts(tmp_path, run_media(tmp_path, talk, deduped(complete), TITLED))
        assert len(server.ledger.calls()) == 9
    assert all(row["reused"] for row in rows["results"])


def test_failed_call_is_the_failure_of_all_its_segments(tmp_path, talk):
    with FakeGemini(answer=read_paper, faults=[Fault(text="This segment is 0:40", status=400)]) as server:
        settings = deduped(cheap(server))
        run_id = run_media(tmp_path, talk, settings, TITLED)
        rows = check_counts(tmp_path, run_id)
        assert len(server.ledger.calls()) == 3
        assert [row["start_us"] // 10_000_000 for row in rows["failures"]] == [4, 5, 6, 7]
        assert {row["code"] for row in rows["failures"]} == {"model_bad_request"}
        third = rows["failures"][2]
        tables = run_tables(open_storage(tmp_path), run_id)
        shared = failures_of_segment(tables, run_id, third["video_id"], third["segment_id"])
        assert {row["segment_id"] for row in shared} == {row["segment_id"] for row in rows["failures"]}
        server.set_faults()
        scope = RetryScope(frozenset([target_of(third)]))
        write_retry(open_storage(tmp_path), run_id, "retry_1", scope)
        execute_run(str(tmp_path), run_id, retry_id="retry_1")
        assert len(server.ledger.calls()) == 4
    rows = check_counts(tmp_path, run_id)
    assert papers(rows) == ["red"] * 4 + ["green"] * 4 + ["blue"] * 4


def test_estimate_counts_one_call_for_duplicates(tmp_path, talk):
    with FakeGemini(answer=read_paper) as server:
        settings = deduped(cheap(server))
        before = estimated(tmp_path, talk, settings)
        assert (before["segments"], before["model_calls"], before["exact"]) == ([12, 12], [1, 12], False)
        analysed = estimated(tmp_path, talk, settings, analyze=True)
        assert (analysed["segments"], analysed["model_calls"], analysed["exact"]) == ([12, 12], [3, 3], True)
        assert analysed["reused_results"] == 0
        run_media(tmp_path, talk, settings, TITLED)
        after = estimated(tmp_path, talk, settings)
        assert (after["model_calls"], after["reused_results"]) == ([0, 0], 12)
        used = sum(call.input_tokens for call in server.ledger.answered())
    assert analysed["input_tokens"]["total"] == pytest.approx(used, rel=0.1)


def test_prompt_with_media_times_cannot_share_answers(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    with FakeGemini() as server:
        settings = settings_for(server)
        check_run(NESTED, settings)
        check_run(TITLED, deduped(settings))
        with pytest.raises(SettingsError, match="near-duplicate segments cannot share an answer with media times"):
            check_run(NESTED, deduped(settings))
        with pytest.raises(SettingsError, match="near-duplicate segments cannot share evidence"):
            check_run(TITLED, replace(deduped(settings), evidence=EvidenceSettings()))


def test_built_in_model_measures_every_segment_itself(tmp_path, talk):
    rows = check_counts(tmp_path, run_media(tmp_path, talk, deduped(settings_for(window_s=10)), MEASURED))
    assert {row["answered_by_segment_id"] for row in rows["segments"]} == {None}


def test_marked_segments_with_the_same_label_share_calls(tmp_path, talk):
    marks = [(0, 20, "talk"), (20, 38, "talk"), (42, 60, "talk"), (60, 78, "questions")]
    with FakeGemini(marks=marks) as server:
        settings = deduped(cheap(server))
        segmentation = replace(
            settings.segmentation, video_strategy="smart", video_duration_s=None, segments_by="one segment per part"
        )
        rows = check_counts(tmp_path, run_media(tmp_path, talk, replace(settings, segmentation=segmentation), TITLED))
    assert [bool(row["answered_by_segment_id"]) for row in sorted(rows["segments"], key=lambda r: r["start_us"])] == [
        False, True, False, False,
    ]  # fmt: skip
