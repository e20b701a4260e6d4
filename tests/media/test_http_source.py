"""Fetch media over HTTP from a local server: redirects, retries, changes, and errors without secrets."""

import random

import pytest

from promptreel.media import http_source
from promptreel.media.source import local_media
from promptreel.schemas.errors import MediaError
from tests.http_files import Change, CutOff, FileServer, Hang, Status

CONTENT = random.Random(1).randbytes(3_000_000)
SECRET = "s3cr3t-0f-thé-signature"
QUERY = "X-Amz-Signature=s3cr3t-0f-th%C3%A9-signature&response=a%2Fb"


@pytest.fixture
def server():
    with FileServer({"/film.mp4": CONTENT}) as running:
        yield running


@pytest.fixture(autouse=True)
def no_delays(monkeypatch):
    monkeypatch.setattr(http_source, "RETRY_DELAYS_S", (0.0, 0.0, 0.0))


def content_of(uri):
    with local_media(uri) as path:
        content = path.read_bytes()
    assert not path.exists()
    return content


def error_of(uri):
    with pytest.raises(MediaError) as raised, local_media(uri):
        pass
    assert raised.value.__cause__ is None  # a traceback would print the causes, which name the URL
    assert raised.value.__suppress_context__
    return raised.value


def test_query_reaches_server_unchanged(server):
    assert content_of(server.url(f"/film.mp4?{QUERY}#frame")) == CONTENT
    assert [target for target, _ in server.requests] == [f"/film.mp4?{QUERY}"]


def test_unescaped_url_is_escaped(server):
    server.files["/a%20film%20%C3%A9.mp4"] = b"content"
    assert content_of(server.url("/a film é.mp4")) == b"content"
    assert content_of(server.url("/a%20film%20%C3%A9.mp4")) == b"content"


def test_scheme_in_capitals_is_fetched(server):
    assert content_of(server.url("/film.mp4").replace("http", "HTTP")) == CONTENT


def test_password_in_url_becomes_basic_authorization(server):
    server.passwords["/film.mp4"] = "me@home:p@ss/wörd"
    assert content_of(server.url("/film.mp4", "me%40home:p%40ss%2Fw%C3%B6rd@")) == CONTENT
    error = error_of(server.url("/film.mp4", "me:wr0ng-passw0rd@"))
    assert "401" in error.message
    assert "wr0ng" not in error.message


def test_password_is_not_sent_to_another_host_after_redirect(server):
    server.passwords["/film.mp4"] = "me:password"
    with FileServer({"/elsewhere": b"content", "/here": b"content"}) as other:
        server.script["/film.mp4"] = [Status(302, {"Location": other.url("/elsewhere")})]
        assert content_of(server.url("/film.mp4", "me:password@")) == b"content"
        assert [headers.get("authorization") for _, headers in other.requests] == [None]
    server.script["/film.mp4"] = [Status(302, {"Location": "/film.mp4?2"})]
    assert content_of(server.url("/film.mp4", "me:password@")) == CONTENT


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirect_is_followed(server, code):
    server.script["/old"] = [Status(code, {"Location": f"/film.mp4?{QUERY}"})]
    assert content_of(server.url("/old")) == CONTENT


@pytest.mark.parametrize("location", ["/loop", "file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x", "http://["])
def test_redirect_that_leads_nowhere_is_an_error(server, location):
    server.script["/loop"] = [Status(302, {"Location": location})] * 100
    error = error_of(server.url(f"/loop?{QUERY}"))
    assert (error.code, error.retryable) == ("media_not_found", True)
    assert error.message.startswith(f"{server.url('/loop')}: cannot be fetched (")
    assert "passwd" not in error.message


@pytest.mark.parametrize("failure", [Status(500), Status(503, {"Retry-After": "0"}), Status(429), CutOff(0), Hang(0.4)])
def test_temporary_failure_is_retried(server, monkeypatch, failure):
    monkeypatch.setattr(http_source, "TIMEOUT_S", 0.2)
    server.script["/film.mp4"] = [failure, failure]
    assert content_of(server.url("/film.mp4")) == CONTENT
    assert len(server.requests) == 3


@pytest.mark.parametrize(("code", "words"), [(404, "404 Not Found"), (410, "410 Gone"), (400, "400 Bad Request")])
def test_permanent_failure_is_not_retried(server, code, words):
    server.script["/film.mp4"] = [Status(code)] * 5
    error = error_of(server.url(f"/film.mp4?{QUERY}"))
    assert f"(the server responded {words}); check the URI" in error.message
    assert len(server.requests) == 1


def test_expired_signature_names_the_way_out(server):
    server.script["/film.mp4"] = [Status(403)] * 5
    error = error_of(server.url(f"/film.mp4?{QUERY}"))
    assert "if it is a signed URL that has expired, start a run with a new one" in error.message
    assert SECRET not in error.message
    assert QUERY not in error.message


@pytest.mark.parametrize("failure", [Status(500), CutOff(1000), Hang(0.4)])
def test_lasting_failure_is_retryable_after_four_attempts(server, monkeypatch, failure):
    monkeypatch.setattr(http_source, "TIMEOUT_S", 0.2)
    server.has_ranges = False
    server.script["/film.mp4"] = [failure] * 100
    error = error_of(server.url(f"/film.mp4?{QUERY}"))
    assert (error.code, error.retryable) == ("media_not_found", True)
    assert "after 4 attempts" in error.message
    assert len(server.requests) == 4


def test_interrupted_download_continues_where_it_stopped(server):
    server.script["/film.mp4"] = [CutOff(1_000_000), CutOff(1_000_000)]
    assert content_of(server.url("/film.mp4")) == CONTENT
    starts = [int(headers.get("range", "bytes=0-")[6:-1]) for _, headers in server.requests]
    assert starts[0] == 0 < starts[1] < starts[2]


@pytest.mark.parametrize(("has_ranges", "has_etags"), [(False, True), (True, False), (False, False)])
def test_download_restarts_without_ranges_or_etags(server, has_ranges, has_etags):
    server.has_ranges, server.has_etags = has_ranges, has_etags
    server.script["/film.mp4"] = [CutOff(1_000_000)]
    assert content_of(server.url("/film.mp4")) == CONTENT


def test_file_that_changes_during_download_is_never_a_mixture(server):
    changed = CONTENT[::-1]
    server.script["/film.mp4"] = [CutOff(1_000_000), Change(changed)]
    assert content_of(server.url("/film.mp4")) == changed
    server.script["/film.mp4"] = [CutOff(2_000_000), Change(CONTENT[:500_000])]
    assert content_of(server.url("/film.mp4")) == CONTENT[:500_000]


@pytest.mark.parametrize(
    "uri", ["http://", "http://:80/x", "http://127.0.0.1:99999/x", "http://[::1/x", "https://a\nb/"]
)
def test_invalid_url_is_an_error(uri):
    assert "cannot be fetched" in error_of(uri).message


def test_refused_connection_and_unknown_host_are_errors():
    with FileServer() as stopped:
        uri = stopped.url(f"/x?{QUERY}", f"me:{SECRET}@")
    for url in (uri, f"https://no-such-host.invalid/x?{QUERY}"):
        error = error_of(url)
        assert SECRET not in error.message
        assert "s3cr3t" not in error.message


def test_error_of_an_fsspec_driver_is_an_item_failure_without_secrets(monkeypatch):
    class DriverError(Exception):  # drivers raise errors of their own
        pass

    def fail(uri):
        raise DriverError(f"cannot list {uri}, signed {SECRET}")

    monkeypatch.setattr("fsspec.core.url_to_fs", fail)
    error = error_of(f"sftp://me:{SECRET}@host/film.mp4")
    assert error.code == "media_not_found"
    assert error.message.startswith("sftp://host/film.mp4: cannot be fetched (cannot list sftp://host/film.mp4, ")
    assert SECRET not in error.message
