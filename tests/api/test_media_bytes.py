"""Stored bytes and rows of media items stay consistent if a step in between fails."""

import base64
import json
import threading

import fsspec
import httpx2 as httpx
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from promptreel.api.db.engine import Database
from promptreel.api.db.events import record_event
from promptreel.api.db.migrate import migrate
from promptreel.api.routes import videos
from promptreel.api.uploads import add_media
from promptreel.api.uploads.index_rows import owned_index
from promptreel.api.uploads.media_rows import add_video
from promptreel.api.uploads.store import StoredMedia, blocks_of, open_object
from promptreel.api.web.auth import Principal, create_account
from promptreel.api.web.idempotency import answer_once
from promptreel.schemas.media import MediaInfo
from tests.api_server import ApiServer, assert_error, ok_json
from tests.pipeline_runs import wait_for

pytest_plugins = ["tests.api_fixtures"]

CONNECTION_LOST = OperationalError("COMMIT", {}, Exception("the connection is lost"))


@pytest.fixture(scope="module")
def idle_server(tmp_path_factory):
    """A server that executes no runs, with a folder of media to register."""
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "media").mkdir()
    with ApiServer(folder / "data", supervise=False, media_roots=(folder / "media",)) as server:
        yield server


@pytest.fixture(scope="module")
def on_postgres(postgres, tmp_path_factory):
    """A server that executes no runs, on PostgreSQL."""
    folder = tmp_path_factory.mktemp("bytes-on-postgres")
    with ApiServer(folder / "data", supervise=False, database_url=postgres.new_database()) as server:
        yield server


@pytest.fixture(params=["idle_server", "on_postgres"])
def server(request):
    """A server on each kind of database."""
    return request.getfixturevalue(request.param)


def bytes_of(server, video_id):
    """Return the names of the stored files of a media item."""
    return [name for name in server.uploads() if f"/{video_id}/" in name]


# ------------------------------------------------------------------------------------------------ failed commits


def test_bytes_stay_if_the_row_was_committed_before_the_failure(server, api_media, monkeypatch):
    def commit_then_fail(*arguments):
        answer_once(*arguments)
        raise CONNECTION_LOST

    caller = server.caller()
    monkeypatch.setattr(add_media, "answer_once", commit_then_fail)
    assert_error(caller.upload(api_media / "c.png", key="k"), 503, "database_unavailable")
    monkeypatch.undo()
    video_id = ok_json(caller.upload(api_media / "c.png", key="k"), 201)["video_id"]
    assert len(bytes_of(server, video_id)) == 1


def test_bytes_are_removed_if_the_transaction_is_rolled_back(server, api_media, monkeypatch):
    def fail(*arguments, **more):
        raise CONNECTION_LOST

    caller, before = server.caller(), server.uploads()
    monkeypatch.setattr(add_media, "record_event", fail)
    assert_error(caller.upload(api_media / "c.png"), 503, "database_unavailable")
    assert server.uploads() == before
    assert ok_json(caller.get("/playground/videos"))["data"] == []


def test_bytes_stay_if_the_row_cannot_be_looked_up(idle_server, api_media, monkeypatch, caplog):
    database = idle_server.app.state.database

    def commit_then_lose_the_database(*arguments):
        answer_once(*arguments)
        monkeypatch.setattr(database, "read", lambda: (_ for _ in ()).throw(CONNECTION_LOST))
        raise CONNECTION_LOST

    caller, before = idle_server.caller(), idle_server.uploads()
    monkeypatch.setattr(add_media, "answer_once", commit_then_lose_the_database)
    assert_error(caller.upload(api_media / "c.png"), 503, "database_unavailable")
    monkeypatch.undo()
    assert len(idle_server.uploads()) == len(before) + 1
    assert "its bytes are not removed" in caplog.text


def test_row_in_an_open_transaction_may_exist(postgres):
    database = Database(postgres.new_database().replace("postgresql://", "postgresql+psycopg://"))
    migrate(database)
    info = MediaInfo("/a", "image", "png", 1, None, None)
    found = []
    lookup = threading.Thread(target=lambda: found.append(add_media._may_exist(database, "vid_1")))
    with database.write() as session:
        account_id = create_account(session, "anne").account_id
        caller = Principal(account_id, "key_1", ("admin",))
        add_video(session, caller, "vid_1", "t", None, StoredMedia("/a", "upload", info), None)
        record_event(session, account_id, "media.created", video_id="vid_1")
        session.flush()
        lookup.start()
        wait_for(lambda: found or count_waiting_sessions(database))
    lookup.join()
    assert found == [True]
    database.close()


def count_waiting_sessions(database):
    """Return the number of database sessions that wait for a lock."""
    with database.read() as session:
        statement = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return session.scalar(text(statement))


# ------------------------------------------------------------------------------------------------ deleted indexes


def test_index_deleted_during_an_upload_rejects_it_without_leftovers(server, api_media, monkeypatch):
    caller, before = server.caller(), server.uploads()
    index_id = caller.index()
    store_upload = videos.store_upload

    def store(*arguments):
        ok_json(caller.delete(f"/indexes/{index_id}"))
        return store_upload(*arguments)

    monkeypatch.setattr(videos, "store_upload", store)
    assert_error(caller.upload(api_media / "c.png", index_id), 404, "resource_index_not_found")
    assert server.uploads() == before


def test_deletion_waits_for_media_being_added_and_deletes_them(on_postgres):
    caller, database = on_postgres.caller(), on_postgres.app.state.database
    index_id = caller.index()
    principal = Principal(caller.account_id, "key_1", ("admin",))
    responses = []
    delete = threading.Thread(target=lambda: responses.append(caller.delete(f"/indexes/{index_id}")))
    with database.write() as session:
        owned_index(session, principal, index_id, lock={"read": True})
        stored = StoredMedia("/a", "file", MediaInfo("/a", "image", "png", 1, None, None))
        add_video(session, principal, "vid_late", "t", index_id, stored, "file:///a")
        session.flush()
        delete.start()
        wait_for(lambda: responses or count_waiting_sessions(database))
    delete.join()
    assert ok_json(responses[0])["status"] == "deleted"
    assert_error(caller.get("/videos/vid_late"), 404, "resource_video_not_found")


def test_replay_returns_the_first_response_after_its_index_is_deleted(idle_server, api_media):
    caller = idle_server.caller()
    index_id = caller.index()
    path = idle_server.config.media_roots[0] / "c.png"
    path.write_bytes((api_media / "c.png").read_bytes())
    body = {"title": "t", "video_uri": path.as_uri(), "index_id": index_id}
    uploaded = caller.upload(api_media / "c.png", index_id, key="k")
    registered = caller.post("/videos", body, key="k")
    ok_json(caller.delete(f"/indexes/{index_id}"))
    assert ok_json(caller.upload(api_media / "c.png", index_id, key="k"), 201) == ok_json(uploaded, 201)
    assert ok_json(caller.post("/videos", body, key="k"), 201) == ok_json(registered, 201)
    assert_error(caller.post("/videos", body, key="other"), 404, "resource_index_not_found")


def test_failed_removal_of_bytes_is_reported_and_can_be_retried(idle_server, api_media):
    caller = idle_server.caller()
    index_id = caller.index()
    first, second = (caller.video(api_media / "c.png", index_id) for _ in range(2))
    stuck = idle_server.data / bytes_of(idle_server, first)[0]
    stuck.unlink()
    stuck.mkdir()  # a folder cannot be removed as a file
    assert_error(caller.delete(f"/indexes/{index_id}"), 503, "storage_unavailable")
    assert bytes_of(idle_server, second) == []
    for video_id in (first, second):
        assert_error(caller.get(f"/videos/{video_id}"), 404, "resource_video_not_found")
    stuck.rmdir()
    stuck.write_bytes(b"x")
    ok_json(caller.delete(f"/indexes/{index_id}"))
    assert bytes_of(idle_server, first) == []


@pytest.mark.parametrize("what", ["index", "video"])
def test_uncommitted_deletion_leaves_the_bytes(idle_server, api_media, what):
    def fail(session):
        raise CONNECTION_LOST

    caller = idle_server.caller()
    index_id = caller.index()
    video_id = caller.video(api_media / "c.png", index_id)
    ok_json(caller.get("/prompts"))  # records the use of the key now, so the deletion is the next commit
    sessions = idle_server.app.state.database._sessions
    event.listen(sessions, "before_commit", fail)
    try:
        path = f"/indexes/{index_id}" if what == "index" else f"/videos/{video_id}"
        assert_error(caller.delete(path), 503, "database_unavailable")
    finally:
        event.remove(sessions, "before_commit", fail)
    assert ok_json(caller.get(f"/videos/{video_id}"))["index_id"] == index_id
    assert len(bytes_of(idle_server, video_id)) == 1


# ------------------------------------------------------------------------------------------------ content


def signed_url(caller, video_id):
    return ok_json(caller.post("/videos/signed-url", {"gcs_uri": f"media://{video_id}"}))["signed_url"]


def test_missing_content_is_404(idle_server, api_media):
    caller = idle_server.caller()
    video_id = caller.video(api_media / "c.png")
    (idle_server.data / bytes_of(idle_server, video_id)[0]).unlink()
    assert_error(httpx.get(signed_url(caller, video_id)), 404, "resource_media_not_found")


def test_content_is_streamed_from_an_object_store(tmp_path, api_media):
    data, url = f"memory://{tmp_path.name}", f"sqlite:///{tmp_path / 'promptreel.db'}"
    with ApiServer(data, database_url=url, supervise=False) as server:
        caller = server.caller()
        video_id = caller.video(api_media / "a.mp4")
        response = httpx.get(signed_url(caller, video_id))
        film = (api_media / "a.mp4").read_bytes()
        assert response.content == film
        assert response.headers["Content-Length"] == str(len(film))
        fsspec.filesystem("memory").rm(f"/{tmp_path.name}/uploads/{video_id}", recursive=True)
        assert_error(httpx.get(signed_url(caller, video_id)), 404, "resource_media_not_found")


def test_object_is_read_in_blocks(tmp_path):
    content = bytes(range(256)) * 10_000
    (tmp_path / "object").write_bytes(content)
    file, size = open_object(f"file://{tmp_path / 'object'}")
    blocks = list(blocks_of(file))
    assert size == len(content)
    assert b"".join(blocks) == content
    assert max(map(len, blocks)) == 1 << 20
    assert file.closed


# ------------------------------------------------------------------------------------------------ buckets


class Bucket(MemoryFileSystem):
    """A bucket service. The size of "unsized" objects is unknown; that of "promised" objects is wrong and large."""

    protocol = ("gs",)
    store: dict = {}  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + path.removeprefix("gs://").lstrip("/")

    def size(self, path):
        if "promised" in path:
            return 1 << 40
        return None if "unsized" in path else super().size(path)


@pytest.fixture
def bucket(monkeypatch):
    monkeypatch.setitem(_registry, "gs", Bucket)
    yield Bucket()
    Bucket.store.clear()


@pytest.mark.parametrize(("name", "length"), [("large.mp4", 100_001), ("unsized.mp4", 100_001), ("promised.mp4", 1)])
def test_object_over_the_limit_is_rejected(bucket, tmp_path, api_media, name, length):
    limits = {"max_upload_bytes": 100_000, "media_buckets": ("gs://films",)}
    bucket.pipe_file(f"gs://films/{name}", b"\0" * length)
    bucket.pipe_file("gs://films/c.png", (api_media / "c.png").read_bytes())
    with ApiServer(tmp_path / "data", supervise=False, **limits) as server:
        caller = server.caller()
        for uri, status in ((f"gs://films/{name}", 413), ("gs://films/c.png", 201), ("gs://films/none", 422)):
            response = caller.post("/videos", {"title": "t", "video_uri": uri})
            assert response.status_code == status, response.text
        assert response.json()["error"]["code"] == "media_not_found"
        assert list((server.data / "tmp").iterdir()) == []


# ------------------------------------------------------------------------------------------------ pages of segments


def test_all_segment_pages_use_the_first_pages_run(caller, world, api_media):
    video_id, prompt_id = caller.video(api_media / "a.mp4"), caller.prompt()
    target = {"type": "videos", "video_ids": [video_id]}
    first = caller.start(prompt_id, target)
    caller.wait(first)
    path = f"/videos/{video_id}/segments"
    page = ok_json(caller.get(path, params={"limit": 1}))
    second = caller.start(prompt_id, target)
    caller.wait(second)
    shown = page["data"]
    while (cursor := page["pagination"]["next_cursor"]) is not None:
        page = ok_json(caller.get(path, params={"limit": 1, "cursor": cursor}))
        shown += page["data"]
    assert [(row["start_time"], row["from_run_id"]) for row in shown] == [(0, first), (1, first), (2, first)]
    assert ok_json(caller.get(path))["data"][0]["from_run_id"] == second
    cursor = ok_json(caller.get(path, params={"limit": 1}))["pagination"]["next_cursor"]
    signature, position = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    assert position[0] == second
    for run_id, inner in ((world.run_id, position[1]), (first, position[1]), (second, "x")):
        forged = base64.urlsafe_b64encode(json.dumps([signature, [run_id, inner]]).encode()).decode().rstrip("=")
        response = caller.get(path, params={"cursor": forged})
        assert_error(response, response.status_code, response.json()["error"]["code"])
        assert response.status_code in (404, 422)
