"""Uploads and registrations: what is stored, what is refused before it is, and that nothing is left behind."""

import socket

import pytest

from tests.api_server import ApiServer, assert_error, ok_json
from tests.media_files import plain, write_film

pytest_plugins = ["tests.api_fixtures"]

LIMIT = 200_000


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A server with small limits and one folder to register from."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "media").mkdir()
    limits = {"max_upload_bytes": LIMIT, "max_media_seconds": 5, "media_roots": (folder / "media",)}
    with ApiServer(folder / "data", supervise=False, **limits) as server:
        yield server


@pytest.fixture
def someone(small):
    return small.caller()


def nothing_is_left(server):
    return server.uploads() == [] and not list((server.data / "tmp").glob("*"))


def test_uploads_say_what_they_are(small, someone, api_media):
    found = {}
    for name in ("a.mp4", "b.flac", "c.png"):
        body = ok_json(someone.upload(api_media / name, title=f"the {name}"), 201)
        found[name] = (body["media_type"], body["duration_seconds"], body["title"])
        assert body["size_bytes"] == (api_media / name).stat().st_size
        ok_json(someone.delete(f"/videos/{body['video_id']}"))
    assert found["a.mp4"] == ("video", pytest.approx(3, abs=0.1), "the a.mp4")
    assert found["b.flac"] == ("audio", pytest.approx(2, abs=0.1), "the b.flac")
    assert found["c.png"] == ("image", None, "the c.png")
    assert nothing_is_left(small)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("text.mp4", b"this is no film", "media_unsupported"),
        ("empty.mp4", b"", "media_empty"),
        ("list.mp4", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "media_unsupported"),
        ("list.ffconcat", b"ffconcat version 1.0\nfile /etc/passwd\n", "media_unsupported"),
    ],
)
def test_what_is_no_media_is_refused_with_its_code_and_leaves_no_file(small, someone, tmp_path, name, content, code):
    (tmp_path / name).write_bytes(content)
    error = assert_error(someone.upload(tmp_path / name), 422, code)
    assert error["details"]["failure_code"] == code
    assert error["message"].startswith(f"{name}: ")
    assert str(small.data) not in error["message"]
    assert nothing_is_left(small)
    assert ok_json(someone.get("/playground/videos"))["data"] == []


def test_a_file_over_the_limit_is_refused_while_it_is_sent(small, someone, tmp_path):
    (tmp_path / "big.mp4").write_bytes(b"\0" * (LIMIT + 1))
    assert_error(someone.upload(tmp_path / "big.mp4"), 413, "media_too_large")
    (tmp_path / "bigger.mp4").write_bytes(b"\0" * (LIMIT + (2 << 20)))
    assert_error(someone.upload(tmp_path / "bigger.mp4"), 413, "media_too_large")
    assert nothing_is_left(small)


def test_an_endless_upload_without_a_length_is_broken_off(small, someone):
    """The server must not read on for ever; what it says before it hangs up is a 413."""
    head = (
        "POST /api/v2/videos/upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        f"X-API-Key: {someone.key}\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    start = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
    port = int(small.base_url.rsplit(":", 1)[1])
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
                    answer = connection.recv(4096)
                    break
                except TimeoutError:
                    connection.settimeout(20)
        except OSError:
            answer = b"HTTP/1.1 413"  # hung up
    assert sent < 50 * LIMIT
    assert b" 413 " in answer.split(b"\r\n")[0] + b" "
    assert nothing_is_left(small)


def test_nobody_uploads_without_a_key_that_may_write(small, someone, api_media):
    assert_error(small.stranger().upload(api_media / "c.png"), 401, "authentication_required")
    reader = small.caller("read", account_id=someone.account_id)
    assert_error(reader.upload(api_media / "c.png"), 403, "authorization_insufficient_scope")


def test_an_upload_without_a_key_is_refused_before_its_body_comes(small):
    head = "POST /api/v2/videos/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    head += "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    port = int(small.base_url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head.encode())  # and nothing more
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")


def status_of_head(server, path, length, key=None, method="POST"):
    """The status that a request is answered with of which no more than the head is sent."""
    head = (
        f"{method} /api/v2{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nContent-Type: application/json\r\n"
    )
    port = int(server.base_url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"{head}{f'X-API-Key: {key}' if key else 'X-Nothing: x'}\r\n\r\n".encode())
        return int(connection.recv(4096).split()[1])


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/prompts", 1 << 20),
        ("/prompt-runs/estimate", 1 << 20),
        ("/indexes/idx_1/search", 1 << 20),
        ("/indexes/idx_1/image-search", 16 << 20),
        ("/indexes/idx_1/multimodal-search", 16 << 20),
    ],
)
def test_a_json_body_over_its_limit_is_refused_before_it_is_read(small, someone, path, most):
    assert status_of_head(small, path, most + 1, someone.key) == 413
    body = b" " * most
    answer = someone.post(path, content=body, headers={"Content-Type": "application/json"})
    assert_error(answer, 400, "malformed_json")  # it was read


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/prompts"), ("PUT", "/prompts/prompt_1"), ("POST", "/indexes/idx_1/image-search")]
)
def test_a_body_without_a_key_is_refused_before_it_comes(small, method, path):
    assert status_of_head(small, path, 1000, method=method) == 401
    assert status_of_head(small, path, 1000, "nonsense", method) == 401


def test_a_picture_is_taken_from_callers_alone_who_may_search(small):
    assert status_of_head(small, "/indexes/idx_1/image-search", 1000, "sk_live_" + "0" * 48) == 401


def test_media_that_last_too_long_are_refused(small, someone, tmp_path):
    write_film(tmp_path / "long.mp4", plain(["red"], 8), 1)
    error = assert_error(someone.upload(tmp_path / "long.mp4"), 413, "media_too_large")
    assert error["message"].startswith("long.mp4: ")
    assert nothing_is_left(small)


def test_a_form_without_file_or_title_is_refused(someone, api_media):
    assert_error(someone.post("/videos/upload", data={"title": "t"}), 422, "validation_failed")
    with (api_media / "c.png").open("rb") as file:
        assert_error(someone.post("/videos/upload", files={"file": ("c.png", file)}), 422, "validation_failed")
    assert_error(someone.upload(api_media / "c.png", title="t" * 256), 422, "validation_failed")
    assert_error(someone.upload(api_media / "c.png", index_id="idx_none"), 404, "resource_index_not_found")


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd.png", "/etc/c.png", "c.p/n\\g", "c.png\r\nX: y", "ü" * 200 + ".png"]
)
def test_a_file_name_decides_nothing_about_the_place(small, someone, api_media, name):
    content = (api_media / "c.png").read_bytes()
    response = someone.post("/videos/upload", data={"title": "t"}, files={"file": (name, content)})
    video_id = ok_json(response, 201)["video_id"]
    assert [path.split("/")[:2] for path in small.uploads()] == [["uploads", video_id]]
    ok_json(someone.delete(f"/videos/{video_id}"))
    assert nothing_is_left(small)


# ------------------------------------------------------------------------------------------------ registered files


def register(caller, uri, title="t"):
    return caller.post("/videos", {"title": title, "video_uri": uri})


def test_a_file_under_an_allowed_folder_is_used_where_it_lies(small, someone, api_media):
    path = small.config.media_roots[0] / "a film.mp4"
    path.write_bytes((api_media / "a.mp4").read_bytes())
    body = ok_json(register(someone, path.as_uri()), 201)
    assert (body["source_kind"], body["video_uri"]) == ("file", path.as_uri())
    assert nothing_is_left(small)
    ok_json(someone.delete(f"/videos/{body['video_id']}"))
    assert path.exists()  # it is not ours


def test_files_outside_the_allowed_folders_cannot_be_reached(small, someone, api_media, tmp_path):
    root = small.config.media_roots[0]
    outside = tmp_path / "secret.mp4"
    outside.write_bytes((api_media / "a.mp4").read_bytes())
    (root / "link.mp4").symlink_to(outside)
    (root / "folder").symlink_to(tmp_path)
    (root / "dangling.mp4").symlink_to(tmp_path / "none")
    (root.parent / "media-of-others").mkdir(exist_ok=True)
    (root.parent / "media-of-others" / "a.mp4").write_bytes(outside.read_bytes())
    tried = [
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
    messages = {assert_error(register(someone, uri), 422, "media_uri_refused")["message"] for uri in tried}
    assert len(messages) == 1  # whether a file is there is not told
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
def test_buckets_that_are_not_allowed_and_addresses_that_are_none_are_refused(someone, uri):
    assert_error(register(someone, uri), 422, "validation_failed")
