"""A data folder in an S3 object store over HTTP: exactly one of several concurrent creates succeeds."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from promptreel.pipelines.runner import execute_run
from promptreel.schemas.errors import CommitConflict, StorageError
from promptreel.tables.attempts import begin_attempt
from promptreel.tables.layout import run_folder, table_folder
from promptreel.tables.manifest import commit_manifest
from promptreel.tables.part_files import part_paths
from promptreel.tables.stop_signal import request_stop
from promptreel.tables.storage import open_storage
from tests.api_server import ApiServer, ok_json
from tests.minio_server import MinioServer, find_minio
from tests.pipeline_runs import create_run, make_image, settings_for
from tests.prompts import NESTED
from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server

s3fs = pytest.importorskip("s3fs", reason="the extra s3 is not installed")


@pytest.fixture(scope="module", params=["as AWS", "as MinIO", "MinIO"])
def service(request, tmp_path_factory):
    """An S3 service that the AWS environment variables point to."""
    if request.param != "MinIO":
        server = S3Server(names_condition=request.param == "as AWS")
    else:
        if find_minio() is None:
            pytest.skip("MinIO not found: build it with tests/build_minio.sh or set PROMPTREEL_TEST_MINIO to its path")
        server = MinioServer(find_minio(), tmp_path_factory.mktemp("minio"))
    with server, pytest.MonkeyPatch.context() as patch:
        _point_to(patch, server)
        yield server


@pytest.fixture
def fake(monkeypatch):
    with S3Server() as server:
        _point_to(monkeypatch, server)
        yield server


def _point_to(patch, server):
    patch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()  # a cached instance would use the previous service


@pytest.fixture
def data(service):
    return f"s3://bucket/{uuid.uuid4().hex}"


def test_only_the_first_create_succeeds(data):
    storage = open_storage(data)
    assert storage.create_exclusive("a/b.json", b"first") is True
    assert storage.create_exclusive("a/b.json", b"second") is False
    assert storage.read_bytes("a/b.json") == b"first"


def test_one_of_many_concurrent_creates_succeeds(data):
    storage, gate = open_storage(data), threading.Barrier(8)

    def create(number):
        gate.wait()
        return storage.create_exclusive("a", str(number).encode())

    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(create, range(8)))
    assert sum(created) == 1
    assert storage.read_bytes("a") == str(created.index(True)).encode()


def test_two_writers_have_separate_attempts_and_commits(data):
    storage = open_storage(data)
    first, second = begin_attempt(storage, "run_a"), begin_attempt(storage, "run_a")
    assert (first, second) == (1, 2)
    facts = {"status": "completed", "counts": {}, "parts": []}
    assert commit_manifest(storage, "run_a", attempt=first, token="one", **facts).number == 1
    assert commit_manifest(storage, "run_a", attempt=second, token="two", **facts).number == 2
    with pytest.raises(CommitConflict, match="attempt 1 is stale"):
        commit_manifest(storage, "run_a", attempt=first, token="three", **facts)


def test_run_stopped_twice_commits(data, tmp_path):
    run_id = create_run(data, make_image(tmp_path / "a.png"), settings_for(), NESTED)
    for _ in range(2):
        request_stop(open_storage(data), run_id, "a test")
    assert execute_run(data, run_id).status == "cancelled"


def test_service_restarts_on_a_bucket(data, tmp_path):
    settings = {"database_url": f"sqlite:///{tmp_path / 'promptreel.db'}", "supervise": False}
    with ApiServer(data, **settings) as server:
        caller = server.caller()
        video_id = caller.video(make_image(tmp_path / "a.png"))
    with ApiServer(data, **settings) as server:
        again = server.caller(account_id=caller.account_id)
        assert ok_json(again.get(f"/videos/{video_id}"))["video_id"] == video_id


def test_conflicting_create_is_retried(fake):
    storage = open_storage("s3://bucket/data")
    fake.conflicts = 2
    assert storage.create_exclusive("a", b"first") is True
    fake.conflicts = 1
    assert storage.create_exclusive("a", b"second") is False
    statuses = [status for _, status in fake.creates]
    assert statuses == [409, 409, 200, 409, 412]


def test_permanently_conflicting_create_is_a_storage_error(fake):
    fake.conflicts = 1000
    with pytest.raises(StorageError, match=r"cannot create a: .*ConditionalRequestConflict"):
        open_storage("s3://bucket/data").create_exclusive("a", b"first")
    assert fake.objects == {}


def test_resumed_run_publishes_only_its_newest_parts(data, tmp_path):
    run_id = create_run(data, make_image(tmp_path / "a.png"), settings_for(), NESTED)
    first, second = execute_run(data, run_id), execute_run(data, run_id)
    storage = open_storage(data)
    for table in ("media", "segments", "results", "llm_calls"):
        published = storage.list_names(table_folder(run_id, table))
        assert published == [part.name for part in second.parts_of(table)]
    assert not {part.file for part in first.parts} & {part.file for part in second.parts}
    part_paths(storage, run_id, [*first.parts, *second.parts])
    [part] = second.parts_of("segments")
    copy = storage.read_bytes(f"{table_folder(run_id, 'segments')}/{part.name}")
    assert copy == storage.read_bytes(f"{run_folder(run_id)}/{part.file}")
