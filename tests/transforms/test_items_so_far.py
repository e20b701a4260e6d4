"""The items of a run in progress, assembled from the outcome logs of several workers and attempts."""

import json
from dataclasses import asdict, replace

import pytest

from promptreel.schemas.media import Boundary, PlannedSegment
from promptreel.schemas.settings import RunSettings, TextEmbeddingSettings
from promptreel.tables.layout import outcomes_folder
from promptreel.tables.request import RunRequest
from promptreel.tables.storage import open_storage
from promptreel.tables.worker_logs import BufferedLog, shard_folder
from promptreel.transforms.context import RunContext
from promptreel.transforms.elements import Failure, ItemPlan, MediaItem, OperationOutcome, OutcomeBatch, SegmentTask
from promptreel.transforms.items_so_far import items_so_far
from promptreel.transforms.outcome_log import LogEntry, OutcomeLog, read_outcomes
from promptreel.transforms.rows.statuses import item_status
from tests.pipeline_runs import wait_for
from tests.prompts import NESTED

# A file name that is not UTF-8 must not keep an item out of the log.
MEDIA = MediaItem("v1", "film\udcff.mp4", "file:///film\udcff.mp4", (), "hash")


def task(number):
    planned = PlannedSegment(Boundary(number, "start", 1.0), Boundary(number + 1, "window", 1.0))
    return SegmentTask("v1", f"s{number}", number, "video", "key", planned)


PLAN = LogEntry("v1", plan=ItemPlan(MEDIA, "key", (task(0), task(1))))


def ended(operation, end="succeeded", *segment_ids):
    failure = Failure("model_overloaded", "busy", True) if end == "failed" else None
    outcome = OperationOutcome(operation, end, f"{operation} key", failure=failure)
    return LogEntry("v1", operation=operation, batch=OutcomeBatch("v1", tuple((name, outcome) for name in segment_ids)))


def context(attempt=1, prompt=NESTED, text_model="wordllama"):
    settings = RunSettings(text_embedding=TextEmbeddingSettings(model=text_model))
    return RunContext("unused", RunRequest("run_a", prompt, settings, ("x",), "t"), attempt, 1)


WITHOUT_LEVEL = replace(NESTED, video_level=None)
LOCAL = [ended("transcription"), ended("image_embedding")]  # neither applies


def only_item(entries, attempt=1, **more):
    numbered = [entry if isinstance(entry, tuple) else (attempt, entry) for entry in entries]
    (item,) = items_so_far(numbered, context(attempt, **more))
    return item


def statuses(item):
    return [segment.status for segment in item.segments]


def test_segment_is_pending_until_its_fields_are_extracted():
    assert statuses(only_item([PLAN])) == ["pending", "pending"]
    assert statuses(only_item([PLAN, *LOCAL, ended("field_extraction", "succeeded", "s1")])) == ["pending", "succeeded"]


def test_segment_is_processing_until_its_local_operations_end():
    extracted = ended("field_extraction", "succeeded", "s0", "s1")
    assert statuses(only_item([PLAN, extracted, LOCAL[0]])) == ["processing", "processing"]
    heard = ended("transcription", "failed", "s0", "s1")
    assert statuses(only_item([PLAN, extracted, heard, LOCAL[1]])) == ["failed", "failed"]


def test_item_without_synthesis_is_finished_with_its_segments():
    entries = [PLAN, *LOCAL, ended("field_extraction", "succeeded", "s0", "s1")]
    assert item_status(only_item(entries[:-1], prompt=WITHOUT_LEVEL)) == "processing"
    assert item_status(only_item(entries, prompt=WITHOUT_LEVEL)) == "completed"


def test_item_waits_for_its_synthesis_and_remote_text_embedding():
    entries = [PLAN, *LOCAL, ended("field_extraction", "succeeded", "s0", "s1")]
    assert item_status(only_item(entries)) == "processing"
    synthesis = LogEntry("v1", operation="synthesis", outcome=OperationOutcome("synthesis", "succeeded", "k"))
    assert item_status(only_item([*entries, synthesis])) == "completed"
    remote = {"prompt": WITHOUT_LEVEL, "text_model": "gemini-embedding-001"}
    assert item_status(only_item(entries, **remote)) == "processing"
    embedded = LogEntry("v1", operation="text_embedding", outcome=None)
    assert item_status(only_item([*entries, embedded], **remote)) == "completed"


def test_earlier_attempts_count_only_successes():
    earlier = [
        (1, PLAN),
        (1, ended("field_extraction", "succeeded", "s0")),
        (1, ended("field_extraction", "failed", "s1")),
        *((1, entry) for entry in LOCAL),
    ]
    assert statuses(only_item(earlier, attempt=2)) == ["succeeded", "pending"]
    again = [*earlier, ended("field_extraction", "succeeded", "s1")]
    assert statuses(only_item(again, attempt=2)) == ["succeeded", "succeeded"]


@pytest.mark.parametrize("number", [1, 2])
def test_unread_and_cancelled_items_count_only_in_their_attempt(number):
    for plan in (
        ItemPlan(MEDIA, None, failure=Failure("media_missing", "gone", True)),
        ItemPlan(MEDIA, None, cancelled=True),
    ):
        items = items_so_far([(1, LogEntry("v1", plan=plan))], context(number))
        assert len(items) == (1 if number == 1 else 0)


def test_logs_of_several_workers_are_joined_and_partial_lines_skipped(tmp_path):
    storage = open_storage(tmp_path)
    entries = [PLAN, *LOCAL, ended("field_extraction", "succeeded", "s0"), ended("field_extraction", "succeeded", "s1")]
    for entry in entries:
        log = BufferedLog(storage, outcomes_folder("run_a"), 1)
        log.add(0, json.dumps(asdict(entry)).encode())
        log.flush()
    (first, *_) = storage.list_names(shard_folder(outcomes_folder("run_a"), 0))
    with (tmp_path / shard_folder(outcomes_folder("run_a"), 0) / first).open("ab") as file:
        file.write(b'{"video_id": "v1", "pl')
    item = only_item(read_outcomes(storage, "run_a", 0))
    assert statuses(item) == ["succeeded", "succeeded"]
    assert item.plan.item == MEDIA


def test_secrets_of_urls_are_not_logged(tmp_path):
    storage = open_storage(tmp_path)
    item = replace(
        MEDIA,
        uri="https://me:pass@host/a.mp4?Signature=abc",
        other_uris=("http://host/b.mp4#token", "http://[me:pass@host/c.mp4", "nosuch://me:pass@host/d.mp4?sig=1"),
    )
    OutcomeLog(storage, "run_a", 1, 1, enabled=True).add_plan(ItemPlan(item, "key"))
    wait_for(lambda: storage.list_names(shard_folder(outcomes_folder("run_a"), 0)))
    ((_, entry),) = read_outcomes(storage, "run_a", 0)
    others = ("http://host/b.mp4", "http://host/c.mp4", "nosuch://host/d.mp4")
    assert (entry.plan.item.uri, entry.plan.item.other_uris) == ("https://host/a.mp4", others)
