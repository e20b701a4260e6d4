"""The pipeline on real media, with the real client against a fake service; tables are read with plain DuckDB."""

import json
import os
import shutil
from collections import Counter, defaultdict

import duckdb
import pytest

from promptreel.pipelines.runner import execute_run
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.tables.request import TargetItem
from promptreel.transforms.read_media import fingerprint
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import (
    check_counts,
    create_run,
    make_audio,
    make_image,
    make_video,
    manifest_of,
    plain_rows,
    run_media,
    settings_for,
)
from tests.prompts import NESTED

MEASURE = prompt_from_dict(
    {
        "name": "measured",
        "prompt_text": "Measure the segment.",
        "json_schema": {"type": "object", "properties": {"duration_seconds": {"type": "number"}}},
    }
)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A folder with two videos, a sound and an image; one video has two copies under other names."""
    folder = tmp_path_factory.mktemp("media")
    make_video(folder / "film.mp4", 4)
    make_video(folder / "deep" / "bars.mp4", 2, "smptebars")
    make_audio(folder / "tone.flac", 3)
    make_image(folder / "still.png")
    shutil.copy(folder / "film.mp4", folder / "film again.mp4")
    shutil.copy(folder / "film.mp4", folder / "deep" / "same.mp4")
    (folder / ".hidden.mp4").write_bytes(b"x")
    (folder / "notes.txt").write_text("no media")
    return folder


@pytest.fixture(scope="module")
def finished(media, tmp_path_factory):
    """(data folder, run id, rows by table, ledger) of a completed run."""
    data = tmp_path_factory.mktemp("data")
    with FakeGemini() as server:
        run_id = run_media(data, media, settings_for(server))
        return data, run_id, check_counts(data, run_id), server.ledger


def test_files_with_equal_content_are_one_item(finished, media):
    _, _, rows, _ = finished
    by_name = {row["name"]: row for row in rows["media"]}
    assert set(by_name) == {"deep/bars.mp4", "tone.flac", "still.png", "deep/same.mp4"}
    others = by_name["deep/same.mp4"]["other_uris"]
    assert sorted(others) == [str(media / "film again.mp4"), str(media / "film.mp4")]
    assert {name: row["media_type"] for name, row in by_name.items()} == {
        "deep/bars.mp4": "video", "deep/same.mp4": "video", "tone.flac": "audio", "still.png": "image",
    }  # fmt: skip
    assert {name: row["segment_count"] for name, row in by_name.items()} == {
        "deep/bars.mp4": 2, "deep/same.mp4": 4, "tone.flac": 3, "still.png": 1,
    }  # fmt: skip
    assert all(row["status"] == "completed" for row in rows["media"])


def test_segments_cover_each_item_without_gap_or_overlap(finished):
    _, _, rows, _ = finished
    ends = {row["video_id"]: row["duration_us"] for row in rows["media"]}
    by_item = defaultdict(list)
    for row in rows["segments"]:
        by_item[row["video_id"]].append(row)
    for video_id, segments in by_item.items():
        segments.sort(key=lambda row: row["segment_number"])
        assert [row["segment_number"] for row in segments] == list(range(len(segments)))
        bounds = [segments[0]["start_us"]] + [row["end_us"] for row in segments]
        assert [row["start_us"] for row in segments] == bounds[:-1]
        assert (bounds[0], bounds[-1]) == (0, ends[video_id] or 0)
        assert all(row["start_time"] == row["start_us"] / 1e6 for row in segments)


def test_call_records_match_the_calls_of_the_service(finished):
    _, run_id, rows, ledger = finished
    answered = ledger.answered()
    assert len(rows["llm_calls"]) == len(ledger.calls()) == len(answered)
    assert Counter((c["input_tokens"], c["output_tokens"]) for c in rows["llm_calls"]) == Counter(
        (entry.input_tokens, entry.output_tokens) for entry in answered
    )
    for call in rows["llm_calls"]:
        parts = sum(call[f"{kind}_tokens"] for kind in ("text", "image", "video", "audio"))
        assert call["input_tokens"] == parts
        assert call["total_tokens"] == call["input_tokens"] + call["output_tokens"]
        assert call["run_id"] == run_id
        assert call["status"] == "success"
    seen = Counter(kind for c in rows["llm_calls"] for kind in ("image", "video", "audio") if c[f"{kind}_tokens"])
    assert seen == {"image": 1, "video": 6, "audio": 9}  # the videos have sound
    purposes = Counter(call["purpose"] for call in rows["llm_calls"])
    assert purposes == {"metadata_extraction": 10, "video_level_synthesis": 3}


def test_result_is_the_answer_with_times_relative_to_the_item(finished):
    _, _, rows, _ = finished
    calls = {call["llm_call_id"]: call for call in rows["llm_calls"]}
    for row in rows["results"]:
        (call_id,) = row["llm_call_ids"]
        answer = json.loads(calls[call_id]["response_text"])
        assert calls[call_id]["segment_id"] == row["segment_id"]
        for product in answer["products"]:
            if "first_seen" in product:
                product["first_seen"] = round(product["first_seen"] + row["start_time"], 6)
        assert json.loads(row["metadata"]) == answer
        fields = row["fields"]
        assert fields["summary"] == answer["summary"]
        assert fields["scene"] == {key: answer["scene"].get(key) for key in ("location", "people_count", "bright")}
        assert [p["name"] for p in fields["products"]] == [p["name"] for p in answer["products"]]
        assert [p["tags"] for p in fields["products"]] == [p.get("tags") for p in answer["products"]]
        assert [p["first_seen"] for p in fields["products"]] == [p.get("first_seen") for p in answer["products"]]
        assert fields["keywords"] == answer.get("keywords")


def test_synthesis_covers_every_segment_and_images_have_none(finished):
    _, _, rows, _ = finished
    segments = Counter(row["video_id"] for row in rows["segments"] if row["media_type"] != "image")
    covered = {row["video_id"]: row["covered_segments"] for row in rows["video_results"]}
    assert covered == segments
    assert all(row["covered_share"] == 1.0 and row["omitted_segment_ids"] == [] for row in rows["video_results"])


def test_plain_duckdb_has_a_typed_column_per_field(finished, monkeypatch):
    data, run_id, rows, _ = finished
    folder = data / "runs" / run_id
    monkeypatch.chdir(folder)
    with duckdb.connect() as connection:
        connection.execute((folder / "tables.sql").read_text())
        types = dict(row[:2] for row in connection.execute(f'DESCRIBE "{run_id}"').fetchall())
        assert types["scene.people_count"] == "BIGINT"
        assert types["scene.bright"] == "BOOLEAN"
        assert types["products[].name"] == "VARCHAR[]"
        assert types["products[].tags"] == "VARCHAR[][]"
        assert types["metadata.start_time"] == "DOUBLE"
        assert types["start_time"] == "DOUBLE"
        for table, expected in rows.items():
            count = connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()
            assert count == (len(expected),)
        names = connection.execute('SELECT segment_id, "products[].name" FROM fields').fetchall()
    assert dict(names) == {
        row["segment_id"]: [part["name"] for part in row["fields"]["products"]] for row in rows["results"]
    }


def test_frames_on_disk_match_the_table(finished):
    data, _, rows, _ = finished
    spans = {row["segment_id"]: (row["start_us"], row["end_us"]) for row in rows["segments"]}
    assert rows["frames"]
    for row in rows["frames"]:
        assert (data / row["file"]).read_bytes()[:2] == b"\xff\xd8"
        start, end = spans[row["segment_id"]]
        assert start <= row["time_us"] < max(end, 1)


@pytest.mark.parametrize("media_input", ["frames", "files"])
def test_other_media_inputs_give_the_same_tables(media, tmp_path, media_input):
    with FakeGemini() as server:
        run_id = run_media(tmp_path, media / "deep", settings_for(server, media_input=media_input))
        rows = check_counts(tmp_path, run_id)
        assert len(server.ledger.calls("upload")) == (2 if media_input == "files" else 0)
    assert len(rows["results"]) == len(rows["segments"]) == 6
    assert all(c["video_tokens"] + c["image_tokens"] for c in rows["llm_calls"] if c["segment_id"])


def test_failed_segment_does_not_affect_other_results(media, tmp_path):
    with FakeGemini(faults=[Fault(text="segment is 0:02", finish_reason="SAFETY")]) as server:
        run_id = run_media(tmp_path, media / "film.mp4", settings_for(server))
        rows = check_counts(tmp_path, run_id)
    (failure,) = rows["failures"]
    assert (failure["code"], failure["start_us"], failure["name"]) == ("model_blocked", 2_000_000, "film.mp4")
    assert (failure["operation"], failure["retryable"]) == ("field_extraction", False)
    assert [row["start_us"] for row in rows["results"]] == [0, 1_000_000, 3_000_000]
    (synthesis,) = rows["video_results"]
    assert synthesis["covered_share"] == 0.75
    assert synthesis["omitted_segment_ids"] == [failure["segment_id"]]
    manifest = manifest_of(tmp_path, run_id)
    assert manifest.status == "completed_with_failures"
    assert "1 x model_blocked" in manifest.error_message
    assert [row["status"] for row in rows["media"]] == ["partial"]


def test_files_without_media_fail_and_others_complete(media, tmp_path):
    folder = tmp_path / "mixed"
    shutil.copytree(media / "deep", folder)
    (folder / "text.mp4").write_text("this is a text, not a video\n" * 20)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n")
    content = (media / "film.mp4").read_bytes()
    (folder / "truncated.mp4").write_bytes(content[: len(content) // 2])  # the index was at the end
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    os.mkfifo(folder / "pipe.mp4")
    long_name = tmp_path / ("x" * 300 + ".mp4")
    target = [folder, tmp_path / "gone.mp4", long_name]
    run_id = run_media(tmp_path / "data", target, settings_for(), MEASURE)
    rows = check_counts(tmp_path / "data", run_id)
    failed = {row["name"]: row for row in rows["failures"]}
    assert {name: row["code"] for name, row in failed.items()} == {
        "text.mp4": "media_unsupported",
        "empty.mp4": "media_empty",
        "list.mp4": "media_unsupported",
        "truncated.mp4": "media_corrupt",
        "loop.mp4": "media_not_found",
        "pipe.mp4": "media_not_found",
        "gone.mp4": "media_not_found",
        long_name.name: "media_not_found",
    }
    for name, row in failed.items():
        assert name in row["message"], row
        assert len(row["message"]) > len(row["code"]) + 20
        assert (row["operation"], row["segment_id"]) == ("processing", None)
    assert "text file" in failed["text.mp4"]["message"]
    assert "playlist" in failed["list.mp4"]["message"]
    assert {row["name"] for row in rows["media"] if row["status"] == "completed"} == {"bars.mp4", "same.mp4"}
    assert manifest_of(tmp_path / "data", run_id).status == "completed_with_failures"


def test_non_utf8_file_name_is_processed_under_a_readable_name(media, tmp_path):
    folder = os.fsencode(tmp_path / "odd")
    os.mkdir(folder)
    shutil.copy(media / "film.mp4", folder + b"/caf\xe9.mp4")
    with open(folder + b"/bad\xff.mp4", "w") as file:
        file.write("text")
    run_id = run_media(tmp_path / "data", tmp_path / "odd", settings_for(), MEASURE)
    rows = check_counts(tmp_path / "data", run_id)
    assert {row["name"]: row["status"] for row in rows["media"]} == {
        "caf\ufffd.mp4": "completed",
        "bad\ufffd.mp4": "failed",
    }
    assert sorted(row["uri"].rsplit("/", 1)[-1] for row in rows["media"]) == ["bad%FF.mp4", "caf%E9.mp4"]


def test_unreadable_path_is_reported(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "a.mp4").write_bytes(b"x")
    closed.chmod(0)
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.seteuid(65534)  # root can read everything
        source = fingerprint(TargetItem(str(closed / "a.mp4"), "a.mp4"))
    finally:
        if is_root:
            os.seteuid(0)
        closed.chmod(0o700)
    assert source.failure is not None
    assert source.failure.code == "media_not_found"
    assert "a.mp4: cannot be read" in source.failure.message
    assert "permissions" in source.failure.message


def test_run_without_readable_items_fails_with_tables(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_text(f"text {name}")
    with FakeGemini() as server:
        run_id = run_media(tmp_path / "data", tmp_path / "a.mp4", settings_for(server))
        assert manifest_of(tmp_path / "data", run_id).status == "failed"
        assert "1 x media_unsupported" in manifest_of(tmp_path / "data", run_id).error_message
        check_counts(tmp_path / "data", run_id)
        assert server.ledger.calls() == []


def test_run_fails_if_every_call_fails(media, tmp_path):
    with FakeGemini(faults=[Fault(status=400)]) as server:
        run_id = run_media(tmp_path, media / "film.mp4", settings_for(server))
    rows = check_counts(tmp_path, run_id)
    assert manifest_of(tmp_path, run_id).status == "failed"
    assert [row["status"] for row in rows["media"]] == ["failed"]
    assert {row["code"] for row in rows["failures"]} == {"model_bad_request"}
    assert len(rows["failures"]) == 4
    assert rows["video_results"] == []


def test_daily_quota_stops_calls_until_a_resume(media, tmp_path):
    quota = Fault(after=2, status=429, quota_id="GenerateRequestsPerDayPerProjectPerModel", retry_delay=3600)
    with FakeGemini(faults=[quota]) as server:
        run_id = run_media(tmp_path, media / "film.mp4", settings_for(server, max_in_flight=1))
        rows = check_counts(tmp_path, run_id)
        assert len(server.ledger.calls()) == 3
        assert len(rows["results"]) == 2
        assert {(row["code"], row["retryable"]) for row in rows["failures"]} == {("quota_exhausted", True)}
        manifest = manifest_of(tmp_path, run_id)
        assert manifest.status == "completed_with_failures"
        assert "quota_exhausted" in manifest.error_message
        server.set_faults()
        execute_run(str(tmp_path), run_id)
        assert manifest_of(tmp_path, run_id).status == "completed"
        assert server.ledger.repeated() == 0
        assert len(plain_rows(tmp_path, run_id, "results")) == 4


def test_transient_errors_are_retried_and_recorded(media, tmp_path):
    with FakeGemini(faults=[Fault(first=2, status=503, retry_delay=0.01)]) as server:
        run_id = run_media(tmp_path, media / "film.mp4", settings_for(server))
        rows = check_counts(tmp_path, run_id)
        assert manifest_of(tmp_path, run_id).status == "completed"
        assert Counter(call["status"] for call in rows["llm_calls"]) == {"success": 5, "error": 2}
        assert len(server.ledger.calls()) == 7


def test_token_cap_stops_calls_also_after_a_resume(media, tmp_path):
    with FakeGemini() as server:
        settings = settings_for(server, max_in_flight=1, max_total_tokens=500)
        run_id = run_media(tmp_path, media / "film.mp4", settings)
        rows = check_counts(tmp_path, run_id)
        capped = [row for row in rows["failures"] if row["code"] == "budget_exhausted"]
        assert capped
        assert all(row["retryable"] and row["attempts"] == 0 for row in capped)
        assert "limit of 500 tokens" in capped[0]["message"]
        *before, last = (call["total_tokens"] for call in sorted(rows["llm_calls"], key=lambda c: c["invoked_at"]))
        assert sum(before) < 500 <= sum(before) + last
        calls = len(server.ledger.calls())
        execute_run(str(tmp_path), run_id)
        assert len(server.ledger.calls()) == calls
        assert manifest_of(tmp_path, run_id).status == "completed_with_failures"


def test_run_deadline_ends_the_run_with_stored_results(media, tmp_path):
    with FakeGemini() as server:
        run_media(tmp_path, media / "deep" / "bars.mp4", settings_for(server))
        calls = len(server.ledger.calls())
        run_id = run_media(tmp_path, media / "deep", settings_for(server, run_deadline_s=0.001))
        assert len(server.ledger.calls()) == calls
    rows = check_counts(tmp_path, run_id)
    assert len(rows["results"]) == 2  # those in the cache
    assert len(rows["failures"]) == 4
    assert {(row["code"], row["retryable"], row["attempts"]) for row in rows["failures"]} == {
        ("deadline_exceeded", True, 0)
    }
    assert manifest_of(tmp_path, run_id).status == "completed_with_failures"


def test_second_run_makes_no_calls_and_counts_reused_results(media, finished, tmp_path):
    with FakeGemini() as server:
        first = run_media(tmp_path, media, settings_for(server))
        calls = len(server.ledger.calls())
        second = run_media(tmp_path, media, settings_for(server))
        assert len(server.ledger.calls()) == calls
        counts = manifest_of(tmp_path, second).counts
        assert (counts["results.reused"], counts["video_results.reused"]) == (10, 3)
        assert counts.get("calls.total", 0) == 0
        check_counts(tmp_path, second)
        by_segment = {row["segment_id"]: row["metadata"] for row in plain_rows(tmp_path, first, "results")}
        assert by_segment == {row["segment_id"]: row["metadata"] for row in plain_rows(tmp_path, second, "results")}
        run_media(tmp_path, media, settings_for(server, reuse=False))
        assert len(server.ledger.calls()) == 2 * calls


def test_another_prompt_reuses_the_analyses(media, tmp_path):
    run_media(tmp_path, media / "film.mp4", settings_for(), MEASURE)
    analyses = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "analysis").rglob("*")}
    with FakeGemini() as server:
        run_media(tmp_path, media / "film.mp4", settings_for(server), NESTED)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "analysis").rglob("*")} == analyses


def test_run_on_an_object_store_completes(media, tmp_path):
    data = f"memory://{tmp_path.name}"
    run_id = create_run(data, media / "film.mp4", settings_for(), MEASURE)
    manifest = execute_run(data, run_id)
    assert (manifest.status, manifest.rows_of("results")) == ("completed", 4)
