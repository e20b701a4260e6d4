"""`promptreel run` over URLs: what is fetched, and that no secret of a URL is stored or printed."""

import json
import subprocess
import sys
from urllib.parse import quote

import duckdb
import pytest

from promptreel.media.source import local_media
from promptreel.tables.layout import is_private
from promptreel.tables.request import read_request, read_target
from promptreel.tables.storage import open_storage
from tests.cli.in_process import FIXED_SEGMENTS, invoke
from tests.http_files import Change, FileServer, Status
from tests.pipeline_runs import make_image, promptreel

SIGNATURE, PASSWORD, TOKEN = "s1gnature-0f-nobody", "passw0rd-0f-nobody", "t0ken-0f-nobody"
SECRETS = (SIGNATURE, PASSWORD, TOKEN)


@pytest.fixture
def server(media):
    with FileServer({"/a%20film.mp4": (media / "a film.mp4").read_bytes()}) as running:
        running.files["/c.png"] = running.files["/copy.png"] = (media / "c.png").read_bytes()
        running.files["/broken.mp4"] = (media / "d.mp4").read_bytes()
        running.files["/empty.mp4"] = b""
        running.script["/denied.mp4"] = [Status(403)] * 100
        yield running


def secret_urls(server):
    """URLs with secrets: readable, twice the same bytes, unreadable, empty, missing, forbidden, and of an unknown scheme."""
    return [
        server.url(f"/a%20film.mp4?X-Amz-Signature={SIGNATURE}&X-Amz-Date=1", f"me:{PASSWORD}@"),
        *(server.url(f"/{name}?token={TOKEN}") for name in ("c.png", "copy.png", "broken.mp4", "empty.mp4")),
        server.url(f"/missing.mp4?sig={SIGNATURE}", f"{TOKEN}@"),
        server.url(f"/denied.mp4?X-Goog-Signature={SIGNATURE}"),
        f"nosuch://me:{PASSWORD}@host/film.mp4?sig={SIGNATURE}",
    ]


def files_with_secrets(data):
    """The names of the files in a data folder that contain a secret, also within Parquet columns."""
    found = []
    for path in sorted(data.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if path.suffix == ".parquet":
                content += repr(duckdb.sql(f"FROM read_parquet('{path}')").fetchall()).encode()
            if any(secret.encode() in content for secret in SECRETS):
                found.append(path.relative_to(data).as_posix())
    return found


def test_no_secret_of_a_url_is_stored_or_printed(server, tmp_path):
    data = tmp_path / "data"
    words = [*FIXED_SEGMENTS, "--model", "signals", "--data-dir", data]
    code, out, err = promptreel("run", *secret_urls(server), *words, "--json")
    assert code == 3, err
    run_id = json.loads(out)["run_id"]
    printed = [out, err]
    for command in (
        ["estimate", *secret_urls(server), *words],
        ["run", "--resume", run_id, *secret_urls(server), "--data-dir", data],
        ["run", "--resume", run_id, "--data-dir", data],
        ["runs", "--data-dir", data],
        ["results", run_id, "--data-dir", data],
        ["failures", run_id, "--data-dir", data],
        ["sql", "SELECT * FROM media", "--data-dir", data],
    ):
        printed += [str(part) for part in promptreel(*command)[1:]]
    assert [name for name in files_with_secrets(data) if not is_private(name)] == []
    assert not [text for text in printed if any(secret in text for secret in SECRETS)]
    parts = f"{data}/runs/{run_id}/tables/media/*.parquet"
    media = duckdb.sql(f"SELECT DISTINCT video_id FROM read_parquet('{parts}')").fetchall()
    assert len(media) == 7  # two of the eight have the same bytes
    request = read_request(open_storage(str(data)), run_id)
    assert request.target[0] == server.url("/a%20film.mp4")


def test_full_urls_are_stored_in_a_private_file_only(server, tmp_path):
    data = tmp_path / "data"
    url = server.url(f"/c.png?token={TOKEN}")
    code, out, err = promptreel("run", url, "--model", "signals", "--data-dir", data, "--json")
    assert code == 0, err
    (name,) = files_with_secrets(data)
    assert is_private(name)
    assert (data / name).stat().st_mode & 0o777 == 0o600
    assert [item.uri for item in read_target(open_storage(str(data)), json.loads(out)["run_id"])] == [url]


def test_url_runs_without_optional_packages(server, tmp_path):
    program = (
        "import sys; sys.modules.update({name: None for name in ('aiohttp', 'requests')}); "
        "from promptreel.cli.main import main; main()"
    )
    url = server.url("/a%20film.mp4")
    words = ["estimate", url, *FIXED_SEGMENTS, "--model", "signals", "--data-dir", tmp_path / "data", "--json"]
    command = [sys.executable, "-c", program, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (item,) = json.loads(done.stdout)["details"]
    assert (item["error"], item["name"], item["segments"]) == (None, "a film.mp4", [2, 2])


def test_new_signature_of_the_same_file_reuses_finished_work(server, tmp_path):
    data = tmp_path / "data"
    words = ["--model", "signals", "--data-dir", data, "--json"]
    summaries = []
    for signature in ("first", "second"):
        code, out, err = promptreel("run", server.url(f"/c.png?X-Amz-Signature={signature}"), *words)
        assert code == 0, err
        summaries.append(json.loads(out))
    ids = [
        duckdb.sql(f"SELECT segment_id FROM read_parquet('{data}/runs/{summary['run_id']}/tables/results/*.parquet')")
        for summary in summaries
    ]
    assert ids[0].fetchall() == ids[1].fetchall()
    assert len(list((data / "cache" / "analysis").glob("*/*"))) == 1


def test_file_that_changes_between_reads_fails_the_item(server, tmp_path, media):
    data = tmp_path / "data"
    server.script["/c.png"] = [None, Change(make_image(tmp_path / "other.png").read_bytes() + b"more")]
    code, out, _ = promptreel("run", server.url("/c.png"), "--model", "signals", "--data-dir", data, "--json")
    assert code == 1
    _, failures, _ = promptreel("failures", json.loads(out)["run_id"], "--data-dir", data, "--json")
    (failure,) = json.loads(failures)
    assert (failure["code"], failure["retryable"]) == ("media_not_found", True)
    assert "changed while the run read it" in failure["message"]
    assert not list((data / "cache" / "analysis").glob("*/*"))


@pytest.mark.parametrize("form", ["file://{}", "file://localhost{}"])
@pytest.mark.parametrize("name", ["a film 100%.png", "bücher.png", "a?b#c.png"])
def test_file_uri_is_decoded(tmp_path, media, form, name):
    path = tmp_path / name
    path.write_bytes((media / "c.png").read_bytes())
    uri = form.format(quote(str(path)))
    with local_media(uri) as found:
        assert found == path
    code, out, err = invoke("estimate", uri, "--model", "signals", "--data-dir", tmp_path / "data", "--json")
    assert code == 0, err
    (item,) = json.loads(out)["details"]
    assert (item["error"], item["name"]) == (None, name)


def test_file_uri_of_a_folder_or_page_is_expanded(tmp_path, media):
    folder = tmp_path / "my media"
    folder.mkdir()
    (folder / "c.png").write_bytes((media / "c.png").read_bytes())
    code, out, err = invoke("estimate", folder.as_uri(), "--model", "signals", "--data-dir", tmp_path / "d", "--json")
    assert code == 0, err
    assert [item["name"] for item in json.loads(out)["details"]] == ["c.png"]


@pytest.mark.parametrize("uri", ["file://server/share/a.mp4", "file://a.mp4"])
def test_file_uri_of_another_host_exits_with_2(tmp_path, uri):
    code, _, err = invoke("estimate", uri, "--model", "signals", "--data-dir", tmp_path / "data")
    assert code == 2
    assert f"{uri}: must have the form file:///absolute/path" in err
