"""Files that only their owner may read: the secret of signed URLs, the database, uploads, and requests."""

import os
import stat
import subprocess

import pytest

from promptreel.api.db.engine import Database
from promptreel.tables.layout import is_private
from promptreel.tables.private_files import restrict_private_files
from promptreel.tables.storage import open_storage
from tests.api_server import ApiServer
from tests.pipeline_runs import make_image, run_media, settings_for

NOBODY = 65534


@pytest.fixture(params=[0o000, 0o022], ids=["umask 000", "umask 022"])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def private_files(data):
    """Return the private files of a data folder; check that every kind exists."""
    found = [path for path in data.rglob("*") if path.is_file() and is_private(path.relative_to(data).as_posix())]
    kinds = {path.relative_to(data).parts[0] for path in found}
    assert kinds == {"api", "uploads", "runs"}
    database = [data / f"promptreel.db{suffix}" for suffix in ("", "-wal", "-shm", ".migrating")]
    return [*found, *(path for path in database if path.exists())]


def serve_run(data, image):
    """Fill a data folder with private files and the tables of a run; return the run id and the modes of the files."""
    with ApiServer(data) as server:
        caller = server.caller()
        run_id = caller.start(caller.prompt(), {"type": "videos", "video_ids": [caller.video(image)]})
        assert caller.wait(run_id)["status"] == "completed"
        assert (data / "promptreel.db-wal").exists()
        modes = {path.relative_to(data).as_posix(): mode_of(path) for path in private_files(data)}
    return run_id, modes


def test_private_files_have_mode_0600_whatever_the_umask(tmp_path, umask):
    data = tmp_path / "data"
    run_id, modes = serve_run(data, make_image(tmp_path / "still.png"))
    assert set(modes.values()) == {0o600}, modes
    tables = [
        *(data / "runs" / run_id / "tables").rglob("*.parquet"),
        *(data / "runs" / run_id / "manifests").iterdir(),
    ]
    assert {mode_of(path) for path in tables} == {0o666 & ~umask}


def test_the_request_of_a_cli_run_is_private(tmp_path, umask):
    run_id = run_media(tmp_path / "data", make_image(tmp_path / "still.png"), settings_for())
    assert mode_of(tmp_path / "data" / "runs" / run_id / "request.json") == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="reading as another user needs root")
def test_another_user_cannot_read_them(tmp_path, umask):
    data = tmp_path / "data"
    serve_run(data, make_image(tmp_path / "still.png"))
    data.chmod(0o755)
    secret = data / "api" / "link-secret"

    def can_read(path):
        # With a relative name: the folders above belong to pytest and are closed to other users.
        name = path.relative_to(data)
        options = {"user": NOBODY, "group": NOBODY, "extra_groups": [], "capture_output": True, "check": False}
        done = subprocess.run(["cat", name], cwd=data, **options)
        assert done.returncode == 0 or b"Permission denied" in done.stderr, done.stderr
        return done.returncode == 0

    for path in private_files(data):
        assert not can_read(path), path
    secret.chmod(0o644)
    assert can_read(secret)


def test_a_failed_mode_change_is_a_warning(tmp_path, monkeypatch, caplog):
    path = tmp_path / "api" / "link-secret"
    path.parent.mkdir()
    path.write_text("secret")
    path.chmod(0o644)

    def raise_permission_error(self, mode):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(type(path), "chmod", raise_permission_error)
    assert restrict_private_files(open_storage(tmp_path)) == 0
    assert "its mode cannot be changed (Operation not permitted); set it to 0600" in caplog.text


def test_readable_files_are_restricted_at_service_start(tmp_path, caplog):
    data = tmp_path / "data"
    serve_run(data, make_image(tmp_path / "still.png"))
    readable = private_files(data)
    for path in readable:
        path.chmod(0o644)
    with ApiServer(data):
        assert {mode_of(path) for path in private_files(data)} == {0o600}
    messages = [record.getMessage() for record in caplog.records if "changed its mode to 0600" in record.getMessage()]
    assert len(messages) == len(readable)
    assert restrict_private_files(open_storage(data)) == 0


def test_an_empty_database_is_private(tmp_path, umask):
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    assert mode_of(tmp_path / "a.db") == 0o600
    database.close()
