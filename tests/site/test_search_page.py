"""The page of search in a real browser."""

import pytest

from tests.site.browser import WIDTHS, check_page

pytest_plugins = ["tests.api_fixtures", "tests.site.browser_fixtures"]


@pytest.mark.parametrize("width", WIDTHS)
def test_words_find_frames_with_the_matched_text(visit, world, width):
    visitor = visit(width)
    page = check_page(visitor, "/search")
    page.get_by_label("Words", exact=True).fill("harbour")
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_url("**q=harbour*")
    page = check_page(visitor, page.url)
    hits = page.locator(".hits .tile")
    assert hits.count() >= 3
    assert "people[0].name" in hits.first.inner_text()
    assert "harbour" in hits.first.inner_text()
    assert hits.locator("img").first.evaluate("image => image.naturalWidth > 0")
    hits.first.get_by_role("link").first.click()
    page.wait_for_url("**/items/**")
    assert not visitor.problems


@pytest.mark.parametrize("width", WIDTHS)
def test_conditions_find_segments_by_their_fields(visit, world, width):
    visitor = visit(width)
    page = visitor.open(f"/search?run={world.run_id}")
    page.get_by_text("Find segments by the values of fields").click()
    page.get_by_label("Field", exact=True).first.fill("people[].name")
    page.get_by_label("Value", exact=True).first.fill("HARBOUR")
    page.get_by_role("button", name="Find").click()
    page.wait_for_url("**HARBOUR**")
    page = check_page(visitor, page.url)
    assert page.locator(".hits .tile").count() == 1
    assert page.get_by_label("Field", exact=True).first.input_value() == "people[].name"
    assert "harbour" in page.locator(".hits .tile").first.inner_text()


def test_conditions_on_numbers_and_over_everything(visit, world):
    page = visit().open("/search?field=duration_seconds&op=less_than&value=1.5")
    assert page.locator(".hits .tile").count() > 0
    page.goto("/search?field=duration_seconds&op=greater_than&value=1.5")
    assert "1.5" not in page.locator(".hits").inner_text()


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("field=duration_seconds&op=less_than&value=soon", "'soon' is not a number"),
        ("field=colour&op=contains&value=red", "unknown field 'colour'"),
        ("field=summary&op=contains&value=", "summary: the value is missing"),
    ],
)
def test_wrong_condition_is_shown_beside_the_form(visit, world, query, problem):
    page = visit().page
    assert page.goto(f"/search?{query}").status == 422
    assert problem in page.get_by_role("alert").inner_text()
    assert page.get_by_label("Field", exact=True).first.input_value() in query


def test_pages_of_conditions_follow_each_other(visit, world, monkeypatch):
    monkeypatch.setattr("promptreel.api.site.search_query._HITS_PER_PAGE", 2)
    page = visit().open(f"/search?run={world.run_id}&field=summary&op=is_not_empty&value=")
    found = []
    while True:
        links = page.locator(".hits .tile > a").evaluate_all("all => all.map(link => link.href)")
        assert 1 <= len(links) <= 2
        found += links
        following = page.get_by_role("link", name="Next page")
        if not following.count():
            break
        page.goto(following.get_attribute("href"))
    assert len(found) == len(set(found)) == world.runs[world.run_id]["completed_segments"]


def test_picture_search_without_its_model_says_so(visit, world, api_media):
    visitor = visit()
    page = visitor.open("/search")
    page.get_by_text("Search by a picture").click()
    page.get_by_label("Picture (JPEG, PNG or WebP)").set_input_files(api_media / "c.png")
    page.get_by_role("button", name="Search by the picture").click()
    page.wait_for_load_state()
    assert "Image search is unavailable" in page.get_by_role("alert").inner_text()


def test_key_for_search_alone_can_search(visit, world):
    key = world.service.caller("search", account_id=world.caller.account_id).key
    visitor = visit()
    visitor.context.clear_cookies()
    page = visitor.page
    page.goto("/sign-in")
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")
    page.wait_for_url("**/search")
    page.get_by_label("Words", exact=True).fill("harbour")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=harbour*")
    assert page.locator(".hits .tile").count() >= 3


def test_hits_of_other_accounts_stay_hidden(visit, caller, world):
    page = visit(key=caller.key).open("/search?q=harbour")
    assert "Nothing was found." in page.inner_text("main")
    assert page.goto(f"/search?q=harbour&run={world.run_id}").status == 404
    assert page.goto(f"/search?q=harbour&index={world.index_id}").status == 404
