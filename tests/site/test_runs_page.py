"""The page of runs in a real browser."""

import pytest

from tests.site.browser import WIDTHS, check_page

pytest_plugins = ["tests.api_fixtures", "tests.site.browser_fixtures"]


@pytest.mark.parametrize("width", WIDTHS)
def test_runs_are_listed(visit, world, width):
    page = check_page(visit(width), "/runs")
    rows = page.locator("tbody tr")
    assert rows.count() == 3
    text = rows.filter(has_text="describe").inner_text()
    assert "completed with failures" in text
    assert "3 of 3" not in text
    assert page.locator(f'a[href="/runs/{world.run_id}"]').count() == 1


def test_filter_and_order(visit, world):
    page = visit().open("/runs")
    page.get_by_label("Name or prompt").fill("lengths")
    page.get_by_role("button", name="Filter").click()
    assert page.locator("tbody tr").count() == 2
    page.get_by_label("Status").select_option("failed")
    page.get_by_role("button", name="Filter").click()
    assert page.locator("tbody tr").count() == 1
    page.goto("/runs?sort=created")
    links = page.locator("tbody th a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    assert links[0] == f"/runs/{min(world.runs, key=lambda run_id: world.runs[run_id]['executed_at'])}"


def test_unknown_order_is_an_error_page(visit, world):
    page = visit().page
    assert page.goto("/runs?sort=colour").status == 422
    assert "'colour' is none of created" in page.inner_text("main")
