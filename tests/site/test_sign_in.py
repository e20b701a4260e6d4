"""Signing in and out, and what other sites cannot do."""

import re

import httpx2 as httpx
import pytest

from promptreel.api.web.page import local_path
from promptreel.api.web.session import FORM_COOKIE, SESSION_COOKIE
from tests.site.browser import Visitor, check_page

pytest_plugins = ["tests.api_fixtures", "tests.site.browser_fixtures"]


@pytest.fixture
def http(service):
    with httpx.Client(base_url=service.base_url) as client:
        yield client


def token_of(html):
    return re.search(r'name="form_token" value="([^"]+)"', html)[1]


def sign_in(http, key, **fields):
    token = token_of(http.get("/sign-in").text)
    return http.post("/sign-in", data={"form_token": token, "api_key": key, **fields})


def test_page_asks_for_a_key_and_then_appears(browser, caller, service):
    visitor = Visitor(browser, service.base_url)
    page = check_page(visitor, "/sign-in?next=/runs%3Fsort%3Dcreated")
    page.goto("/runs?sort=created")
    assert page.url.endswith("/sign-in?next=%2Fruns%3Fsort%3Dcreated")
    page.get_by_label("API key").fill(caller.key)
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs?sort=created")
    assert "There are no runs yet" in page.inner_text("main") or "0 runs" in page.inner_text("main")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    page.goto("/runs")
    assert "/sign-in" in page.url
    assert not visitor.problems
    visitor.close()


def test_session_cookie_is_out_of_reach_of_scripts_and_other_sites(http, caller):
    response = sign_in(http, caller.key)
    assert response.status_code == 303
    (cookie,) = [value for value in response.headers.get_list("set-cookie") if value.startswith(SESSION_COOKIE)]
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip().lower() for part in cookie.split(";")}
    assert caller.key not in cookie


def test_cookie_is_secure_behind_https(http, caller, service):
    state = service.app.state
    state.config = service.config.model_copy(update={"public_url": "https://reel.example"})
    try:
        cookies = http.get("/sign-in").headers.get_list("set-cookie")
    finally:
        state.config = service.config
    assert cookies
    assert all("secure" in cookie.lower() for cookie in cookies)


def test_wrong_key_is_rejected(http):
    response = sign_in(http, f"sk_live_{'0' * 48}")
    assert response.status_code == 401
    assert "unknown, revoked or expired" in response.text
    assert SESSION_COOKIE not in response.cookies


def test_revoked_key_ends_the_session(http, service):
    caller = service.caller()
    sign_in(http, caller.key)
    assert http.get("/runs").status_code == 200
    key_id = caller.get("/api-keys").json()[0]["key_id"]
    caller.delete(f"/api-keys/{key_id}")
    assert http.get("/runs").status_code == 303


def test_altered_session_is_no_session(http, caller):
    sign_in(http, caller.key)
    session = http.cookies[SESSION_COOKIE]
    http.cookies.clear()
    for altered in (session[:-1], "x" + session, caller.key, ""):
        assert http.get("/runs", headers={"cookie": f"{SESSION_COOKIE}={altered}"}).status_code == 303


def test_session_is_no_key_for_the_api(http, caller):
    sign_in(http, caller.key)
    assert http.get("/api/v2/prompt-runs").status_code == 401
    assert http.post("/api/v2/prompts", json={}).status_code == 401


def test_key_in_a_header_opens_no_page(http, caller):
    assert http.get("/runs", headers={"X-API-Key": caller.key}).status_code == 303


@pytest.mark.parametrize("token", [None, "", "x", "other"])
def test_form_without_its_token_is_rejected(http, service, caller, token):
    sign_in(http, caller.key)
    if token == "other":
        with httpx.Client(base_url=service.base_url) as other:
            sign_in(other, service.caller().key)
            token = token_of(other.get("/runs").text)
    response = http.post("/sign-out", data={} if token is None else {"form_token": token})
    assert response.status_code == 403
    assert http.get("/runs").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "null"},
    ],
)
def test_form_of_another_site_is_rejected(http, caller, headers):
    sign_in(http, caller.key)
    token = token_of(http.get("/runs").text)
    assert http.post("/sign-out", data={"form_token": token}, headers=headers).status_code == 403
    assert http.get("/runs").status_code == 200


def test_sign_in_form_needs_its_cookie(http, caller):
    token = token_of(http.get("/sign-in").text)
    http.cookies.delete(FORM_COOKIE)
    assert http.post("/sign-in", data={"form_token": token, "api_key": caller.key}).status_code == 403


@pytest.mark.parametrize(
    "target", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\nb"]
)
def test_sign_in_leads_only_to_own_pages(http, caller, target):
    assert local_path(target) == "/"
    assert sign_in(http, caller.key, next=target).headers["location"] == "/"


def test_pages_cannot_be_framed_and_load_nothing_from_elsewhere(http, caller):
    sign_in(http, caller.key)
    for path in ("/sign-in", "/runs", "/nowhere"):
        headers = http.get(path).headers
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy


def test_home_leads_to_what_the_key_permits(http, service):
    key = service.caller("search").key
    assert sign_in(http, key).headers["location"] == "/"
    home = http.get("/")
    assert home.headers["location"] == "/search"
    assert http.get("/sql").status_code == 200
    assert 'href="/runs"' not in http.get("/sql").text
    denied = http.get("/runs")
    assert denied.status_code == 403
    assert 'href="/sql"' in denied.text
