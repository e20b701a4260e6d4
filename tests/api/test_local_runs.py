"""Runs of the command line: `promptreel run` writes folders, and a service over the same data folder shows them."""

import json
import shutil
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest
from sqlalchemy import func, select

from promptreel.api.db.models import RunItem, RunRecord, Video
from promptreel.api.jobs.local_runs import LocalRuns
from promptreel.api.web.auth import create_account
from promptreel.pipelines.runner import execute_run
from promptreel.prompts import find_prompt
from promptreel.schemas.ids import new_run_id
from promptreel.tables.request import RunRequest, TargetItem, write_request
from promptreel.tables.stop_signal import request_stop
from promptreel.tables.storage import LocalStorage, open_storage
from tests.api_server import ApiServer, assert_error, ok_json
from tests.fake_gemini import FakeGemini
from tests.pipeline_runs import (
    create_run,
    make_audio,
    make_image,
    make_video,
    promptreel,
    run_media,
    settings_for,
    wait_for,
)
from tests.prompts import NESTED
from tests.synthetic_runs import make_run

pytest_plugins = ["tests.api_fixtures"]

WINDOWS = ["--video-segmentation", "fixed", "--video-segment-seconds", "1", "--model", "signals"]


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A folder with a video, a sound, a picture and a file that is no media."""
    folder = tmp_path_factory.mktemp("local-media")
    make_video(folder / "a film.mp4", 2)
    make_audio(folder / "b.flac", 2)
    make_image(folder / "c.png")
    (folder / "d.mp4").write_text("no film")
    return folder


@pytest.fixture(scope="module")
def finished(media, tmp_path_factory):
    """(data folder, run id) of a run of the command line, with a name and a failure."""
    data = tmp_path_factory.mktemp("finished") / "data"
    words = ["run", media, *WINDOWS, "--data-dir", data, "--name", "first", "--tag", "kind=test"]
    code, _, err = promptreel(*words)
    assert code == 3, err
    (folder,) = (data / "runs").iterdir()
    return data, folder.name


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of `finished` that a test may change."""
    return shutil.copytree(finished[0], tmp_path / "data"), finished[1]


class Follower:
    """A service without background jobs, and a follower of local runs that the test steps itself."""

    def __init__(self, server):
        self.server, self.state = server, server.app.state
        self.jobs = LocalRuns(self.state.database, self.state.storage, server.config)

    def step(self):
        self.jobs._next_scan = self.jobs._next_follow = 0.0
        while self.jobs.step():
            pass

    def count(self, what):
        with self.state.database.read() as session:
            return session.scalar(select(func.count()).select_from(what))


@pytest.fixture
def follow(tmp_path):
    """Start services over a data folder; return a `Follower` of each."""
    servers = []

    def start(data, **settings):
        server = ApiServer(data, supervise=False, **settings)
        servers.append(server.__enter__())
        return Follower(server)

    yield start
    for server in servers:
        server.__exit__()


def test_finished_run_appears_with_everything(copied, media):
    data, run_id = copied
    with ApiServer(data) as server:
        caller = server.caller()
        wait_for(lambda: run_id in caller.runs(), 30)
        run = caller.run(run_id)
        assert (run["status"], run["prompt_name"], run["prompt_version"]) == ("completed_with_failures", "measure", 1)
        assert (run["name"], run["tags"]) == ("first", {"kind": "test"})
        assert (run["total_videos"], run["total_audios"], run["total_images"]) == (2, 1, 1)
        assert (run["completed_videos"], run["failed_videos"], run["completed_segments"]) == (
            1,
            1,
            run["total_segments"],
        )
        assert run["executed_at"] < run["started_at"] < run["completed_at"]
        assert run["run_context"] == {"type": "command_line", "media": [str(media)]}
        videos = ok_json(caller.get("/playground/videos"))["data"]
        shown = {video["title"]: (video["media_type"], video["duration_seconds"], video["status"]) for video in videos}
        assert shown == {
            "a film.mp4": ("video", pytest.approx(2.0, abs=0.1), "processed"),
            "b.flac": ("audio", pytest.approx(2.0, abs=0.1), "processed"),
            "c.png": ("image", None, "processed"),
        }
        film = next(video["video_id"] for video in videos if video["title"] == "a film.mp4")
        results = ok_json(caller.get(f"/prompt-runs/{run_id}/results?video_id={film}"))["data"]
        assert len(results) == 2
        assert httpx.get(results[0]["thumbnail_uri"]).headers["content-type"] == "image/jpeg"
        failed = ok_json(caller.get(f"/prompt-runs/{run_id}/failed-segments"))
        assert [video["segments"][0]["failure_code"] for video in failed["videos"]] == ["media_unsupported"]
        query = {"query": "SELECT count(*) AS n FROM segments", "run_ids": [run_id]}
        assert ok_json(caller.post("/search/sql/playground", query))["rows"] == [{"n": run["total_segments"]}]
        found = ok_json(caller.get(f"/videos/{film}"))["processing_status"]
        assert [status["run_id"] for status in found] == [run_id]


def test_search_finds_answers_of_local_runs(tmp_path, follow, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    film = make_video(tmp_path / "film.mp4", 2)
    answer = {"summary": "a heron lands", "scene": {"location": "lake"}, "products": [], "topic": "birds"}
    with FakeGemini(answer=lambda body, schema: answer) as gemini:
        run_id = run_media(tmp_path / "data", film, settings_for(gemini))
    service = follow(tmp_path / "data")
    caller = service.server.caller()
    service.step()
    run = caller.run(run_id)
    assert run["actual_cost"]["amount"] > 0
    assert run["actual_tokens"]["total"] > 0
    hits = ok_json(caller.post("/playground/search", {"query": "heron"}))
    assert "heron" in json.dumps(hits)


def test_file_outside_the_media_roots_is_not_served(copied, follow):
    service = follow(copied[0])
    caller = service.server.caller()
    service.step()
    videos = {video["title"]: video for video in ok_json(caller.get("/playground/videos"))["data"]}
    signed = ok_json(caller.post("/videos/signed-url", {"gcs_uri": videos["a film.mp4"]["video_uri"]}))["signed_url"]
    assert_error(httpx.get(signed), 404, "resource_media_not_found")
    prompt_id = caller.prompt()
    named = {"type": "videos", "video_ids": [videos["c.png"]["video_id"]]}
    assert_error(caller.execute(prompt_id, named), 422, "media_uri_refused")
    assert_error(caller.execute(prompt_id, {"type": "playground"}), 422, "validation_failed")


def test_file_in_a_media_root_is_served_until_it_changes(tmp_path, follow):
    root = (tmp_path / "root").resolve()
    film = make_video(root / "film.mp4", 2)
    run_media(tmp_path / "data", film, settings_for())
    service = follow(tmp_path / "data", media_roots=(root,))
    caller = service.server.caller()
    service.step()
    (video,) = ok_json(caller.get("/playground/videos"))["data"]
    signed = ok_json(caller.post("/videos/signed-url", {"gcs_uri": video["video_uri"]}))["signed_url"]
    served = httpx.get(signed)
    assert (served.content, served.headers["content-type"]) == (film.read_bytes(), "video/mp4")
    film.write_bytes(b"another film")
    assert httpx.get(signed).status_code == 404
    film.unlink()
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(served.content)
    film.symlink_to(secret)  # leads out of the root
    assert httpx.get(signed).status_code == 404


def test_several_accounts_need_a_setting(copied, follow, caplog):
    service = follow(copied[0])
    first, second = service.server.caller(), service.server.caller()
    for _ in range(3):
        service.step()
    assert first.runs() == second.runs() == {}
    assert caplog.text.count("set PROMPTREEL_LOCAL_ACCOUNT to the id of one") == 1
    chosen = follow(copied[0], local_account=second.account_id)
    chosen.step()
    assert (list(first.runs()), list(second.runs())) == ([], [copied[1]])


def test_unknown_account_in_the_setting_adopts_nothing(copied, follow, caplog):
    service = follow(copied[0], local_account="user_none")
    service.server.caller()
    service.step()
    assert service.count(RunRecord) == 0
    assert "PROMPTREEL_LOCAL_ACCOUNT is 'user_none'" in caplog.text


def test_damaged_folders_are_skipped_and_logged_once(copied, follow, caplog):
    data, run_id = copied
    torn, partless = (shutil.copytree(data / "runs" / run_id, data / "runs" / f"run_{name}") for name in ("b", "c"))
    (torn / "request.json").write_text('{"run_id": "run_b", "pro')
    request = (partless / "request.json").read_text()
    (partless / "request.json").write_text(request.replace(run_id, "run_c"))
    next(partless.glob("parts/segments/*")).unlink()
    (data / "runs" / "run_d").mkdir()  # a folder that is just being created
    (data / "runs" / "run_e").write_text("no folder")
    service = follow(data)
    caller = service.server.caller()
    for _ in range(3):
        service.step()
    assert list(caller.runs()) == [run_id]
    for name in ("run_b", "run_c"):
        assert caplog.text.count(f"run {name} cannot be shown") == 1


def test_run_of_a_service_is_never_adopted(tmp_path, api_media):
    with ApiServer(tmp_path / "data") as server:
        caller = server.caller()
        caller.video(api_media / "c.png")
        run_id = caller.start(caller.prompt(), {"type": "playground"})
        caller.wait(run_id)
    with ApiServer(tmp_path / "data", database_url=f"sqlite:///{tmp_path / 'other.db'}", supervise=False) as other:
        service = Follower(other)
        other.caller()
        service.step()
        assert service.count(RunRecord) == 0
    with ApiServer(tmp_path / "data", supervise=False) as server:
        service = Follower(server)
        service.step()
        assert (service.count(RunRecord), service.count(RunItem), service.count(Video)) == (1, 1, 1)
        code, out, _ = promptreel("runs", "--json", "--data-dir", tmp_path / "data")
        assert (code, [run["run_id"] for run in json.loads(out)]) == (0, [run_id])


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_two_services_create_no_duplicates(kind, request, copied, tmp_path, follow):
    data, run_id = copied
    url = request.getfixturevalue("postgres").new_database() if kind == "postgresql" else ""
    services = [follow(data, database_url=url) for _ in range(2)]
    caller = services[0].server.caller()
    for service in services:
        service.jobs.start()
    wait_for(lambda: run_id in caller.runs(), 30)
    for service in services:
        service.jobs.stop()
        service.step()
    assert [services[0].count(table) for table in (RunRecord, RunItem, Video)] == [1, 4, 3]


def test_scan_without_news_reads_no_request(tmp_path, follow, monkeypatch):
    storage = open_storage(tmp_path / "data")
    for number in range(30):
        make_run(storage, {f"vid_{number}": [{}]}, run_id=f"run_{number:02d}")
    service = follow(tmp_path / "data")
    service.server.caller()
    service.step()
    assert service.count(RunRecord) == 30
    service.step()  # looks at each run once
    read = []
    monkeypatch.setattr(LocalStorage, "read_bytes", lambda self, name: read.append(name))
    monkeypatch.setattr(LocalStorage, "exists", lambda self, name: read.append(name))
    for _ in range(3):
        service.step()
    assert read == []


def test_item_that_is_read_by_a_later_attempt_replaces_the_unread_one(tmp_path, follow):
    data = tmp_path / "data"
    film = make_video(tmp_path / "film.mp4", 2)
    run_id = create_run(data, film, settings_for(), find_prompt("measure"))
    request_stop(open_storage(data), run_id, "test")
    execute_run(str(data), run_id)
    service = follow(data)
    caller = service.server.caller()
    service.step()
    run = caller.run(run_id)
    assert (run["status"], run["cancelled_videos"], run["total_videos"]) == ("cancelled", 1, 1)
    assert (service.count(RunItem), service.count(Video)) == (1, 0)
    code, _, err = promptreel("run", "--resume", run_id, "--data-dir", data)
    assert code == 0, err
    service.step()
    run = caller.run(run_id)
    assert (run["status"], run["completed_videos"], run["cancelled_videos"]) == ("completed", 1, 0)
    (video,) = ok_json(caller.get("/playground/videos"))["data"]
    assert (service.count(RunItem), service.count(Video), video["status"]) == (1, 1, "processed")
    assert len(ok_json(caller.get(f"/prompt-runs/{run_id}/results?video_id={video['video_id']}"))["data"]) == 2


def test_secrets_of_urls_stay_out_of_the_database(tmp_path, follow):
    storage = open_storage(tmp_path / "data")
    url = "https://user:hunter2@example.com/a.mp4?token=hunter3"
    request = RunRequest(new_run_id(), NESTED, settings_for(), ("https://example.com/a.mp4",), "2026-04-20T10:00:00Z")
    write_request(storage, request, [TargetItem(url, "a.mp4")])
    service = follow(tmp_path / "data")
    caller = service.server.caller()
    service.step()
    assert caller.run(request.run_id)["status"] == "failed"  # no runner has started within minutes
    assert "hunter" not in json.dumps(caller.run(request.run_id))
    assert b"hunter" not in (tmp_path / "data" / "promptreel.db-wal").read_bytes()


def test_media_of_another_account_stay_with_it(copied, follow):
    data, run_id = copied
    service = follow(data)
    first = service.server.caller()
    service.step()
    with service.state.database.write() as session:
        other = create_account(session, "second").account_id
    shutil.copytree(data / "runs" / run_id, data / "runs" / "run_z")
    request = data / "runs" / "run_z" / "request.json"
    request.write_text(request.read_text().replace(run_id, "run_z"))
    for manifest in (data / "runs" / "run_z" / "manifests").iterdir():
        manifest.write_text(manifest.read_text().replace(f'"{run_id}"', '"run_z"'))
    second = follow(data, local_account=other)
    second.step()
    stranger = second.server.caller(account_id=other)
    assert list(stranger.runs()) == ["run_z"]
    assert ok_json(stranger.get("/playground/videos"))["data"] == []
    assert len(ok_json(first.get("/playground/videos"))["data"]) == 3
    assert urlsplit(second.server.base_url).port != urlsplit(service.server.base_url).port
