"""The page that compares two runs, in a real browser."""

import pytest

from tests.api_server import DESCRIBE, MODEL
from tests.site.browser import WIDTHS, check_page

pytest_plugins = ["tests.api_fixtures", "tests.site.browser_fixtures"]


@pytest.mark.parametrize("width", WIDTHS)
def test_runs_are_chosen_and_compared_side_by_side(visit, world, width):
    visitor = visit(width)
    page = visitor.open(f"/runs/{world.run_id}")
    page.get_by_role("link", name="Compare").click()
    page.wait_for_url("**/compare?base=*")
    check_page(visitor, page.url)
    page.get_by_label("After").select_option(world.measured_id)
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url("**other=*")
    check_page(visitor, page.url)
    segments = page.locator(".segments > .segment")
    assert segments.count() >= 4
    assert segments.locator("img").first.evaluate("image => image.naturalWidth > 0")
    diff = world.caller.get(f"/prompt-runs/{world.run_id}/diff?other_run_id={world.measured_id}&limit=100").json()
    assert page.locator(".changes tbody tr").count() == len(diff["data"])
    assert f"{diff['summary']['changed_segments']} of" in page.inner_text("main")


def test_field_and_change_are_selected_from_the_summary(visit, world):
    url = f"/compare?base={world.run_id}&other={world.measured_id}"
    page = visit().open(url)
    removed = page.get_by_role("link", name="removed, summary")
    expected = int(removed.inner_text())
    page.goto(removed.get_attribute("href"))
    assert page.locator(".changes tbody tr").count() == expected
    assert set(page.locator(".changes th[scope=row] span").all_inner_texts()) == {"removed"}
    page.get_by_role("link", name="Show all differences").click()
    page.wait_for_url(f"**{url}")


def test_later_pages_follow(visit, world, monkeypatch):
    monkeypatch.setattr("promptreel.api.site.compare._CHANGES_PER_PAGE", 4)
    page = visit().open(f"/compare?base={world.run_id}&other={world.measured_id}")
    total = 0
    while True:
        total += page.locator(".changes tbody tr").count()
        following = page.get_by_role("link", name="Next page")
        if not following.count():
            break
        page.goto(following.get_attribute("href"))
        assert page.get_by_text("Differences by field").count() == 0
    diff = world.caller.get(f"/prompt-runs/{world.run_id}/diff?other_run_id={world.measured_id}&limit=100").json()
    assert total == len(diff["data"])


def test_runs_that_cannot_be_compared_say_why(visit, world):
    page = visit().page
    assert page.goto(f"/compare?base={world.run_id}&other={world.lost_id}").status == 422
    assert "share no media" in page.get_by_role("alert").inner_text()
    assert page.goto(f"/compare?base={world.run_id}&other={world.measured_id}&field=nosuch").status == 422
    assert "unknown field 'nosuch'" in page.get_by_role("alert").inner_text()
    assert page.goto(f"/compare?base={world.run_id}&other=run_nosuch").status == 404
    assert page.goto(f"/compare?base={world.run_id}&other={world.measured_id}&change=odd").status == 422


def test_choices_share_media_with_the_first_run(visit, caller, api_media):
    index = caller.index()
    caller.video(api_media / "c.png", index)
    prompt = caller.prompt(DESCRIBE)
    target = {"type": "index", "index_id": index}
    first, second = (caller.start(prompt, target, processing_model=MODEL) for _ in range(2))
    video = caller.video(api_media / "a.mp4")
    apart = caller.start(prompt, {"type": "videos", "video_ids": [video]}, processing_model=MODEL)
    for run_id in (first, second, apart):
        caller.wait(run_id)
    page = visit(key=caller.key).open(f"/compare?base={first}")
    values = page.get_by_label("After").locator("option").evaluate_all("all => all.map(option => option.value)")
    assert set(values) == {"", second}


def test_runs_of_another_account_are_not_found(visit, caller, world):
    assert visit(key=caller.key).page.goto(f"/compare?base={world.run_id}").status == 404
