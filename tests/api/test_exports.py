"""Exports: file contents, status, download, and their documentation."""

import json
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

import promptreel.api.routes.exports
import promptreel.api.runs.exports
from promptreel.api.db.models import EventRecord
from promptreel.api.runs.exports import _STATUS as STATUSES
from promptreel.api.runs.exports import DOWNLOAD_URL_LIFETIME_S, MAX_ATTEMPTS
from promptreel.schemas.wire.exports import ExportBody
from tests.api.export_rows import CRANE, SHIP, queued_export
from tests.api_server import MEASURE, ApiServer, assert_error, ok_json
from tests.pipeline_runs import make_video, wait_for
from tests.prompts import NESTED
from tests.published_clients import CLIENTS, run_client
from tests.synthetic_runs import Catalogue

KEYS = {
    "export_id", "export_type", "target_id", "created_at", "status", "queue_status", "attempts", "max_attempts",
    "available_at", "started_at", "completed_at", "updated_at", "download_url", "file_size_bytes", "error_message",
    "last_error", "destination_type", "destination_connector_id", "destination_base_path", "destination_subpath",
    "destination_uri", "gcs_uri", "export_params",
}  # fmt: skip


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with ApiServer(tmp_path_factory.mktemp("exports") / "data", heartbeat_s=0.2) as server:
        yield server


@pytest.fixture
def caller(service):
    return service.caller()


@pytest.fixture
def catalogue(service, caller):
    return Catalogue(service, caller.account_id)


def wait_for_end(caller, export_id):
    """Poll an export until it has ended, checking each response; return it."""

    def poll():
        found = ok_json(caller.get(f"/exports/{export_id}"))
        assert set(found) == KEYS
        ExportBody.model_validate(found, strict=True)
        is_done = found["status"] == "completed"
        assert (found["download_url"] is not None) == (found["gcs_uri"] is not None) == is_done
        return found

    wait_for(lambda: poll()["status"] in ("completed", "failed"), 30)
    return poll()


def exported(caller, path, body=None):
    """Create an export, wait for it and download it; return (export, content)."""
    created = ok_json(caller.post(f"/exports/{path}", body), 202)
    assert set(created) == {"export_id", "status"}
    export = wait_for_end(caller, created["export_id"])
    assert export["status"] == "completed", export
    answer = caller.get(f"/exports/{export['export_id']}/download")
    assert answer.headers["content-type"] == "application/json"
    assert "content-encoding" not in answer.headers
    assert int(answer.headers["content-length"]) == len(answer.content) == export["file_size_bytes"]
    return export, ok_json(answer)


def test_a_run_export_matches_the_lists_of_results(caller, catalogue):
    index = catalogue.index()
    videos = [catalogue.video(index) for _ in range(3)]
    answers = {videos[0]: [CRANE] * 1203, videos[1]: [SHIP, None], videos[2]: []}
    run = catalogue.run(answers, index_id=index, spoken={f"seg_{videos[0]}_a_7": "hello"})
    export, content = exported(caller, f"prompt-run/{run}")
    assert (export["export_type"], export["target_id"], export["export_params"]) == ("prompt_run", run, None)
    assert (export["queue_status"], export["attempts"], export["max_attempts"]) == ("succeeded", 1, MAX_ATTEMPTS)
    assert export["download_url"] == f"/api/v2/exports/{export['export_id']}/download"
    (only,) = content["runs"]
    assert only["run"] == ok_json(caller.get(f"/prompt-runs/{run}"))
    assert only["prompt"] == NESTED.to_dict()
    assert [part["video"]["video_id"] for part in only["media"]] == sorted(videos)
    for part in only["media"]:
        video_id, rows, cursor = part["video"]["video_id"], [], None
        while True:
            page = {"video_id": video_id, "limit": 100, **({"cursor": cursor} if cursor else {})}
            page = ok_json(caller.get(f"/prompt-runs/{run}/results", params=page))
            rows += page["data"]
            cursor = page["pagination"]["next_cursor"]
            if cursor is None:
                break
        assert part["segments"] == rows
        assert len(rows) == len(answers[video_id])
        assert part["video"] == {**ok_json(caller.get(f"/videos/{video_id}")), "processing_status": None}


# An export names no thumbnails, because their URLs expire.
NO_THUMBNAIL = {"thumbnail_uri": None, "thumbnail_available": False, "preview_thumbnail_uri": None}


def test_a_real_run_is_exported_with_its_synthesis(caller, tmp_path):
    index = caller.index()
    make_video(tmp_path / "a.mp4", seconds=2)
    video = caller.video(tmp_path / "a.mp4", index)
    level = {"instructions_text": "Measure.", "included_segment_fields": ["duration_seconds"],
             "json_schema": MEASURE["json_schema"]}  # fmt: skip
    run = caller.start(caller.prompt({**MEASURE, "video_level": level}), {"type": "index", "index_id": index})
    error = assert_error(caller.post(f"/exports/prompt-run/{run}"), 409, "run_not_finished")
    assert error["details"] == {"run_id": run}
    assert caller.wait(run)["status"] == "completed"
    _, content = exported(caller, f"index/{index}")
    (part,) = content["runs"][0]["media"]
    assert [segment["metadata"]["duration_seconds"] for segment in part["segments"]] == [1.0, 1.0]
    shown = ok_json(caller.get(f"/prompt-runs/{run}/videos/{video}/video-result"))
    assert shown["thumbnail_available"]
    assert part["video_result"] == {**shown, **NO_THUMBNAIL}


def test_an_index_export_has_all_ended_or_named_runs(caller, catalogue):
    index, elsewhere = catalogue.index(), catalogue.index()
    video = catalogue.video(index)
    first, second = (catalogue.run({video: [CRANE]}, index_id=index) for _ in range(2))
    catalogue.run({video: [CRANE]}, index_id=index, status="processing")
    other = catalogue.run({catalogue.video(elsewhere): [SHIP]}, index_id=elsewhere)
    export, content = exported(caller, f"index/{index}")
    assert [part["run"]["run_id"] for part in content["runs"]] == [second, first]
    assert (export["export_type"], export["target_id"]) == ("index", index)
    export, content = exported(caller, f"index/{index}", {"prompt_run_ids": [first]})
    assert [part["run"]["run_id"] for part in content["runs"]] == [first]
    assert export["export_params"] == {"prompt_run_ids": [first]}
    assert exported(caller, f"index/{catalogue.index()}")[1]["runs"] == []
    assert_error(caller.post(f"/exports/index/{index}", {"prompt_run_ids": [other]}), 422, "validation_failed")
    assert_error(caller.post(f"/exports/index/{index}", {"prompt_run_ids": ["run_x"]}), 404, "resource_run_not_found")
    assert_error(caller.post(f"/exports/index/{index}", {"prompt_run_ids": []}), 422, "validation_failed")
    error = assert_error(
        caller.post(f"/exports/index/{index}", {"destination_connector_id": "c"}), 422, "validation_failed"
    )
    assert "connectors" in error["message"]


def test_deleted_media_is_omitted(caller, catalogue):
    index = catalogue.index()
    remaining, deleted = catalogue.video(index), catalogue.video(index)
    run = catalogue.run({remaining: [CRANE], deleted: [SHIP]}, index_id=index)
    ok_json(caller.delete(f"/videos/{deleted}"))
    _, content = exported(caller, f"prompt-run/{run}")
    assert [part["video"]["video_id"] for part in content["runs"][0]["media"]] == [remaining]


def test_exports_of_another_account_are_not_found(service, caller, catalogue):
    index = catalogue.index()
    run = catalogue.run({catalogue.video(index): [CRANE]}, index_id=index)
    export, _ = exported(caller, f"prompt-run/{run}")
    stranger = service.caller()
    path = f"/exports/{export['export_id']}"
    for answer in (stranger.get(path), stranger.get(f"{path}/download"), stranger.post(f"{path}/download-url")):
        assert_error(answer, 404, "resource_export_not_found")
    assert_error(stranger.post(f"/exports/prompt-run/{run}"), 404, "resource_run_not_found")
    assert_error(stranger.post(f"/exports/index/{index}"), 404, "resource_index_not_found")
    assert ok_json(stranger.get("/exports")) == []
    assert_error(service.stranger().get(f"{path}/download"), 401, "authentication_required")
    searcher = service.caller("search", account_id=caller.account_id)
    assert_error(searcher.get(f"{path}/download"), 403, "authorization_insufficient_scope")
    reader = service.caller("read", account_id=caller.account_id)
    assert reader.get(f"{path}/download").status_code == 200
    assert_error(reader.post(f"/exports/prompt-run/{run}"), 403, "authorization_insufficient_scope")


def test_a_repeated_request_creates_one_export(caller, catalogue):
    index = catalogue.index()
    run = catalogue.run({catalogue.video(index): [CRANE]}, index_id=index)
    path = f"/exports/prompt-run/{run}"
    first = ok_json(caller.post(path, key="one"), 202)
    assert ok_json(caller.post(path, key="one"), 202) == first
    # A missing body and an empty one are different requests.
    assert_error(caller.post(path, {}, key="one"), 409, "idempotency_request_mismatch")
    assert ok_json(caller.post(path, {}, key="two"), 202) != first
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(caller.post(path, key="many"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({ok_json(answer, 202)["export_id"] for answer in answers}) == 1
    listed = ok_json(caller.get("/exports"))
    assert len(listed) == 3
    assert [row["created_at"] for row in listed] == sorted((row["created_at"] for row in listed), reverse=True)
    assert listed[:1] == ok_json(caller.get("/exports", params={"limit": 1})) or listed[0]["status"] != "completed"
    assert_error(caller.get("/exports", params={"limit": 101}), 422, "validation_failed")


def test_download_urls_are_issued_only_over_https(service, caller, catalogue, tmp_path):
    run = catalogue.run({catalogue.video(): [CRANE]})
    export, content = exported(caller, f"prompt-run/{run}")
    path = f"/exports/{export['export_id']}"
    plain = ok_json(caller.post(f"{path}/download-url"))
    assert plain == {"export_id": export["export_id"], "status": "completed", "destination_type": "download",
                     "destination_connector_id": None, "download_url": None}  # fmt: skip
    # The same data behind an https proxy.
    with ApiServer(service.data, public_url="https://reel.example", supervise=False) as behind:
        url = ok_json(type(caller)(behind.base_url, caller.key).post(f"{path}/download-url"))["download_url"]
        assert url.startswith(f"https://reel.example/api/v2{path}/download?token=v1.")
        token = url.rsplit("=", 1)[1]
        assert 32 <= len(token) <= 2048
        stranger = behind.stranger()
        assert ok_json(stranger.get(f"{path}/download", params={"token": token})) == content
        other, _ = exported(caller, f"prompt-run/{run}")
        for where, wrong in ((path, token[:-1] + ("0" if token[-1] != "0" else "1")), (path, "v1.x.y"), (path, ""),
                             (path, "v1.MQ." + token.rsplit(".", 1)[1]), (path, "é"),
                             (f"/exports/{other['export_id']}", token)):  # fmt: skip
            assert_error(stranger.get(f"{where}/download", params={"token": wrong}), 403, "link_expired")


def test_an_unfinished_export_cannot_be_downloaded(service, caller, catalogue):
    export = queued_export(service.app.state.database, caller.account_id, [], queue_status="dead_letter")
    assert_error(caller.get(f"/exports/{export.export_id}/download"), 409, "export_not_ready")
    shown = wait_for_end(caller, export.export_id)
    assert (shown["status"], shown["error_message"]) == ("failed", "why")
    assert_error(caller.get("/exports/exp_none"), 404, "resource_export_not_found")


def test_the_end_of_an_export_is_an_event(service, caller, catalogue):
    run = catalogue.run({catalogue.video(): [CRANE]})
    export, _ = exported(caller, f"prompt-run/{run}")
    with service.app.state.database.read() as session:
        events = session.query(EventRecord).filter_by(account_id=caller.account_id, event_type="export.ready").all()
    assert [(event.run_id, event.payload["export_id"]) for event in events] == [(run, export["export_id"])]


@pytest.mark.parametrize("version", CLIENTS)
def test_a_published_client_can_export(caller, catalogue, version, tmp_path):
    index = catalogue.index()
    run = catalogue.run({catalogue.video(index): [CRANE, SHIP]}, index_id=index)
    program = """
        created = client.exports.create_prompt_run_export(given["run"])
        done = client.exports.wait_for_completion(created.export_id, poll_interval=0.1, timeout=30)
        size = client.exports.download(created.export_id, given["target"])
        complete = client.exports.create_index_export(given["index"], prompt_run_ids=[given["run"]])
        client.exports.wait_for_completion(complete.export_id, poll_interval=0.1, timeout=30)
        report(done.status, done.file_size_bytes == size, client.exports.download_url(created.export_id),
            sorted(e.export_id for e in client.exports.list(limit=10))
            == sorted([created.export_id, complete.export_id]),
            client.exports.retrieve(complete.export_id).export_params)
    """
    target = tmp_path / "export.json"
    output = run_client(version, caller, program, run=run, index=index, target=str(target))
    assert output == ["completed", True, None, True, {"prompt_run_ids": [run]}]
    segments = json.loads(target.read_bytes())["runs"][0]["media"][0]["segments"]
    assert [segment["metadata"] for segment in segments] == [CRANE, SHIP]


DOCUMENT = (Path(__file__).parents[2] / "docs" / "exports.md").read_text()


def test_the_documented_calls_work(service, caller, catalogue, tmp_path):
    if not shutil.which("curl") or not shutil.which("jq"):
        pytest.skip("curl or jq is not installed")
    index = catalogue.index()
    run = catalogue.run({catalogue.video(index): [CRANE, None]}, index_id=index)
    script = "set -euo pipefail\n" + DOCUMENT.split("```bash\n", 1)[1].split("```", 1)[0]
    environment = {**os.environ, "KEY": caller.key, "RUN": run, "INDEX": index}
    done = subprocess.run(
        ["bash", "-c", script.replace("http://127.0.0.1:8080", service.base_url)], cwd=tmp_path, env=environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ['"pending"', "index", "prompt_run", "null"]
    shown = json.loads(DOCUMENT.split("```json shape\n", 1)[1].split("```", 1)[0])
    check_keys(json.loads((tmp_path / "export.json").read_bytes()), shown)


def check_keys(found, shown):
    """Check that a file has all documented keys, and that runs, media and segments have no others."""
    if isinstance(shown, dict):
        assert set(shown) <= set(found)
        if {"runs", "media", "segments"} & set(shown):
            assert set(shown) == set(found)
        for key, value in shown.items():
            check_keys(found[key], value)
    if isinstance(shown, list):
        for part in found:
            check_keys(part, shown[0])


def test_the_document_names_all_limits_and_errors():
    source = "".join(
        path.read_text()
        for path in (Path(promptreel.api.runs.exports.__file__), Path(promptreel.api.routes.exports.__file__))
    )
    named = set(re.findall(r'(?:ApiError\(\d+|conflict\()[, ]*"([a-z_]+)"', source)) | {"validation_failed"}
    assert {"run_not_finished", "export_not_ready", "link_expired"} <= named
    for name in (*named, *STATUSES, *STATUSES.values()):
        assert f"`{name}`" in DOCUMENT, name
    assert f"for {DOWNLOAD_URL_LIFETIME_S} seconds" in DOCUMENT
    assert f"tried {['', 'once', 'twice', 'three times'][MAX_ATTEMPTS]}" in DOCUMENT
