"""Answers that were logged but not cached when the process died are reused from the call log."""

import asyncio
import os
import sys
from contextlib import suppress
from dataclasses import replace

import pytest

from promptreel.pipelines.runner import execute_run
from promptreel.providers.answers import generate_checked
from promptreel.providers.base import ModelAnswer, Usage
from promptreel.providers.registry import provider_of
from promptreel.schemas.errors import ModelError, StorageError
from promptreel.schemas.settings import CallSettings, ModelSettings, RunSettings
from promptreel.tables.call_log import CallLog
from promptreel.tables.request import RunRequest
from promptreel.tables.storage import open_storage
from promptreel.transforms.context import RunContext
from promptreel.transforms.model_session import ModelSession
from tests.fake_gemini import FakeGemini, Fault
from tests.models import REQUEST, SUBJECT, MemorySink, ScriptedModel, policy_for, tally
from tests.pipeline_runs import (
    check_counts,
    comparable_rows,
    create_run,
    make_video,
    manifest_of,
    run_media,
    settings_for,
    start,
    with_models,
)
from tests.prompts import NESTED

SEGMENTS, CALLS = 4, 5  # one call is the synthesis
LATENCY_S = 0.5
# The runner, killed just before it caches the n-th finished operation.
KILLED_AT_PUT = """
import os, signal, sys
from promptreel.tables.operation_cache import OperationCache
left, put = int(sys.argv.pop(1)), OperationCache.put
def put_or_die(self, key, value):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    put(self, key, value)
OperationCache.put = put_or_die
from promptreel.pipelines.runner import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("media") / "film.mp4", SEGMENTS, sound=False)


@pytest.fixture(scope="module")
def uninterrupted(film, tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    with FakeGemini() as server:
        return comparable_rows(data, run_media(data, film, settings(server)))


def settings(server, **models):
    return with_models(settings_for(server, media_input="frames", max_in_flight=1), **models)


def killed_run(data, film, server, nth, **models):
    """The id of a run that was killed after logging its n-th answer and before caching it."""
    run_id = create_run(data, film, settings(server, **models), NESTED)
    child = start([sys.executable, "-c", KILLED_AT_PUT, str(nth), "--data-dir", str(data), "--run-id", run_id])
    _, err = child.communicate(timeout=60)
    assert child.returncode == -9, err
    assert manifest_of(data, run_id) is None
    return run_id


@pytest.mark.parametrize("nth", [1, 3, CALLS], ids=["first segment", "third segment", "synthesis"])
def test_recorded_answer_is_not_requested_again(tmp_path, film, uninterrupted, nth):
    with FakeGemini(latency_s=LATENCY_S) as server:
        run_id = killed_run(tmp_path, film, server, nth)
        assert len(server.ledger.answered()) == nth
        in_flight = len(server.ledger.calls()) - nth  # the next call starts while a result is cached
        assert in_flight <= 1
        execute_run(str(tmp_path), run_id)
        assert len(server.ledger.calls()) == CALLS + in_flight
        assert server.ledger.repeated() == in_flight
    assert comparable_rows(tmp_path, run_id) == uninterrupted
    rows = check_counts(tmp_path, run_id)
    used = [row["llm_call_ids"] for row in (*rows["results"], *rows["video_results"])]
    # Every result lists its call, including the one built from the log; none counts as reused.
    answered = [call["llm_call_id"] for call in rows["llm_calls"] if call["status"] == "success"]
    assert sorted(name for names in used for name in names) == sorted(answered)
    assert not any(row["reused"] for row in rows["results"])


def test_valid_second_answer_is_used_and_invalid_first_is_not(tmp_path, film):
    with FakeGemini(latency_s=LATENCY_S, faults=[Fault(first=1, answer="wrong_schema")]) as server:
        run_id = killed_run(tmp_path, film, server, 1)
        assert len(server.ledger.answered()) == 2
        in_flight = len(server.ledger.calls()) - 2
        execute_run(str(tmp_path), run_id)
        assert len(server.ledger.calls()) == CALLS + 1 + in_flight
    assert len(check_counts(tmp_path, run_id)["results"]) == SEGMENTS
    assert manifest_of(tmp_path, run_id).status == "completed"


def test_invalid_answer_is_requested_again(tmp_path, film, uninterrupted):
    with FakeGemini(faults=[Fault(answer="wrong_schema")]) as server:
        run_id = create_run(tmp_path, film, settings(server), NESTED)
        execute_run(str(tmp_path), run_id)
        assert manifest_of(tmp_path, run_id).status == "failed"
        before = len(server.ledger.calls())
        server.set_faults()
        execute_run(str(tmp_path), run_id)
        assert len(server.ledger.calls()) == before + CALLS
    assert comparable_rows(tmp_path, run_id) == uninterrupted


def test_vectors_are_not_logged_and_are_requested_again(tmp_path, film):
    with FakeGemini() as server:
        run_id = killed_run(tmp_path, film, server, CALLS + 1, text="gemini-embedding-001")
        execute_run(str(tmp_path), run_id)
        assert len(server.ledger.calls()) == CALLS
        assert len(server.ledger.answered("batchEmbedContents")) == 2
    assert check_counts(tmp_path, run_id)["text_embeddings"]


# One request with in-memory records


def recorded(*answers):
    """The records of an earlier attempt, newest first."""

    async def scenario():
        for answer in answers:
            policy = policy_for(ScriptedModel(answer), sink, settings=CallSettings(max_attempts=1, max_outage_s=0))
            with suppress(ModelError):
                await policy.call(REQUEST, None, SUBJECT, tally())

    sink = MemorySink()
    asyncio.run(scenario())
    return sink.ended[::-1]


def resumed(earlier):
    """(answer, its tally, number of model calls) after an attempt with these records."""
    model, counted = ScriptedModel({"n": 99}), tally()

    async def scenario():
        return await generate_checked(model, policy_for(model, MemorySink(earlier)), REQUEST, SUBJECT, counted)

    return asyncio.run(scenario()), counted, len(model.requests)


def test_recorded_answer_equals_the_original():
    usage = Usage(10, 5, 1, 2, 16, 4, 0, 6, 0, media_reported=True)
    earlier = recorded(ModelAnswer('{"n": 3}', "STOP", usage))
    answer, counted, calls = resumed(earlier)
    assert (answer.metadata, answer.text, answer.usage, answer.warning) == ({"n": 3}, '{"n": 3}', usage, None)
    assert (counted.attempts, counted.call_ids, calls) == (0, (earlier[0].llm_call_id,), 0)


@pytest.mark.parametrize("text", ['{"n": "three"}', "no JSON", "[3]"])
def test_newest_valid_answer_is_used(text):
    assert resumed(recorded('{"n": 3}', '{"n": 4}', text))[0].metadata == {"n": 4}
    answer, counted, calls = resumed(recorded(text))
    assert (answer.metadata, counted.attempts, calls) == ({"n": 99}, 1, 1)


def checked_records(*answers):
    """The records of an earlier attempt that checked these answers, newest first."""

    async def scenario():
        model = ScriptedModel(*answers)
        with suppress(ModelError):
            await generate_checked(model, policy_for(model, sink), REQUEST, SUBJECT, tally())

    sink = MemorySink()
    asyncio.run(scenario())
    return sink.ended[::-1]


def test_record_of_a_call_has_the_verdict_on_its_answer():
    repaired, invalid = checked_records('{"n": "three"}', '```{"n": 3}```')
    assert (invalid.status, invalid.code, invalid.response_text) == ("error", "schema_invalid", '{"n": "three"}')
    assert "at n: 'three' is not of type 'integer'" in invalid.message
    assert (repaired.status, repaired.code, repaired.answer_repair) == ("success", None, "fence")


@pytest.mark.parametrize("text", ['{"n": "three"}', "no JSON"])
def test_resume_continues_after_an_answer_recorded_as_unusable(text):
    first_of_two = checked_records(text, "no JSON")[1:]
    model = ScriptedModel({"n": 5})

    async def scenario():
        policy = policy_for(model, MemorySink(first_of_two))
        return await generate_checked(model, policy, REQUEST, SUBJECT, tally())

    assert asyncio.run(scenario()).metadata == {"n": 5}
    assert "could not be used" in model.requests[0].text
    # After both tries, a resume starts again, without the note.
    answer, _, calls = resumed(checked_records(text))
    assert (answer.metadata, calls) == ({"n": 99}, 1)


def test_recorded_answer_that_is_readable_now_is_used():
    (record,) = recorded('{"n": 3,}')
    unread = replace(record, status="error", code="answer_not_json", message="the answer is not JSON")
    answer, counted, calls = resumed([unread])
    assert (answer.metadata, answer.repair, counted.attempts, calls) == ({"n": 3}, "trailing_comma", 0, 0)


def test_answer_is_recorded_even_if_its_check_fails():
    model, sink = ScriptedModel({"n": 3}), MemorySink()

    def broken_check(answer):
        raise RuntimeError("defect")

    async def scenario():
        await policy_for(model, sink).call(REQUEST, None, SUBJECT, tally(), broken_check)

    with pytest.raises(RuntimeError, match="defect"):
        asyncio.run(scenario())
    assert [call.total_tokens for call in sink.ended] == [12]


# The log


def log(storage, attempt):
    return CallLog(storage, "run_a", attempt, lambda video_id: 0)


def test_only_uncached_answers_are_returned_and_log_is_read_once(tmp_path, monkeypatch):
    storage = open_storage(tmp_path)
    (call,) = recorded('{"n": 3}')
    (failed,) = recorded(ModelError("model_unavailable", "down", retryable=True))
    for ended in (call, failed):
        log(storage, 1).end(ended)
    assert asyncio.run(log(storage, 1).answers(call.video_id, None, call.operation_key)) == ()
    second = log(storage, 2)
    assert asyncio.run(second.answers(call.video_id, None, call.operation_key)) == [call]
    assert list(asyncio.run(second.answers(call.video_id, None, "key_b"))) == []
    monkeypatch.setattr("promptreel.tables.call_log.uncached_answers", lambda *arguments: pytest.fail("read again"))
    assert asyncio.run(second.answers(call.video_id, None, call.operation_key)) == [call]
    monkeypatch.undo()
    storage.write_atomic(f"cache/operations/{call.operation_key[:2]}/{call.operation_key}.json", b"cached")
    assert list(asyncio.run(log(storage, 2).answers(call.video_id, None, call.operation_key))) == []


def test_call_records_are_synced_once_before_the_result(tmp_path, monkeypatch):
    storage, synced = open_storage(tmp_path), []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(_path_of(number)) or sync(number))
    request = RunRequest("run_a", NESTED, RunSettings(model=ModelSettings("signals")), (), "")
    session = ModelSession(RunContext(storage.root, request, attempt=1, shards=1), provider_of(request.settings))
    (call,) = recorded(ModelAnswer("{}"))

    async def with_call(counted):
        session._calls.begin(call)
        session._calls.end(call)
        return {"metadata": {}}

    async def without_call(counted):
        return {"metadata": {}}

    async def scenario():
        for key, operation in (("key_a", with_call), ("key_b", without_call)):
            assert (await session.run_operation("field_extraction", key, operation)).outcome == "succeeded"

    asyncio.run(scenario())
    kinds = ["record" if path.endswith(".jsonl") else "result" for path in synced if _is_record_or_result(path)]
    assert kinds == ["record", "result", "result"]


def _is_record_or_result(path):
    """Whether a path is neither a folder nor a progress file."""
    return not os.path.isdir(path) and "/progress/" not in path


def _path_of(number):
    return os.readlink(f"/proc/self/fd/{number}")


def test_result_is_not_cached_if_its_record_cannot_be_synced(tmp_path, monkeypatch):
    storage = open_storage(tmp_path)
    request = RunRequest("run_a", NESTED, RunSettings(model=ModelSettings("signals")), (), "")
    session = ModelSession(RunContext(storage.root, request, attempt=1, shards=1), provider_of(request.settings))

    def fail():
        raise StorageError("input/output error")

    monkeypatch.setattr(session._calls, "sync", fail)

    async def operation(counted):
        return {"metadata": {}}

    outcome = asyncio.run(session.run_operation("field_extraction", "key_a", operation))
    assert (outcome.failure.code, outcome.failure.retryable) == ("storage_failed", True)
    assert session.cache.get("key_a") is None
