"""The page of SQL in a real browser."""

import io

import duckdb
import pyarrow.parquet as pq
import pytest

from tests.site.browser import WIDTHS, check_page

pytest_plugins = ["tests.api_fixtures", "tests.site.browser_fixtures"]


@pytest.mark.parametrize("width", WIDTHS)
def test_catalog_query_and_result(visit, world, width):
    visitor = visit(width)
    page = check_page(visitor, "/sql")
    page.get_by_label("One SELECT statement").fill(
        "SELECT run_id, video_id, segment_id, [1, 2] AS l FROM segments LIMIT 3"
    )
    page.get_by_role("button", name="Run", exact=True).click()
    page = check_page(visitor, page.url)
    assert page.locator("tbody tr").count() == 3
    assert "[1, 2]" in page.inner_text("tbody")
    page.get_by_role("link", name="Open row 1").click()
    page.wait_for_url("**/items/**")
    assert not visitor.problems


def test_every_example_runs(visit, world):
    page = visit().open(f"/sql?run={world.run_id}")
    links = page.locator("section[aria-labelledby=examples] a").evaluate_all("all => all.map(link => link.href)")
    assert len(links) >= 6
    for link in links:
        assert page.goto(link).status == 200, link
        assert f"run={world.run_id}" in link


def test_wrong_query_is_shown_with_the_reason(visit, world):
    page = visit().page
    assert page.goto("/sql?q=SELECT+colour+FROM+segments").status == 422
    assert "colour" in page.get_by_role("alert").inner_text()
    assert page.get_by_label("One SELECT statement").input_value() == "SELECT colour FROM segments"
    assert page.goto("/sql?q=" + "x" * 9000).status == 422


def test_result_is_downloaded(visit, world):
    page = visit().open("/sql?q=SELECT+name%2C+status+FROM+media+ORDER+BY+ALL")
    for name, read in (("CSV", duckdb_rows), ("Parquet", parquet_rows)):
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        rows = read(download.value.path())
        assert len(rows) == 7
        assert ("a.mp4", "partial") in rows


def duckdb_rows(path):
    return duckdb.sql(f"SELECT name, status FROM read_csv('{path}')").fetchall()


def parquet_rows(path):
    table = pq.read_table(io.BytesIO(path.read_bytes()))
    return list(zip(table["name"].to_pylist(), table["status"].to_pylist(), strict=True))


def test_long_results_are_cut(visit, world):
    page = visit().open("/sql?q=SELECT+*+FROM+range(600)")
    assert page.locator("tbody tr").count() == 500
    assert "Only the first 500 rows are shown" in page.inner_text("main")


def test_hostile_values_stay_text(visit, world):
    visitor = visit()
    page = visitor.open("/sql?q=SELECT+'<img src=x onerror=alert(1)>' AS \"<b>\"")
    assert page.locator("tbody td").inner_text() == "<img src=x onerror=alert(1)>"
    assert page.locator("thead b, tbody img").count() == 0
    assert not visitor.problems


def test_run_of_another_account_is_not_found(visit, caller, world):
    assert visit(key=caller.key).page.goto(f"/sql?run={world.run_id}").status == 404
