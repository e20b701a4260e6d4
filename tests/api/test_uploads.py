"""Uploads and registrations: media that is stored, media that is rejected, and no leftover files."""

import socket

import pytest

from tests.api_server import ApiServer, assert_error, ok_json
from tests.media_files import plain, write_film

pytest_plugins = ["tests.api_fixtures"]

LIMIT = 200_000


@pytest.fixture(scope="module")
def limited_server(tmp_path_factory):
    """A server with small limits and one folder of media to register."""
    folder = tmp_path_factory.mktemp("limits")
    (folder / "media").mkdir()
    limits = {"max_upload_bytes": LIMIT, "max_media_seconds": 5, "media_roots": (folder / "media",)}
    with ApiServer(folder / "data", supervise=False, **limits) as server:
        yield server


@pytest.fixture
def someone(limited_server):
    return limited_server.caller()


def has_no_leftovers(server):
    return server.uploads() == [] and not list((server.data / "tmp").glob("*"))


def test_upload_reports_type_duration_title_and_size(limited_server, someone, api_media):
    found = {}
    for name in ("a.mp4", "b.flac", "c.png"):
        body = ok_json(someone.upload(api_media / name, title=f"the {name}"), 201)
        found[name] = (body["media_type"], body["duration_seconds"], body["title"])
        assert body["size_bytes"] == (api_media / name).stat().st_size
        ok_json(someone.delete(f"/videos/{body['video_id']}"))
    assert found["a.mp4"] == ("video", pytest.approx(3, abs=0.1), "the a.mp4")
    assert found["b.flac"] == ("audio", pytest.approx(2, abs=0.1), "the b.flac")
    assert found["c.png"] == ("image", None, "the c.png")
    assert has_no_leftovers(limited_server)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("text.mp4", b"this is not a film", "media_unsupported"),
        ("empty.mp4", b"", "media_empty"),
        ("list.mp4", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "media_unsupported"),
        ("list.ffconcat", b"ffconcat version 1.0\nfile /etc/passwd\n", "media_unsupported"),
    ],
)
def test_unsupported_file_is_rejected_without_leftovers(limited_server, someone, tmp_path, name, content, code):
    (tmp_path / name).write_bytes(content)
    error = assert_error(someone.upload(tmp_path / name), 422, code)
    assert error["details"]["failure_code"] == code
    assert error["message"].startswith(f"{name}: ")
    assert str(limited_server.data) not in error["message"]
    assert has_no_leftovers(limited_server)
    assert ok_json(someone.get("/playground/videos"))["data"] == []


def test_upload_over_the_size_limit_is_413(limited_server, someone, tmp_path):
    (tmp_path / "big.mp4").write_bytes(b"\0" * (LIMIT + 1))
    assert_error(someone.upload(tmp_path / "big.mp4"), 413, "media_too_large")
    (tmp_path / "bigger.mp4").write_bytes(b"\0" * (LIMIT + (2 << 20)))
    assert_error(someone.upload(tmp_path / "bigger.mp4"), 413, "media_too_large")
    assert has_no_leftovers(limited_server)


def test_endless_chunked_upload_is_aborted(limited_server, someone):
    """The server stops reading and responds 413, or closes the connection."""
    head = (
        "POST /api/v2/videos/upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        f"X-API-Key: {someone.key}\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    start = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
    port = int(limited_server.base_url.rsplit(":", 1)[1])
    sent = 0
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head.encode() + b"%x\r\n%s\r\n" % (len(start), start))
        block = b"0" * 65_536
        try:
            while sent < 100 * LIMIT:
                connection.sendall(b"%x\r\n%s\r\n" % (len(block), block))
                sent += len(block)
                connection.settimeout(0.05)
                try:
                    response = connection.recv(4096)
                    break
                except TimeoutError:
                    connection.settimeout(20)
        except OSError:
            response = b"HTTP/1.1 413"  # the server closed the connection
    assert sent < 50 * LIMIT
    assert b" 413 " in response.split(b"\r\n")[0] + b" "
    assert has_no_leftovers(limited_server)


def test_upload_requires_a_key_with_write_scope(limited_server, someone, api_media):
    assert_error(limited_server.stranger().upload(api_media / "c.png"), 401, "authentication_required")
    reader = limited_server.caller("read", account_id=someone.account_id)
    assert_error(reader.upload(api_media / "c.png"), 403, "authorization_insufficient_scope")


def test_upload_without_a_key_is_401_before_its_body(limited_server):
    head = "POST /api/v2/videos/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    head += "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    port = int(limited_server.base_url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head.encode())  # without a body
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")


def status_of_head(server, path, length, key=None, method="POST"):
    """Send only the head of a request; return the status of the response."""
    head = (
        f"{method} /api/v2{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nContent-Type: application/json\r\n"
    )
    port = int(server.base_url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"{head}{f'X-API-Key: {key}' if key else 'X-Nothing: x'}\r\n\r\n".encode())
        return int(connection.recv(4096).split()[1])


@pytest.mark.parametrize(
    ("path", "max_bytes"),
    [
        ("/prompts", 1 << 20),
        ("/prompt-runs/estimate", 1 << 20),
        ("/indexes/idx_1/search", 1 << 20),
        ("/indexes/idx_1/image-search", 16 << 20),
        ("/indexes/idx_1/multimodal-search", 16 << 20),
    ],
)
def test_json_body_over_its_limit_is_413_before_reading(limited_server, someone, path, max_bytes):
    assert status_of_head(limited_server, path, max_bytes + 1, someone.key) == 413
    body = b" " * max_bytes
    response = someone.post(path, content=body, headers={"Content-Type": "application/json"})
    assert_error(response, 400, "malformed_json")  # the body was read


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/prompts"), ("PUT", "/prompts/prompt_1"), ("POST", "/indexes/idx_1/image-search")]
)
def test_request_without_a_key_is_401_before_its_body(limited_server, method, path):
    assert status_of_head(limited_server, path, 1000, method=method) == 401
    assert status_of_head(limited_server, path, 1000, "nonsense", method) == 401


def test_image_search_with_unknown_key_is_401_before_its_body(limited_server):
    assert status_of_head(limited_server, "/indexes/idx_1/image-search", 1000, "sk_live_" + "0" * 48) == 401


def test_media_over_the_duration_limit_is_413(limited_server, someone, tmp_path):
    write_film(tmp_path / "long.mp4", plain(["red"], 8), 1)
    error = assert_error(someone.upload(tmp_path / "long.mp4"), 413, "media_too_large")
    assert error["message"].startswith("long.mp4: ")
    assert has_no_leftovers(limited_server)


def test_invalid_upload_form_is_rejected(someone, api_media):
    assert_error(someone.post("/videos/upload", data={"title": "t"}), 422, "validation_failed")
    with (api_media / "c.png").open("rb") as file:
        assert_error(someone.post("/videos/upload", files={"file": ("c.png", file)}), 422, "validation_failed")
    assert_error(someone.upload(api_media / "c.png", title="t" * 256), 422, "validation_failed")
    assert_error(someone.upload(api_media / "c.png", index_id="idx_none"), 404, "resource_index_not_found")


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd.png", "/etc/c.png", "c.p/n\\g", "c.png\r\nX: y", "ü" * 200 + ".png"]
)
def test_file_name_does_not_affect_the_storage_path(limited_server, someone, api_media, name):
    content = (api_media / "c.png").read_bytes()
    response = someone.post("/videos/upload", data={"title": "t"}, files={"file": (name, content)})
    video_id = ok_json(response, 201)["video_id"]
    assert [path.split("/")[:2] for path in limited_server.uploads()] == [["uploads", video_id]]
    ok_json(someone.delete(f"/videos/{video_id}"))
    assert has_no_leftovers(limited_server)


# ------------------------------------------------------------------------------------------------ registered files


def register(caller, uri, title="t"):
    return caller.post("/videos", {"title": title, "video_uri": uri})


def test_registered_file_is_neither_copied_nor_deleted(limited_server, someone, api_media):
    path = limited_server.config.media_roots[0] / "a film.mp4"
    path.write_bytes((api_media / "a.mp4").read_bytes())
    body = ok_json(register(someone, path.as_uri()), 201)
    assert (body["source_kind"], body["video_uri"]) == ("file", path.as_uri())
    assert has_no_leftovers(limited_server)
    ok_json(someone.delete(f"/videos/{body['video_id']}"))
    assert path.exists()  # registered files are never deleted


def test_files_outside_the_allowed_folders_are_rejected(limited_server, someone, api_media, tmp_path):
    root = limited_server.config.media_roots[0]
    outside = tmp_path / "secret.mp4"
    outside.write_bytes((api_media / "a.mp4").read_bytes())
    (root / "link.mp4").symlink_to(outside)
    (root / "folder").symlink_to(tmp_path)
    (root / "dangling.mp4").symlink_to(tmp_path / "none")
    (root.parent / "media-of-others").mkdir(exist_ok=True)
    (root.parent / "media-of-others" / "a.mp4").write_bytes(outside.read_bytes())
    uris = [
        outside.as_uri(),
        f"file://{root}/../../{outside.relative_to('/')}",
        f"file://{root}/%2e%2e/media-of-others/a.mp4",
        f"file://{root}-of-others/a.mp4",
        f"file://{root}/link.mp4",
        f"file://{root}/folder/secret.mp4",
        f"file://{root}/dangling.mp4",
        f"file://{root}/",
        f"file://{root}/none.mp4",
        f"file://{root}/a%00.mp4",
        "file:///etc/passwd",
        "file:///dev/zero",
        "file:///proc/self/environ",
    ]
    messages = {assert_error(register(someone, uri), 422, "media_uri_refused")["message"] for uri in uris}
    assert len(messages) == 1  # the message does not reveal whether a file exists
    for uri in (
        f"file://host/{root}/a.mp4",
        f"file://{root}/a.mp4?x",
        "file://",
        "ftp://h/a.mp4",
        "/etc/passwd",
        "C:\\a",
    ):
        response = register(someone, uri)
        assert_error(response, 422, response.json()["error"]["code"])
    assert ok_json(someone.get("/playground/videos"))["data"] == []


@pytest.mark.parametrize(
    "uri", ["gs://bucket/a.mp4", "s3://bucket/a.mp4", "http://media.example/a.mp4", "https://[::1", "x" * 5000]
)
def test_disallowed_bucket_or_invalid_uri_is_rejected(someone, uri):
    assert_error(register(someone, uri), 422, "validation_failed")
