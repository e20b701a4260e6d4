"""Two runs at once over the same media with the same prompt pay for each answer once; one takes over from the other."""

import os
import subprocess
import sys
import uuid

import pytest

from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import create_run, kill, make_video, manifest_of, plain_rows, start, wait_for
from tests.pipelines.conftest import frame_settings
from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server

SEGMENTS = 24
CALLS = SEGMENTS + 1  # and the synthesis
IN_FLIGHT = 4
# A runner whose claims expire soon after it dies.
_SHORT_LEASE = """
import sys
from promptreel.tables import operation_claims
operation_claims.LEASE_S, operation_claims.HEARTBEAT_INTERVAL_S = 6.0, 0.5
from promptreel.pipelines.runner import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("media") / "film.mp4", SEGMENTS, sound=False)


@pytest.fixture(params=["local", "S3"])
def data(request, tmp_path, monkeypatch):
    """A data folder on a local disk, and in an object store that several processes use."""
    if request.param == "local":
        yield str(tmp_path)
        return
    s3fs = pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    with S3Server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()  # a cached instance would use the previous service
        yield f"s3://bucket/{uuid.uuid4().hex}"


def start_short_lease(data, run_id, log=subprocess.DEVNULL):
    words = [sys.executable, "-c", _SHORT_LEASE, "--data-dir", data, "--run-id", run_id]
    return start(words, stdout=subprocess.DEVNULL, stderr=log, env={**os.environ})


def start_two(data, film, server):
    settings = frame_settings(server, max_in_flight=IN_FLIGHT)
    runs = [create_run(data, film, settings) for _ in range(2)]
    return runs, [start_short_lease(data, run_id) for run_id in runs]


def end(children):
    for child in children:
        if child.poll() is None:
            kill(child)


def statuses(data, runs):
    return [manifest_of(data, run_id).status for run_id in runs]


def test_runs_at_once_pay_for_each_answer_once(data, film):
    with FakeGemini(latency_s=0.2) as server:
        runs, children = start_two(data, film, server)
        try:
            assert [child.wait(timeout=120) for child in children] == [0, 0]
        finally:
            end(children)
        assert len(server.ledger.calls()) == CALLS
    assert statuses(data, runs) == ["completed", "completed"]


def test_survivor_takes_over_from_a_killed_run(data, film, tmp_path):
    log = tmp_path / "survivor.log"
    with FakeGemini(latency_s=1.5) as server:
        runs = [create_run(data, film, frame_settings(server, max_in_flight=count)) for count in (2, IN_FLIGHT)]
        first = start_short_lease(data, runs[0])
        children = [first]
        try:
            wait_for(server.ledger.calls)
            with log.open("wb") as output:
                second = start_short_lease(data, runs[1], output)
                children.append(second)
                wait_for(lambda: f"waits for results that run {runs[0]} is computing" in log.read_text())
                assert first.poll() is None
                kill(first)
                assert second.wait(timeout=120) == 0
        finally:
            end(children)
        assert len(server.ledger.calls()) <= CALLS + 2
    assert manifest_of(data, runs[1]).status == "completed"


def test_run_calls_itself_what_the_first_run_fails(tmp_path, film):
    blocked_once = Fault(text="segment is 0:01.00 to 0:02.00", finish_reason="SAFETY", first=1)
    with FakeGemini(latency_s=0.2, faults=[blocked_once]) as server:
        runs, children = start_two(str(tmp_path), film, server)
        try:
            assert [child.wait(timeout=120) for child in children] == [0, 0]
        finally:
            end(children)
        assert len([call for call in server.ledger.calls() if "segment is 0:01.00" in call.text]) == 2
        segment_calls = [call for call in server.ledger.calls() if "segment is" in call.text]
        assert len(segment_calls) == SEGMENTS + 1
    assert sorted(statuses(tmp_path, runs)) == ["completed", "completed_with_failures"]
    assert sorted(len(plain_rows(tmp_path, run_id, "results")) for run_id in runs) == [SEGMENTS - 1, SEGMENTS]
