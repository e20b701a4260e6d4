"""Retries of failures: only the affected items are processed; nothing else changes or is called."""

import pyarrow.parquet as pq
import pytest

from promptreel.pipelines.runner import execute_run
from promptreel.tables.request import RunRequest, TargetItem, write_request
from promptreel.tables.retry_scope import RetryScope, read_retry, write_retry
from promptreel.tables.stop_signal import clear_stop, request_stop
from promptreel.tables.storage import open_storage
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import (
    check_counts,
    comparable_rows,
    create_run,
    make_audio,
    make_video,
    manifest_of,
    plain_rows,
    run_media,
    settings_for,
    with_models,
)
from tests.prompts import NESTED

POISON = [Fault(text="Segment .*0:01.00 to 0:02.00|This segment is 0:01.00 to 0:02.00", status=400)]


@pytest.fixture
def server():
    with FakeGemini() as server:
        yield server


@pytest.fixture
def media(tmp_path):
    make_video(tmp_path / "media" / "a.mp4", seconds=3)
    make_video(tmp_path / "media" / "b.mp4", seconds=4, pattern="smptebars")
    make_audio(tmp_path / "media" / "c.flac", seconds=2)
    (tmp_path / "media" / "d.mp4").write_text("this is not a video")
    return tmp_path / "media"


def retry(data, run_id, *targets, retry_id="retry_1"):
    write_retry(open_storage(data), run_id, retry_id, RetryScope(frozenset(targets)))
    return execute_run(str(data), run_id, retry_id=retry_id)


def failed_segments(data, run_id):
    rows = plain_rows(data, run_id, "failures")
    return [(row["video_id"], row["segment_id"]) for row in rows if row["operation"] == "field_extraction"]


def test_retry_of_a_segment_makes_no_other_calls(server, media, tmp_path):
    data = tmp_path / "data"
    server.set_faults(*POISON)
    run_id = run_media(data, media, settings_for(server))
    before = {table: plain_rows(data, run_id, table) for table in ("results", "failures", "media", "video_results")}
    first = manifest_of(data, run_id)
    failed = failed_segments(data, run_id)
    assert len(failed) == 3  # one in each readable item
    server.set_faults()
    calls = len(server.ledger.entries)

    manifest = retry(data, run_id, failed[0])

    rows = check_counts(data, run_id)
    assert (manifest.number, manifest.status) == (first.number + 1, "completed_with_failures")
    assert len(server.ledger.entries) - calls == 2  # the segment and its item's synthesis
    assert sorted(failed_segments(data, run_id)) == sorted(failed[1:])
    assert {row["segment_id"] for row in rows["results"]} == {r["segment_id"] for r in before["results"]} | {
        failed[0][1]
    }
    others = [row for row in before["failures"] if (row["video_id"], row["segment_id"]) != failed[0]]
    assert sorted(map(repr, others)) == sorted(map(repr, rows["failures"]))
    status = {row["video_id"]: row["status"] for row in rows["media"]}
    assert status[failed[0][0]] == "completed"
    assert [status[video_id] for video_id, _ in failed[1:]] == ["partial", "partial"]
    covered = {row["video_id"]: row["covered_share"] for row in rows["video_results"]}
    assert covered[failed[0][0]] == 1


def test_retry_of_all_failures_gives_complete_tables(server, media, tmp_path):
    data = tmp_path / "data"
    server.set_faults(*POISON)
    run_id = run_media(data, media, settings_for(server))
    server.set_faults()
    retry(data, run_id, *failed_segments(data, run_id))
    check_counts(data, run_id)
    reference = run_media(tmp_path / "other", media, settings_for(server))
    found, expected = comparable_rows(data, run_id), comparable_rows(tmp_path / "other", reference)
    assert found == expected


def test_failed_retry_commits_the_failure(server, media, tmp_path):
    data = tmp_path / "data"
    server.set_faults(*POISON)
    run_id = run_media(data, media, settings_for(server))
    failed = failed_segments(data, run_id)
    manifest = retry(data, run_id, failed[0])
    check_counts(data, run_id)
    assert manifest.number == 2
    assert sorted(failed_segments(data, run_id)) == sorted(failed)


def test_unsegmented_item_is_retried_entirely(server, media, tmp_path):
    data = tmp_path / "data"
    run_id = run_media(data, media, settings_for(server))
    (broken,) = plain_rows(data, run_id, "failures")
    assert (broken["operation"], broken["segment_id"]) == ("processing", None)
    make_video(tmp_path / "fixed.mp4", seconds=2, pattern="rgbtestsrc")
    (tmp_path / "fixed.mp4").rename(media / "d.mp4")
    # A catalogue id identifies the item independently of its content.
    run_id = run_with_ids(data, media, settings_for(server), server)
    rows = check_counts(data, run_id)
    assert rows["failures"] == []
    assert len([row for row in rows["results"] if row["video_id"] == "vid_d"]) == 2


def run_with_ids(data, media, settings, server):
    """Run over media with catalogue ids; item d is broken during the run and fixed for the retry."""
    fixed = (media / "d.mp4").read_bytes()
    (media / "d.mp4").write_text("this is not a video")
    items = [TargetItem(str(path), path.name, f"vid_{path.stem}") for path in sorted(media.iterdir())]
    run_id = "run_with_ids"
    write_request(open_storage(data), RunRequest(run_id, NESTED, settings, ("media",), "2026-01-01T00:00:00Z"), items)
    execute_run(str(data), run_id)
    (media / "d.mp4").write_bytes(fixed)
    calls = len(server.ledger.entries)
    retry(data, run_id, ("vid_d", "vid_d"))
    assert len(server.ledger.entries) - calls == 3
    return run_id


def test_unaffected_shards_retain_their_files(server, tmp_path, monkeypatch):
    monkeypatch.setattr("promptreel.pipelines.runner.shards_for", lambda count: 8)
    data, media = tmp_path / "data", tmp_path / "media"
    for number in range(6):
        make_audio(media / f"{number}.flac", seconds=2, frequency=200 + 50 * number)
    server.set_faults(*POISON)
    run_id = run_media(data, media, settings_for(server))
    first = manifest_of(data, run_id)
    failed = failed_segments(data, run_id)
    server.set_faults()
    second = retry(data, run_id, failed[0])
    check_counts(data, run_id)
    affected = {part.shard for part in second.parts} - {p.shard for p in second.parts if p in first.parts}
    assert len(affected) == 1
    assert {p for p in first.parts if p.shard not in affected} == {p for p in second.parts if p.shard not in affected}


def test_retry_of_a_cancelled_run_leaves_it_cancelled(server, media, tmp_path):
    data = tmp_path / "data"
    run_id = create_run(data, media, settings_for(server))
    request_stop(open_storage(data), run_id, "test")
    assert execute_run(str(data), run_id).status == "cancelled"
    clear_stop(open_storage(data), run_id)
    (video_id,) = {row["video_id"] for row in plain_rows(data, run_id, "media") if row["name"] == "a.mp4"}
    assert retry(data, run_id, (video_id, video_id)).status == "cancelled"
    rows = check_counts(data, run_id)
    assert {row["video_id"] for row in rows["results"]} == {video_id}


def test_retry_copies_rows_written_before_a_column_was_added(server, media, tmp_path):
    data = tmp_path / "data"
    server.set_faults(*POISON)
    run_id = run_media(data, media, with_models(settings_for(server)))
    added = {"segments": ["warnings"], "media": ["synthesis", "warning_codes"]}
    for part in manifest_of(data, run_id).parts:
        if part.table in added:
            file = data / "runs" / run_id / part.file
            pq.write_table(pq.read_table(file).drop_columns(added[part.table]), file)
    server.set_faults()
    assert retry(data, run_id, failed_segments(data, run_id)[0]).number == 2
    rows = check_counts(data, run_id)
    assert all(row["warnings"] == [] for row in rows["segments"])
    assert all(row["warning_codes"] == [] for row in rows["media"])


def test_scope_is_stored_and_can_contain_entire_items(tmp_path):
    storage = open_storage(tmp_path)
    scope = RetryScope(frozenset({("vid_a", "seg_1"), ("vid_b", "vid_b")}))
    write_retry(storage, "run_a", "retry_a", scope)
    assert read_retry(storage, "run_a", "retry_a") == scope
    assert scope.video_ids == {"vid_a", "vid_b"}
    segments = [("vid_a", "seg_1"), ("vid_a", "seg_2"), ("vid_b", "seg_9")]
    assert [scope.contains(*segment) for segment in segments] == [True, False, True]
