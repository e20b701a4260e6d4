"""The pages of API keys in a real browser."""

import re

import pytest

from tests.api_server import ok_json
from tests.site.browser import WIDTHS, Visitor, check_page
from tests.site.page_calls import PageClient

pytest_plugins = ["tests.api_fixtures", "tests.site.browser_fixtures"]

HOSTILE = "<img src=x onerror=alert(1)>"
SECRET = re.compile(r"sk_live_[0-9a-f]{48}")


@pytest.mark.parametrize("width", WIDTHS)
def test_new_key_is_shown_once(visit, browser, service, caller, width):
    visitor = visit(width, key=caller.key)
    page = check_page(visitor, "/keys")
    page.get_by_label("Name").fill(HOSTILE)
    page.get_by_label("Scope").select_option("read")
    page.get_by_label("Expires after days").fill("30")
    with page.expect_response(lambda response: response.request.method == "POST") as response:
        page.get_by_role("button", name="Create the key").click()
    assert response.value.headers["cache-control"] == "no-store"
    assert response.value.headers["referrer-policy"] == "same-origin"
    secret = page.get_by_label("Copy it now").input_value()
    assert SECRET.fullmatch(secret)
    assert secret not in page.url
    assert page.locator("main img").count() == 0
    key = next(key for key in ok_json(caller.get("/api-keys")) if key["name"] == HOSTILE)
    assert (key["scopes"], key["is_active"]) == (["read"], True)
    assert key["expires_at"]
    page = check_page(visitor, "/keys")
    assert not SECRET.search(page.content())
    assert HOSTILE in page.inner_text("tbody")
    other = Visitor(browser, service.base_url).sign_in(secret)
    assert other.page.goto("/keys").status == 403
    other.close()


def test_problems_of_a_new_key_are_shown(visit, caller):
    page = visit(key=caller.key).open("/keys")
    page.locator("form.wide-form").evaluate("form => form.noValidate = true")
    page.get_by_label("Scope").select_option("search")
    page.get_by_label("Expires after days").fill("9999")
    page.get_by_role("button", name="Create the key").click()
    shown = page.get_by_role("alert").inner_text()
    assert "name:" in shown
    assert "expires_in_days:" in shown
    assert page.get_by_label("Scope").input_value() == "search"
    assert page.get_by_label("Expires after days").input_value() == "9999"
    assert len(ok_json(caller.get("/api-keys"))) == 1


def test_key_is_revoked_after_a_confirmation(visit, service, caller):
    other = service.caller("read", account_id=caller.account_id)
    visitor = visit(key=caller.key)
    page = visitor.open("/keys")
    assert page.locator("tbody tr").filter(has_text="this session").count() == 1
    page.locator("tbody tr").filter(has_not_text="this session").get_by_role("link", name="Revoke").click()
    page = check_page(visitor, page.url)
    assert "signed out" not in page.inner_text("main")
    assert other.get("/auth/validate").status_code == 204
    page.get_by_role("button", name="Revoke the key").click()
    page.wait_for_url("**/keys#key_*")
    assert other.get("/auth/validate").status_code == 401
    assert page.locator("tbody .status-revoked").count() == 1
    assert page.get_by_role("link", name="Revoke").count() == 1
    check_page(visitor, "/keys")


def test_revoking_the_own_key_signs_out(visit, caller):
    visitor = visit(key=caller.key)
    page = visitor.open("/keys")
    page.get_by_role("link", name="Revoke").click()
    page = check_page(visitor, page.url)
    text = page.inner_text("main")
    assert "signed out" in text
    assert "No other active key has the scope admin" in text
    page.get_by_role("button", name="Revoke the key").click()
    page.wait_for_url("**/sign-in")
    assert not [cookie for cookie in visitor.context.cookies() if cookie["name"] == "promptreel_session"]
    page.goto("/keys")
    assert "/sign-in" in page.url
    assert caller.get("/auth/validate").status_code == 401


def test_keys_need_the_scope_admin(service, caller):
    writer = service.caller("write", account_id=caller.account_id)
    client = PageClient(service.base_url, writer.key)
    key_id = ok_json(caller.get("/api-keys"))[0]["key_id"]
    assert 'href="/keys"' not in client.http.get("/runs").text
    for path in ("/keys", f"/keys/{key_id}/revoke"):
        assert client.http.get(path).status_code == 403
        response = client.post(path, {"name": "mine", "scope": "admin"})
        assert response.status_code == 403
        assert "authorization_insufficient_scope" in response.text
    assert len(ok_json(caller.get("/api-keys"))) == 2
    assert caller.get("/auth/validate").status_code == 204


def test_key_of_another_account_does_not_exist(service, caller, world):
    client = PageClient(service.base_url, caller.key)
    key_id = ok_json(world.caller.get("/api-keys"))[0]["key_id"]
    assert client.http.get(f"/keys/{key_id}/revoke").status_code == 404
    assert client.post(f"/keys/{key_id}/revoke").status_code == 404
    assert world.caller.get("/auth/validate").status_code == 204
