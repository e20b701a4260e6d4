"""Request heads are limited in size and time, also without a key; bodies, streams and idle connections are not."""

import json
import re
import select
import socket
import time
import uuid
from contextlib import closing
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from promptreel.api.config import ApiConfig, config_from_environment
from promptreel.api.web.http_protocol import MAX_HEAD_BYTES
from promptreel.schemas.errors import SettingsError
from tests.api.event_stream import STREAM, Follower, record_events
from tests.api_server import ApiServer, ok_json

pytest_plugins = ["tests.api_fixtures"]

TIMEOUT_S = 0.5  # of a head
LONGER_S = 3 * TIMEOUT_S
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: here\r\n"
UNFINISHED = {
    "request line": b"GET /" + b"a" * MAX_HEAD_BYTES,
    "value": HEALTH + b"X-Long: " + b"a" * MAX_HEAD_BYTES,
    "name": HEALTH + b"X" * MAX_HEAD_BYTES,
    "many headers": HEALTH + b"a: b\r\n" * (MAX_HEAD_BYTES // 6),
    "empty lines": b"\r\n" * (MAX_HEAD_BYTES // 2),
}
CHUNKED = b"POST /api/v2/indexes HTTP/1.1\r\nHost: here\r\nX-API-Key: %s\r\nTransfer-Encoding: chunked\r\n\r\n"
# Twice the limit, because bytes received together with the end of the head do not count.
UNFINISHED_BODIES = {
    "chunk extension": b"1;name=" + b"a" * 2 * MAX_HEAD_BYTES,
    "trailer": b"1\r\n{\r\n0\r\nX-Long: " + b"a" * 2 * MAX_HEAD_BYTES,
    "many trailers": b"1\r\n{\r\n0\r\n" + b"a: b\r\n" * (2 * MAX_HEAD_BYTES // 6),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads") / "data"
    with ApiServer(folder, supervise=False, header_timeout_s=TIMEOUT_S) as server:
        yield server


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    """A server with the default timeout, which no test reaches."""
    with ApiServer(tmp_path_factory.mktemp("patient") / "data", supervise=False) as server:
        yield server


def connect(server):
    address = urlsplit(server.base_url)
    return closing(socket.create_connection((address.hostname, address.port), timeout=20))


def received(connection):
    """Return the bytes sent until the service closes the connection; fail if it stays open."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    except TimeoutError:
        raise AssertionError(f"the connection is still open after {b''.join(parts)!r}") from None
    return b"".join(parts)


def receive_response(connection):
    """Receive a response with a Content-Length; return its status and body."""
    content = b""
    while b"\r\n\r\n" not in content:
        content += _receive(connection, content)
    head, _, body = content.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += _receive(connection, body)
    assert len(body) == length
    return int(head.split()[1]), body


def _receive(connection, before):
    try:
        part = connection.recv(65536)
    except TimeoutError:
        raise AssertionError(f"no response, only {before!r}") from None
    assert part, f"closed after {before!r}"
    return part


def send_slowly(connection, content, seconds):
    """Send one byte at a time, `seconds` in total, or until the service closes the connection."""
    try:
        for byte in content:
            connection.sendall(bytes([byte]))
            time.sleep(seconds / len(content))
    except OSError:
        pass


def check_431(content):
    """Check that a response is a 431 in the API's error format, with `Connection: close`."""
    head, _, body = content.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines[1:])}
    assert lines[0].split()[:2] == [b"HTTP/1.1", b"431"]
    assert headers[b"connection"] == b"close"
    assert headers[b"content-type"] == b"application/json"
    assert int(headers[b"content-length"]) == len(body)
    error = json.loads(body)["error"]
    assert set(error) == {"code", "message", "details", "request_id", "timestamp"}
    assert error["code"] == "request_header_too_large"
    assert str(MAX_HEAD_BYTES) in error["message"]
    assert error["details"] == {"max_bytes": MAX_HEAD_BYTES}
    assert error["request_id"] == headers[b"x-request-id"].decode()


# --------------------------------------------------------------------------------------------- size


def test_a_header_of_100_mb_does_not_affect_other_clients(patient):
    block, sent = b"a" * (1 << 20), 0
    with connect(patient) as connection:
        connection.sendall(HEALTH + b"X-Long: ")
        try:
            while sent < 100 << 20 and not select.select([connection], [], [], 0)[0]:
                connection.sendall(block)
                sent += len(block)
                if sent % (10 << 20) == 0:
                    assert httpx.get(patient.base_url + "/healthz").status_code == 200
        except (BrokenPipeError, ConnectionResetError):
            pass
        content = received(connection)
    assert sent < 100 << 20, "the service read everything"
    if content:  # a reset of the connection may discard the response
        check_431(content)
    assert httpx.get(patient.base_url + "/healthz").status_code == 200


@pytest.mark.parametrize("name", UNFINISHED)
def test_an_unfinished_head_at_the_limit_is_431(patient, name):
    with connect(patient) as connection:
        connection.sendall(UNFINISHED[name])
        check_431(received(connection))


def test_bytes_after_a_rejected_head_are_not_a_request(patient):
    with connect(patient) as connection:
        connection.sendall(UNFINISHED["value"] + b"\r\n\r\n" + HEALTH + b"\r\n")
        check_431(received(connection))


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_head_at_the_limit_is_accepted(patient, pieces):
    head = HEALTH + b"X-Long: "
    head += b"a" * (MAX_HEAD_BYTES - len(head) - 4) + b"\r\n\r\n"
    assert len(head) == MAX_HEAD_BYTES
    size = -(-len(head) // pieces)
    with connect(patient) as connection:
        for _ in range(3):  # the limit applies to each request of a connection
            for start in range(0, len(head), size):
                connection.sendall(head[start : start + size])
            assert receive_response(connection)[0] == 200


@pytest.mark.parametrize("name", UNFINISHED_BODIES)
def test_chunk_extensions_and_trailers_are_limited(patient, name):
    with connect(patient) as connection:
        connection.sendall(CHUNKED % patient.caller().key.encode() + UNFINISHED_BODIES[name])
        received(connection)


def test_a_long_head_after_a_stream_closes_the_connection(patient):
    with connect(patient) as connection:
        connection.sendall(_stream_request(patient.caller()))
        assert b": connected" in _receive_until(connection, b": connected")
        connection.sendall(UNFINISHED["value"] * 2)
        assert b"431" not in received(connection)


# --------------------------------------------------------------------------------------------- time


@pytest.mark.parametrize("start_bytes", [b"", b"G", HEALTH, b"\r\n"])
def test_a_connection_without_a_complete_head_is_closed(server, start_bytes):
    with connect(server) as connection:
        connection.sendall(start_bytes)
        assert received(connection) == b""


def test_a_slow_head_is_closed(server):
    with connect(server) as connection:
        send_slowly(connection, HEALTH, 2 * LONGER_S)
        assert received(connection) == b""


@pytest.mark.parametrize("start_bytes", [b"G", HEALTH, b"\r\n"])
def test_the_next_head_has_the_same_timeout(server, start_bytes):
    with connect(server) as connection:
        connection.sendall(HEALTH + b"\r\n")
        assert receive_response(connection)[0] == 200
        connection.sendall(start_bytes)
        assert received(connection) == b""


def test_a_body_sent_after_its_response_is_cut_off(server):
    with connect(server) as connection:
        connection.sendall(b"POST /api/v2/indexes HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000\r\n\r\n")
        assert receive_response(connection)[0] == 401
        send_slowly(connection, b"a" * 10, LONGER_S)
        assert received(connection) == b""


def test_a_connection_closes_after_a_late_body(server):
    with connect(server) as connection:
        connection.sendall(b"POST /api/v2/indexes HTTP/1.1\r\nHost: here\r\nContent-Length: 10\r\n\r\n")
        assert receive_response(connection)[0] == 401
        connection.sendall(b"a" * 10)
        assert received(connection) == b""


# ------------------------------------------------------------------------------------- not limited


def test_an_idle_connection_stays_open_between_requests(server):
    with connect(server) as connection:
        for _ in range(3):
            connection.sendall(HEALTH + b"\r\n")
            assert receive_response(connection)[0] == 200
            time.sleep(LONGER_S)


def test_a_stream_outlives_the_head_timeout(server):
    caller = server.caller()
    with Follower(caller) as stream:
        time.sleep(LONGER_S)
        record_events(server, caller, "media.created")
        assert [event["event_type"] for event in stream.take(1)] == ["media.created"]


def test_a_stream_outlives_a_partial_head_after_it(server):
    caller = server.caller()
    with connect(server) as connection:
        connection.sendall(_stream_request(caller) + b"GET /heal")
        _receive_until(connection, b": connected")
        time.sleep(LONGER_S)
        record_events(server, caller, "media.created")
        assert b"media.created" in _receive_until(connection, b"media.created")


def test_pipelined_requests_are_answered_in_order(server):
    paths = [b"/healthz", b"/readyz", b"/nowhere"]
    with connect(server) as connection:
        connection.sendall(b"".join(HEALTH.replace(b"/healthz", path) + b"\r\n" for path in paths))
        content = _receive_until(connection, b"endpoint_not_supported")
    statuses = re.findall(rb"HTTP/1\.1 (\d+)", content)
    assert statuses == [b"200", b"200", b"404"]


def test_a_body_may_take_longer_than_a_head(server, api_media):
    head, body = _upload_request(server.caller(), (api_media / "c.png").read_bytes())
    with connect(server) as connection:
        connection.sendall(head)
        size = -(-len(body) // 6)
        for start in range(0, len(body), size):
            time.sleep(LONGER_S / 6)
            connection.sendall(body[start : start + size])
        assert receive_response(connection)[0] == 201


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_may_be_much_larger_than_a_head(patient, api_media, chunked):
    caller = patient.caller()
    picture = (api_media / "c.png").read_bytes() + bytes(40 << 20)  # bytes after an image are ignored
    head, body = _upload_request(caller, picture)
    content_type = head.split(b"Content-Type: ")[1].split(b"\r\n")[0].decode()
    headers = {"Content-Type": content_type}
    blocks = (body[start : start + 1000] for start in range(0, len(body), 1000)) if chunked else body
    sent = caller.http.post("/videos/upload", content=blocks, headers=headers)
    assert sent.request.headers.get("Transfer-Encoding") == ("chunked" if chunked else None)
    assert ok_json(caller.get(f"/videos/{ok_json(sent, 201)['video_id']}"))["video_id"]


def test_an_upgrade_is_ignored(server):
    upgrade = (
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n\r\n"
    )
    with connect(server) as connection:
        connection.sendall(HEALTH + upgrade)
        assert receive_response(connection)[0] == 200


# --------------------------------------------------------------------------------------- the setting


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "3601"])
def test_an_invalid_timeout_is_named(value):
    with pytest.raises(SettingsError, match=rf"PROMPTREEL_HEADER_TIMEOUT is '{value}': "):
        config_from_environment({"PROMPTREEL_HEADER_TIMEOUT": value})


def test_the_timeout_is_read_from_the_environment():
    assert config_from_environment({"PROMPTREEL_HEADER_TIMEOUT": "2.5"}).header_timeout_s == 2.5
    assert config_from_environment({}).header_timeout_s == ApiConfig().header_timeout_s == 15


def _stream_request(caller):
    return f"GET /api/v2{STREAM} HTTP/1.1\r\nHost: here\r\nX-API-Key: {caller.key}\r\n\r\n".encode()


def _receive_until(connection, expected):
    content = b""
    while expected not in content:
        content += _receive(connection, content)
    return content


def _upload_request(caller, content):
    """Return the head and body of an upload."""
    boundary = uuid.uuid4().hex
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="title"\r\n\r\npicture\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="c.png"\r\n\r\n'
    ).encode()
    body += content + f"\r\n--{boundary}--\r\n".encode()
    head = (
        f"POST /api/v2/videos/upload HTTP/1.1\r\nHost: here\r\nX-API-Key: {caller.key}\r\n"
        f"Content-Type: multipart/form-data; boundary={boundary}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode(), body
