"""The supervisor: failures of one run do not affect others; statuses of media; outcomes of retries."""

import threading

from promptreel.api.db.models import RetryRecord
from promptreel.api.jobs import supervisor as supervisor_module
from promptreel.api.runs.retries import outcome_of
from promptreel.api.runs.run_tables import RunTables
from promptreel.tables import layout
from promptreel.tables.manifest import newest_manifest
from tests.api.supervisor_bench import kill_runners, once
from tests.api_server import MEASURE, assert_error, ok_json
from tests.synthetic_runs import segment_id

pytest_plugins = ["tests.api_fixtures", "tests.api.supervisor_fixtures"]


# ------------------------------------------------------------------------------------------- failing runs


def test_a_torn_manifest_fails_only_its_run(on_sqlite, api_media, no_delays):
    bench = on_sqlite
    damaged_id = bench.catalogue.run({bench.catalogue.video(): [{}]})
    bench.update(damaged_id, status="processing", manifest_number=None, completed_at=None)
    bench.storage.write_atomic(f"{layout.manifests_folder(damaged_id)}/000001.json", b'{"run_')
    supervisor = bench.supervisor()
    supervisor.step()
    assert list(supervisor._jobs) == [damaged_id]
    other_id, _ = bench.pending_run(api_media)
    supervisor.step()
    assert bench.run(damaged_id).status == bench.run(other_id).status == "processing"
    torn = bench.run_to_end(supervisor, damaged_id)
    assert (torn.status, torn.lease_owner) == ("failed", None)
    assert "000001.json is not readable" in torn.error_message
    assert bench.run_to_end(supervisor, other_id).status == "completed"


def test_tables_of_a_runner_that_died_after_its_commit_are_published(on_sqlite):
    bench = on_sqlite
    run_id = bench.catalogue.run({bench.catalogue.video(): [{}]})
    bench.update(run_id, status="processing", manifest_number=None, completed_at=None)
    folder = layout.table_folder(run_id, "segments")
    (part,) = newest_manifest(bench.storage, run_id).parts_of("segments")
    bench.storage.remove(f"{folder}/{part.name}")
    bench.run_to_end(bench.supervisor(), run_id)
    assert bench.storage.list_names(folder) == [part.name]


def test_an_incomplete_run_folder_is_rewritten(on_sqlite, api_media):
    bench = on_sqlite
    run_id, _ = bench.pending_run(api_media)
    bench.storage.write_atomic(layout.media_file(run_id), b"partial file of a killed service")
    assert bench.run_to_end(bench.supervisor(), run_id).status == "completed"


def test_failures_of_a_commit_only_start_can_be_retried(on_sqlite, api_media, no_delays, monkeypatch):
    bench = on_sqlite
    run_id, video_id = bench.pending_run(api_media)
    resumes = bench.config.max_resumes
    started = kill_runners(monkeypatch, resumes + 1)
    supervisor = bench.supervisor()
    run = bench.run_to_end(supervisor, run_id)
    assert (run.status, run.starts) == ("failed", resumes + 2)
    assert ["--commit-only" in command for command in started] == [False] * (resumes + 1) + [True]
    failures = ok_json(bench.caller.get(f"/prompt-runs/{run_id}/failed-segments"))["videos"]
    assert f"the runner died {resumes + 1} times" in str(failures)
    assert "out of luck" in str(failures)

    retry = ok_json(bench.caller.post(f"/prompt-runs/{run_id}/retry-failures", {}), 202)
    bench.step_until(supervisor, lambda: bench.caller.retry(run_id, retry["retry_id"])["status"] == "completed")
    assert bench.run(run_id).status == "completed"
    assert bench.status_of(video_id) == "processed"


def test_a_run_without_a_commit_can_be_retried(on_sqlite, api_media, no_delays, monkeypatch):
    bench = on_sqlite
    run_id, _ = bench.pending_run(api_media)
    kill_runners(monkeypatch, bench.config.max_resumes + 2)
    supervisor = bench.supervisor()
    assert bench.run_to_end(supervisor, run_id).status == "failed"
    assert_error(
        bench.caller.post(f"/prompt-runs/{run_id}/retry-failures", {"codes": ["model_timeout"]}),
        409,
        "nothing_to_retry",
    )
    retry = ok_json(bench.caller.post(f"/prompt-runs/{run_id}/retry-failures", {}), 202)
    bench.step_until(supervisor, lambda: bench.caller.retry(run_id, retry["retry_id"])["status"] == "completed")
    assert bench.run(run_id).status == "completed"


def test_a_run_starts_when_its_folder_can_be_created(on_sqlite, api_media, no_delays):
    bench = on_sqlite
    run_id, _ = bench.pending_run(api_media)
    blocking_file = bench.storage.path / layout.run_folder(run_id)
    blocking_file.parent.mkdir(exist_ok=True)
    blocking_file.touch()
    supervisor = bench.supervisor()
    for _ in range(3):
        supervisor.step()
        assert bench.run(run_id).status == "processing"
    blocking_file.unlink()
    run = bench.run_to_end(supervisor, run_id)
    assert (run.status, run.starts) == ("completed", 1)


def test_a_run_whose_folder_cannot_be_created_fails(on_sqlite, api_media, no_delays):
    bench = on_sqlite
    run_id, video_id = bench.pending_run(api_media)
    blocking_file = bench.storage.path / layout.run_folder(run_id)
    blocking_file.parent.mkdir(exist_ok=True)
    blocking_file.touch()
    run = bench.run_to_end(bench.supervisor(), run_id)
    assert run.status == "failed"
    assert "free space or fix permissions" in run.error_message
    assert bench.status_of(video_id) == "failed"


def test_delays_grow_to_30_seconds():
    assert [supervisor_module._delay_s(failures) for failures in (0, 1, 2, 3, 100_000)] == [0.0, 0.5, 1.0, 2.0, 30.0]


# ------------------------------------------------------------------------------------------- media


def test_media_stay_processed_after_later_failures(on_sqlite, api_media, no_delays):
    bench = on_sqlite
    first_id, video_id = bench.pending_run(api_media)
    supervisor = bench.supervisor()
    bench.run_to_end(supervisor, first_id)
    assert bench.status_of(video_id) == "processed"
    target = {"type": "videos", "video_ids": [video_id]}
    for end in ("no starts left", "cancelled", "failed"):
        # A new prompt: stored results would be committed, even after a stop.
        run_id = bench.caller.start(bench.caller.prompt({**MEASURE, "prompt_text": f"Measure it: {end}."}), target)
        if end == "no starts left":
            bench.update(run_id, starts=bench.config.max_resumes + 2)
        elif end == "failed":
            next(bench.storage.path.glob(f"uploads/{video_id}/*")).unlink()
        else:
            bench.storage.write_atomic(layout.stop_file(run_id), b"{}")
        run = bench.run_to_end(supervisor, run_id)
        assert run.status == ("failed" if end == "no starts left" else end)
        assert bench.status_of(video_id) == "processed"


def test_media_of_a_run_without_starts_left_fail(on_sqlite, api_media):
    bench = on_sqlite
    run_id, video_id = bench.pending_run(api_media)
    bench.update(run_id, starts=bench.config.max_resumes + 2)
    assert bench.run_to_end(bench.supervisor(), run_id).status == "failed"
    assert bench.status_of(video_id) == "failed"


# ------------------------------------------------------------------------------------------- retries


def test_the_outcome_of_many_targets_reads_tables_once(on_sqlite, monkeypatch):
    bench = on_sqlite
    answers = {f"vid_{letter}": [None, {}, None, {}] for letter in "ab"}
    run_id = bench.catalogue.run(answers)
    reads = []
    for name in ("rows", "all_rows"):
        read = getattr(RunTables, name)
        monkeypatch.setattr(RunTables, name, lambda *a, read=read, **o: reads.append(a[1]) or read(*a, **o))

    def outcome(*targets):
        reads.clear()
        found, error = outcome_of(bench.storage, run_id, targets)
        assert sorted(reads) == ["failures", "segments"]
        return found["field_extraction"], error

    good, bad = [(v, segment_id(v, 1)) for v in answers], [(v, segment_id(v, 2)) for v in answers]
    assert outcome(*good) == (True, None)
    assert outcome(good[0]) == (True, None)
    assert outcome(*good, *bad) == (False, "no")
    assert outcome(("vid_a", segment_id("vid_b", 2))) == (None, None)
    # The target is the item, not a segment, so failures of segments do not count.
    assert outcome(("vid_a", "vid_a")) == (False, None)


def test_reading_a_retry_outcome_does_not_block_writes(on_sqlite, monkeypatch):
    bench, written = on_sqlite, threading.Event()
    run_id = bench.catalogue.run({"vid_a": [None]})
    retry = ok_json(bench.caller.post(f"/prompt-runs/{run_id}/retry-failures", {}), 202)
    bench.update(run_id, manifest_number=0)
    with bench.database.write() as session:
        session.get(RetryRecord, retry["retry_id"]).status = "processing"

    def write():
        bench.update(run_id, prompt_name="changed")
        written.set()

    def before():
        threading.Thread(target=write).start()
        assert written.wait(10)

    once(monkeypatch, supervisor_module, "outcome_of", before)
    supervisor = bench.supervisor()
    supervisor.step()
    supervisor.step()
    assert written.is_set()
    ended = ok_json(bench.caller.get(f"/prompt-runs/{run_id}/retries/{retry['retry_id']}"))
    assert (ended["status"], ended["error"]) == ("failed", "no")
