"""The page that adds media, in a real browser and request by request."""

import socket

import pytest

from tests.api_server import ApiServer, ok_json
from tests.pipeline_runs import wait_for
from tests.site.browser import WIDTHS, Visitor, check_page
from tests.site.page_calls import PageClient

pytest_plugins = ["tests.api_fixtures", "tests.site.browser_fixtures"]

HOSTILE = "<img src=x onerror=alert(1)>.png"
LIMIT = 200_000


@pytest.fixture(scope="module")
def limited_server(tmp_path_factory):
    """A server with a small limit of uploads, and a folder of media to register."""
    folder = tmp_path_factory.mktemp("limits")
    (folder / "media").mkdir()
    with ApiServer(folder / "data", supervise=False, max_upload_bytes=LIMIT, media_roots=(folder / "media",)) as server:
        yield server


@pytest.fixture
def someone(limited_server):
    return limited_server.caller()


@pytest.fixture
def client(limited_server, someone):
    return PageClient(limited_server.base_url, someone.key)


def is_empty(server, caller):
    """Whether nothing was stored for a caller, and nothing is left of what it sent."""
    return not ok_json(caller.get("/playground/videos"))["data"] and not list((server.data / "tmp").glob("*"))


@pytest.mark.parametrize("width", WIDTHS)
def test_files_are_uploaded_to_an_index(visit, caller, api_media, width):
    index_id = caller.index()
    visitor = visit(width, key=caller.key)
    page = check_page(visitor, f"/upload?index={index_id}")
    page.get_by_label("Videos, audio files and images").set_input_files([api_media / "a.mp4", api_media / "c.png"])
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url("**added=vid_**")
    page = check_page(visitor, page.url)
    assert page.locator(".outcomes .status").all_inner_texts() == ["added", "added"]
    assert "video, 0:03.00" in page.inner_text(".outcomes")
    assert page.locator("#index").input_value() == index_id
    media = ok_json(caller.get(f"/indexes/{index_id}/videos"))["data"]
    assert sorted(item["title"] for item in media) == ["a.mp4", "c.png"]
    page.get_by_role("link", name="a.mp4").click()
    page.wait_for_url(f"**/indexes/{index_id}")
    assert not visitor.problems


def test_every_file_has_its_own_outcome(visit, caller, api_media):
    files = [
        {"name": HOSTILE, "mimeType": "image/png", "buffer": (api_media / "c.png").read_bytes()},
        {"name": "notes.mp4", "mimeType": "video/mp4", "buffer": b"this is no film"},
        {"name": "empty.mp4", "mimeType": "video/mp4", "buffer": b""},
    ]
    visitor = visit(key=caller.key)
    page = visitor.open("/upload")
    page.get_by_label("Title").first.fill("take")
    page.get_by_label("Videos, audio files and images").set_input_files(files)
    page.get_by_role("button", name="Upload").click()
    page.get_by_role("heading", name="Some files were rejected").wait_for()
    outcomes = page.locator(".outcomes li").all_inner_texts()
    assert HOSTILE in outcomes[0]
    assert "added" in outcomes[0]
    assert "rejected media_unsupported" in outcomes[1]
    assert "rejected media_empty" in outcomes[2]
    assert page.locator("main img").count() == 0
    assert page.get_by_label("Title").first.input_value() == "take"
    (item,) = ok_json(caller.get("/playground/videos"))["data"]
    assert item["title"] == f"take {HOSTILE}"
    visitor.problems.clear()  # Chromium notes the status 422
    page = check_page(visitor, "/indexes/playground")
    assert page.locator(".tile .name").inner_text() == f"take {HOSTILE}"


def test_one_file_gets_the_title(limited_server, someone, client, api_media):
    assert client.upload(("c.png", (api_media / "c.png").read_bytes()), title="dock").status_code == 303
    (item,) = ok_json(someone.get("/playground/videos"))["data"]
    assert item["title"] == "dock"


@pytest.mark.parametrize("name", ["../../etc/c.png", "C:\\films\\c.png", "c\x01.png", "ü" * 400 + ".png"])
def test_file_names_are_only_titles(limited_server, someone, client, api_media, name):
    response = client.upload((name, (api_media / "c.png").read_bytes()))
    assert response.status_code == 303, response.text
    (item,) = ok_json(someone.get("/playground/videos"))["data"]
    assert item["title"]
    assert not set(item["title"]) & set("/\\\x01")
    assert len(item["title"]) <= 255
    assert not list(limited_server.data.parent.glob("etc"))


def test_file_without_a_name_is_stored(someone, client, api_media):
    token = part('name="form_token"', client.token.encode())
    file = part('name="files"; filename=""', (api_media / "c.png").read_bytes())
    assert post_raw(client, token + file + b"--b--\r\n").status_code == 303
    assert ok_json(someone.get("/playground/videos"))["data"][0]["title"] == "file"


def test_upload_without_a_file_is_explained(client):
    token = part('name="form_token"', client.token.encode())  # what a browser sends
    response = post_raw(client, token + part('name="files"; filename=""', b"") + b"--b--\r\n")
    assert response.status_code == 422
    assert "choose at least one file" in response.text


@pytest.mark.parametrize("token", ["", "x", "other"])
def test_upload_without_its_token_stores_nothing(limited_server, someone, client, api_media, token):
    if token == "other":
        token = PageClient(limited_server.base_url, limited_server.caller().key).token
    response = client.upload(("c.png", (api_media / "c.png").read_bytes()), token=token)
    assert response.status_code == 403
    assert "form_rejected" in response.text
    assert is_empty(limited_server, someone)


def test_token_after_the_files_is_too_late(limited_server, someone, client, api_media):
    content = (api_media / "c.png").read_bytes()
    body = (
        part('name="files"; filename="c.png"', content)
        + part('name="form_token"', client.token.encode())
        + b"--b--\r\n"
    )
    assert post_raw(client, body).status_code == 403
    assert is_empty(limited_server, someone)


def part(disposition, content):
    return b"--b\r\nContent-Disposition: form-data; " + disposition.encode() + b"\r\n\r\n" + content + b"\r\n"


def post_raw(client, body, content_type="multipart/form-data; boundary=b"):
    return client.http.post("/upload", content=body, headers={"Content-Type": content_type})


def test_malformed_forms_are_rejected(limited_server, someone, client, api_media):
    content = (api_media / "c.png").read_bytes()
    token = part('name="form_token"', client.token.encode())
    file = part('name="files"; filename="c.png"', content)
    cases = [
        (token + file, "multipart/form-data; boundary=b", 400),  # without an end
        (b"", "multipart/form-data; boundary=b", 400),
        (b"nothing", "multipart/form-data; boundary=b", 400),
        (token + file + b"--b--\r\n", "multipart/form-data", 400),
        (b"form_token=x", "application/x-www-form-urlencoded", 400),
        (
            token + part(f'name="title"; x="{"y" * 10_000}"', b"x") + b"--b--\r\n",
            "multipart/form-data; boundary=b",
            400,
        ),
        (token * 130 + b"--b--\r\n", "multipart/form-data; boundary=b", 422),
        (token + part('name="title"', b"x" * 20_000) + file + b"--b--\r\n", "multipart/form-data; boundary=b", 422),
        (
            token + part('name="files"; filename="c.png"', b"x") * 101 + b"--b--\r\n",
            "multipart/form-data; boundary=b",
            422,
        ),
    ]
    for body, content_type, status in cases:
        response = post_raw(client, body, content_type)
        assert response.status_code == status, (body[-60:], response.text)
    assert is_empty(limited_server, someone)


def test_interrupted_upload_leaves_nothing(limited_server, someone, client):
    head = f"POST /upload HTTP/1.1\r\nHost: x\r\nCookie: {client.cookie()}\r\nContent-Length: 100000\r\n"
    head += "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    start = part('name="form_token"', client.token.encode()) + part('name="files"; filename="a.mp4"', b"\0" * 20_000)
    port = int(limited_server.base_url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head.encode() + start)
        wait_for(lambda: any(path.stat().st_size for path in (limited_server.data / "tmp").glob("*/file-0")), 30)
    wait_for(lambda: is_empty(limited_server, someone), 30)


def test_unknown_index_is_rejected_before_the_files(limited_server, someone, client, api_media):
    response = client.upload(("c.png", (api_media / "c.png").read_bytes()), index="idx_0")
    assert response.status_code == 404
    assert is_empty(limited_server, someone)


def test_upload_beyond_the_limit_is_rejected(limited_server, someone, client):
    response = client.upload(("big.mp4", b"\0" * (LIMIT + (2 << 20))))
    assert response.status_code == 413
    assert "media_too_large" in response.text
    assert is_empty(limited_server, someone)


def test_uploads_are_not_spooled(client, api_media, monkeypatch):
    """The server runs in this process. Starlette would copy each file to the temporary folder first."""

    def spool(*arguments, **options):
        raise AssertionError("a file was spooled")

    monkeypatch.setattr("starlette.formparsers.SpooledTemporaryFile", spool)
    assert client.upload(("c.png", (api_media / "c.png").read_bytes())).status_code == 303


@pytest.mark.parametrize(
    ("scope", "headers", "status"),
    [
        ("write", "Sec-Fetch-Site: cross-site\r\n", 403),
        ("write", "Origin: https://evil.example\r\n", 403),
        ("read", "", 403),
    ],
)
def test_upload_is_rejected_before_its_body(limited_server, scope, headers, status):
    client = PageClient(limited_server.base_url, limited_server.caller(scope).key)
    head = f"POST /upload HTTP/1.1\r\nHost: x\r\nCookie: {client.cookie()}\r\nContent-Length: 1000\r\n"
    head += f"{headers}Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    port = int(limited_server.base_url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(f"HTTP/1.1 {status} ".encode())


def test_reader_has_no_page_of_uploads(visit, service, world):
    reader = service.caller("read", account_id=world.caller.account_id)
    page = visit(key=reader.key).page
    assert page.get_by_role("link", name="Upload").count() == 0
    assert page.goto("/upload").status == 403


def test_file_is_registered_by_its_address(limited_server, someone, client, api_media):
    film = limited_server.config.media_roots[0] / "the film.mp4"
    film.write_bytes((api_media / "a.mp4").read_bytes())
    index_id = someone.index()
    response = client.post("/upload/uri", {"uri": film.as_uri(), "index": index_id})
    assert response.status_code == 303
    (item,) = ok_json(someone.get(f"/indexes/{index_id}/videos"))["data"]
    assert item["title"] == "the film.mp4"
    assert item["video_id"] in response.headers["location"]


def test_rejected_address_is_explained(browser, limited_server, someone):
    visitor = Visitor(browser, limited_server.base_url).sign_in(someone.key)
    for uri, reason in (
        ("file:///etc/passwd", "may read"),
        ("ftp://x/y", "https://"),
        ("https://127.0.0.1/x.mp4", "public"),
        ("https://[", "not a valid URI"),
    ):
        page = visitor.open("/upload")
        page.get_by_label("https:// address").fill(uri)
        page.get_by_label("Title (optional)", exact=True).fill(HOSTILE)
        page.get_by_role("button", name="Register").click()
        assert reason in page.get_by_role("alert").inner_text()
        assert page.get_by_label("https:// address").input_value() == uri
        assert page.get_by_label("Title (optional)", exact=True).input_value() == HOSTILE
    visitor.close()


def test_media_of_others_are_not_shown_as_added(visit, caller, world):
    page = visit(key=caller.key).open(f"/upload?added={world.video_id}")
    assert page.locator(".outcomes").count() == 0
