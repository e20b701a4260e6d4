"""`promptreel open`: pages for the user of this machine, without a key."""

import json
import re
import shutil
import signal
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from promptreel.api.web.one_time_link import LIFETIME_S, OneTimeLink
from promptreel.api.web.session import SESSION_COOKIE
from tests.api_server import ApiServer
from tests.cli.in_process import FIXED_SEGMENTS, invoke
from tests.pipeline_runs import make_video, promptreel, start_promptreel, wait_for
from tests.site.browser import Visitor, check_page

pytest_plugins = ["tests.site.browser_fixtures"]


@pytest.fixture(scope="module")
def film_run(tmp_path_factory):
    """(data folder, run id, film) of a run over one film."""
    folder = tmp_path_factory.mktemp("open")
    film = make_video(folder / "media" / "a film.mp4", 4)
    words = [film, *FIXED_SEGMENTS, "--data-dir", folder / "data", "--model", "signals", "--json"]
    code, out, err = promptreel("run", *words)
    assert code == 0, err
    return folder / "data", json.loads(out)["run_id"], film


@pytest.fixture
def data(film_run, tmp_path):
    """A copy of the data folder of `film_run` without a database."""
    return shutil.copytree(film_run[0], tmp_path / "data")


class Opened:
    """A running `promptreel open`.

    Attributes:
        link: the printed link.
    """

    def __init__(self, *words, **options):
        self.process = start_promptreel("open", *words, **options)
        self.link = self.process.stdout.readline().strip()
        assert self.link, self.process.communicate(timeout=60)[1]
        self.base_url = "http://" + urlsplit(self.link).netloc

    def end(self, number=signal.SIGINT):
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@contextmanager
def opened(*words, **options):
    """Run `promptreel open` without a browser during the block."""
    running = Opened(*words, "--no-browser", **options)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.end()


def film_url(client, run_id):
    """Return the URL of the item's page and of its film."""
    (item,) = set(re.findall(r"/runs/[^/\"]+/items/[^/\"?]+", client.get(f"/runs/{run_id}").text))
    page = client.get(item).text
    found = re.search(r'<video id="player" src="([^"]+)"', page)
    return item, found and found[1].replace("&amp;", "&")


def test_link_leads_to_the_run_once(film_run, data):
    _, run_id, film = film_run
    with opened(run_id, "--data-dir", data) as running, httpx.Client(base_url=running.base_url) as client:
        assert client.get("/runs").headers["location"].startswith("/sign-in")
        assert client.get("/open/" + "x" * 43).status_code == 403
        response = client.get(running.link)
        assert (response.status_code, response.headers["location"]) == (303, f"/runs/{run_id}")
        cookie = response.headers["set-cookie"].lower()
        assert all(part in cookie for part in ("httponly", "samesite=strict"))
        assert client.get(f"/runs/{run_id}").status_code == 200
        assert f"/runs/{run_id}" in client.get("/runs").text
        again = httpx.get(running.link)
        assert (again.status_code, SESSION_COOKIE in str(again.headers)) == (403, False)
        _, content = film_url(client, run_id)
        part = client.get(content, headers={"Range": "bytes=0-99"})
        assert (part.status_code, part.content) == (206, film.read_bytes()[:100])
        assert client.get("/api/v2/prompt-runs").status_code == 401  # the API takes no session


def test_other_host_names_are_rejected(film_run, data):
    with opened("--data-dir", data) as running:
        port = urlsplit(running.base_url).port
        assert running.base_url == f"http://127.0.0.1:{port}"
        for host in (f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", f"0.0.0.0:{port}", ""):
            assert httpx.get(running.link, headers={"Host": host}).status_code in (400, 421), host
        assert httpx.get(running.base_url + "/runs", headers={"Host": f"localhost:{port}"}).status_code == 303
        assert httpx.get(running.link).headers["location"] == "/runs"  # not used by the rejected requests


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_end_deletes_the_key_and_its_session(number, data):
    with opened("--data-dir", data) as running:
        code, keys, _ = invoke("keys", "list", "--json", "--data-dir", data)
        assert (code, [key["scopes"] for key in json.loads(keys)]) == (0, [["read"]])
        code, out, err = running.end(number)
    assert (code, out, "Traceback" in err) == (0, "", False)
    assert json.loads(invoke("keys", "list", "--json", "--data-dir", data)[1]) == []


def test_works_beside_a_service_in_the_same_browser(film_run, data):
    run_id = film_run[1]
    with ApiServer(data) as server:
        caller = server.caller()
        with opened(run_id, "--data-dir", data) as running, httpx.Client() as client:
            token = re.search(r'name="form_token" value="([^"]+)"', client.get(server.base_url + "/sign-in").text)[1]
            client.post(server.base_url + "/sign-in", data={"form_token": token, "api_key": caller.key})
            client.get(running.link)
            for base_url in (server.base_url, running.base_url):
                assert client.get(f"{base_url}/runs/{run_id}").status_code == 200
            client.base_url = server.base_url
            assert film_url(client, run_id)[1] is None  # outside of the folders of the service
            client.base_url = running.base_url
            assert film_url(client, run_id)[1] is not None
        assert caller.run(run_id)["status"] == "completed"


def test_new_run_appears_while_the_pages_are_open(film_run, data):
    with opened("--data-dir", data) as running, httpx.Client(base_url=running.base_url) as client:
        client.get(running.link)
        wait_for(lambda: film_run[1] in client.get("/runs").text, 30)
        code, out, _ = promptreel("run", film_run[2], "--data-dir", data, "--model", "signals", "--json")
        assert code == 0
        wait_for(lambda: json.loads(out)["run_id"] in client.get("/runs").text, 30)


def test_runs_of_other_accounts_are_not_shown(film_run, data):
    with ApiServer(data, supervise=False) as server:
        local, other = server.caller(), server.caller()
        film = other.video(film_run[2])
        theirs = other.start(other.prompt(), {"type": "videos", "video_ids": [film]})
    with ApiServer(data, local_account=local.account_id) as server:
        other.http.base_url = server.base_url + "/api/v2"
        other.wait(theirs)
    code, _, err = invoke("open", "--no-browser", "--data-dir", data)
    assert (code, "set PROMPTREEL_LOCAL_ACCOUNT" in err) == (2, True)
    environment = {"PROMPTREEL_LOCAL_ACCOUNT": local.account_id}
    code, _, err = invoke("open", theirs, "--no-browser", "--data-dir", data, env=environment)
    assert (code, f"run {theirs} belongs to account {other.account_id}" in err) == (2, True)
    with opened("--data-dir", data, env=environment) as running, httpx.Client(base_url=running.base_url) as client:
        client.get(running.link)
        wait_for(lambda: film_run[1] in client.get("/runs").text, 30)
        assert theirs not in client.get("/runs").text
        assert client.get(f"/runs/{theirs}").status_code == 404


@pytest.mark.parametrize("words", [["run_none"], ["../x"], []])
def test_missing_run_is_an_error_before_anything_is_written(words, tmp_path):
    code, out, err = invoke("open", *words, "--no-browser", "--data-dir", tmp_path / "data")
    assert (code, out, (tmp_path / "data").exists()) == (2, "", False)
    assert (words or ["no run in"])[0] in err


def test_browser_is_opened_at_the_link(data, tmp_path):
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/url.new && mv {tmp_path}/url.new {tmp_path}/url\n')
    browser.chmod(0o755)
    running = Opened("--data-dir", data, env={"BROWSER": f"{browser} %s"})
    try:
        wait_for((tmp_path / "url").exists, 30)
        assert (tmp_path / "url").read_text() == running.link
    finally:
        running.end()


def test_link_expires_and_ignores_wrong_tokens():
    time_s = 0.0
    link = OneTimeLink("hash", "/runs", lambda: time_s)
    assert not any(map(link.use, ("", link.token + "x", "\udcff")))
    assert link.use(link.token)
    assert not link.use(link.token)
    late = OneTimeLink("hash", "/runs", lambda: time_s)
    time_s = LIFETIME_S
    assert not late.use(late.token)
    assert link.token != late.token


def test_film_plays_in_a_real_browser(browser, film_run, data):
    _, run_id, _ = film_run
    with opened(run_id, "--data-dir", data) as running:
        visitor = Visitor(browser, running.base_url)
        visitor.page.goto(running.link)
        assert visitor.page.url == f"{running.base_url}/runs/{run_id}"
        assert "command line" in visitor.page.inner_text("main")
        assert visitor.page.get_by_role("button", name="Cancel").count() == 0
        path = visitor.page.get_attribute(".tiles a", "href")
        page = check_page(visitor, path)
        page.wait_for_function("document.getElementById('player').readyState >= 1")
        assert page.evaluate("document.getElementById('player').duration") == pytest.approx(4, abs=0.2)
        assert not visitor.problems, visitor.problems
        visitor.close()
