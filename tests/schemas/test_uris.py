"""The public form of URIs, and the removal of their secrets from messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptreel.schemas.errors import InvalidInput
from promptreel.schemas.uris import display_name, local_path_of, public_uri, redact


@pytest.mark.parametrize(
    ("uri", "public"),
    [
        ("https://host/a/film.mp4?X-Amz-Signature=x", "https://host/a/film.mp4"),
        ("https://me:pass@host:8443/film.mp4?sig=x#t=1", "https://host:8443/film.mp4"),
        ("https://me:p@ss@host/film.mp4", "https://host/film.mp4"),
        ("HTTPS://token@host/scan.tif?sig=x#page=3", "HTTPS://host/scan.tif#page=3"),
        ("https://host/scan.tif#page=3?sig=x", "https://host/scan.tif"),
        ("https://host?token=x", "https://host"),
        ("https://host/a%20b/é film.mp4", "https://host/a%20b/é film.mp4"),
        ("http://me:pass@[::1]:80/film.mp4", "http://[::1]:80/film.mp4"),
        ("https://me:pass@[broken/film.mp4?sig=x", "https://[broken/film.mp4"),
        ("https://me:pa/ss@host/film.mp4?sig=x", "https://me"),
        ("https://me:pa?ss@host/film.mp4", "https://me"),
        ("https://me:pa#ss@host/film.mp4", "https://me"),
        ("sftp://me:pass@host/film.mp4", "sftp://host/film.mp4"),
        ("ftp://me:pass@host/what?.mp4", "ftp://host/what"),
        ("gs://bucket/what?.mp4", "gs://bucket/what?.mp4"),
        ("gs://bucket/a#b.mp4", "gs://bucket/a#b.mp4"),
        ("s3://bucket/film.mp4?X-Amz-Signature=x", "s3://bucket/film.mp4"),
        ("s3://key:pass@bucket/film.mp4", "s3://bucket/film.mp4"),
        ("gs://bucket/me@home/film.mp4", "gs://bucket/me@home/film.mp4"),
        ("file:///films/a?b#c.mp4", "file:///films/a?b#c.mp4"),
        ("/films/a?token=b.mp4", "/films/a?token=b.mp4"),
        ("C:/films/a.mp4", "C:/films/a.mp4"),
    ],
)
def test_public_form_has_no_userinfo_query_or_fragment(uri, public):
    assert public_uri(uri) == public
    assert public_uri(public) == public


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("https://host/a%20film%20%C3%A9.mp4?sig=x", "a film é.mp4"),
        ("https://me:pass@host/films/?sig=x", "films"),
        ("https://me:pass@host?token=x", "host"),
        ("https://host/scan.tif?sig=x#page=2", "scan.tif#page=2"),
        ("https://host/a%2Fb.mp4", "a/b.mp4"),
        ("https://host/%ff.mp4", "\ufffd.mp4"),
        ("gs://bucket/media/a.mp4", "a.mp4"),
        ("gs://bucket/media/a%20b.mp4", "a%20b.mp4"),
    ],
)
def test_display_name_is_the_decoded_last_part(uri, name):
    assert display_name(uri) == name


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///films/a%20b.mp4", "/films/a b.mp4"),
        ("file:///films/%C3%A9.mp4", "/films/é.mp4"),
        ("file:///films/é.mp4", "/films/é.mp4"),
        ("file:///films/%ff.mp4", "/films/\udcff.mp4"),
        ("file://localhost/films/a.mp4", "/films/a.mp4"),
        ("FILE://LOCALHOST/films/a.mp4", "/films/a.mp4"),
        ("file:///films/a?b#c.mp4", "/films/a?b#c.mp4"),
        ("file:///films/a+b.mp4", "/films/a+b.mp4"),
    ],
)
def test_file_uri_is_decoded(uri, path):
    assert local_path_of(uri) == path


@pytest.mark.parametrize("uri", ["file://server/share/a.mp4", "file://films/a.mp4", "file://"])
def test_file_uri_of_another_host_is_rejected(uri):
    with pytest.raises(InvalidInput, match="must have the form file:///absolute/path"):
        local_path_of(uri)


def test_redaction_covers_raw_decoded_and_reencoded_secrets():
    uri = "https://me:p%40ss%2Fword@host/film.mp4?X-Amz-Signature=ab%2Fcd%3D%3D&token=t0k3n&v=1#page=2"
    for text in (
        f"404 for {uri}",
        f"404, message='Not Found', url={uri!r}",
        "GET /film.mp4?X-Amz-Signature=ab%2Fcd%3D%3D&token=t0k3n&v=1 failed",
        "signature ab/cd== rejected for p@ss/word",
        "https://host/film.mp4?X-Amz-Signature=ab/cd==&token=t0k3n moved to https://cdn/x?token=0ther",
        "see me:p%40ss%2Fword@host",
    ):
        redacted = redact(text, uri)
        for secret in ("ab%2Fcd", "ab/cd", "t0k3n", "p%40ss", "p@ss", "0ther"):
            assert secret not in redacted, (text, redacted)
    assert redact("cannot connect to host:443 [version 1]", uri) == "cannot connect to host:443 [version 1]"


WORD = st.text(st.characters(codec="utf-8", exclude_characters="/?#@[]"), min_size=12, max_size=20)


@given(WORD, WORD)
def test_no_generated_secret_survives(password, token):
    from urllib.parse import quote

    uri = f"https://user:{quote(password, safe='')}@host/film.mp4?sig={quote(token, safe='')}"
    text = f"{uri}; {uri!r}; {quote(token, safe='')}; {token}; {password}"
    for secret in (password, token, quote(password, safe=""), quote(token, safe="")):
        assert secret not in redact(text, uri)
    assert public_uri(uri) == "https://host/film.mp4"
