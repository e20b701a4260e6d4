"""The page of one run in a real browser."""

import re

import pytest

from promptreel.pages.item_grid import TILES_PER_PAGE, item_tiles
from promptreel.pages.run_tables import open_tables
from promptreel.tables.reader import committed_run
from promptreel.tables.storage import open_storage
from tests.api_server import DESCRIBE, MODEL
from tests.pipeline_runs import wait_for
from tests.site.browser import WIDTHS, check_page
from tests.synthetic_runs import make_run

pytest_plugins = ["tests.api_fixtures", "tests.site.browser_fixtures"]

ANSWER = {"summary": "a van", "scene": {"location": "harbour"}, "products": []}


@pytest.mark.parametrize("width", WIDTHS)
def test_run_shows_its_items_failures_and_cost(visit, world, width):
    page = check_page(visit(width), f"/runs/{world.run_id}")
    tiles = page.locator(".tile")
    assert tiles.count() == 3
    assert tiles.locator("img").evaluate_all("images => images.map(image => image.naturalWidth > 0)") == [True, True]
    text = page.inner_text("main")
    assert "3 segments, 1 failed" in text
    assert "invalid_json" in text or "answer_not_json" in text
    assert "Suggested fix:" in text
    assert "field extraction" in text
    assert page.locator(f'a[href="/sql?run={world.run_id}"]').count() == 1


@pytest.mark.parametrize("name", ["measured_id", "lost_id"])
def test_other_outcomes_are_shown(visit, world, name):
    page = check_page(visit(), f"/runs/{vars(world)[name]}")
    assert page.locator(".tile").count() == {"measured_id": 3, "lost_id": 1}[name]


def test_items_are_filtered_by_name_and_status(visit, world):
    page = visit().open(f"/runs/{world.run_id}?q=A.MP4")
    assert page.locator(".tile .name").all_inner_texts() == ["a.mp4"]
    page.get_by_label("Status").select_option("completed")
    page.get_by_role("button", name="Filter").click()
    assert "No item matches." in page.inner_text("main")


def test_failures_are_retried_from_the_page(visit, caller, gemini, api_media):
    index = caller.index()
    caller.video(api_media / "a.mp4", index)
    run_id = caller.start(caller.prompt(DESCRIBE), {"type": "index", "index_id": index}, processing_model=MODEL)
    caller.wait(run_id)
    visitor = visit(key=caller.key)
    page = visitor.open(f"/runs/{run_id}")
    calls = len(gemini.ledger.entries)
    page.get_by_role("button", name="Retry this one").click()
    page.wait_for_load_state()
    wait_for(lambda: len(gemini.ledger.entries) > calls, 60)
    page.get_by_role("button", name="Retry this one").wait_for()  # the page notices the end of the retry
    assert not visitor.problems


def test_retry_without_a_matching_failure_is_explained(visit, caller, api_media):
    index = caller.index()
    caller.video(api_media / "c.png", index)
    run_id = caller.start(caller.prompt(), {"type": "index", "index_id": index})
    caller.wait(run_id)
    page = visit(key=caller.key).open(f"/runs/{run_id}")
    token = page.locator('input[name="form_token"]').first.get_attribute("value")
    for code in ("rate_limited", "code_of_another_version"):
        answer = page.request.post(f"/runs/{run_id}/retry", form={"form_token": token, "code": code})
        assert answer.status == 409, (code, answer.status)
        assert "nothing_to_retry" in answer.text()


def test_progress_appears_and_the_run_can_be_cancelled(visit, caller, gemini, api_media):
    index = caller.index()
    caller.video(api_media / "a.mp4", index)
    visitor = visit(key=caller.key)
    run_id = caller.start(caller.prompt(), {"type": "index", "index_id": index})
    page = visitor.open(f"/runs/{run_id}")
    page.get_by_text(re.compile("completed: 3 of 3 segments")).wait_for()  # without loading the page again
    assert page.locator(".tile").count() == 1
    assert not visitor.problems


def test_key_that_only_reads_changes_nothing(visit, service, world):
    reader = service.caller("read", account_id=world.caller.account_id)
    page = visit(key=reader.key).open(f"/runs/{world.run_id}")
    assert page.get_by_role("button", name=re.compile("Retry|Cancel")).count() == 0
    token = page.locator('input[name="form_token"]').first.get_attribute("value")
    for action in ("cancel", "retry"):
        answer = page.request.post(f"/runs/{world.run_id}/{action}", form={"form_token": token})
        assert answer.status == 403
        assert "authorization_insufficient_scope" in answer.text()


def test_run_of_another_account_does_not_exist(visit, caller, world):
    assert visit(key=caller.key).page.goto(f"/runs/{world.run_id}").status == 404


def test_report_is_downloaded(visit, world):
    page = visit().open(f"/runs/{world.run_id}")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the report").click()
    assert download.value.suggested_filename == f"{world.run_id}.html"


def test_tiles_are_paged_and_their_timelines_bounded(tmp_path):
    storage = open_storage(tmp_path)
    answers = {f"v{number:03d}": [ANSWER] for number in range(TILES_PER_PAGE + 2)}
    answers["v000"] = [ANSWER if number % 200 else None for number in range(1000)]
    run = committed_run(storage, make_run(storage, answers))
    with open_tables(storage, run) as tables:
        first, second = (item_tiles(tables, number) for number in (1, 2))
        failed = item_tiles(tables, 1, text="V00").tiles[0]
    assert [len(found.tiles) for found in (first, second)] == [TILES_PER_PAGE, 2]
    assert first.total == TILES_PER_PAGE + 2
    timeline = failed.timeline
    assert len(timeline) <= 60
    assert sum(block.status == "failed" for block in timeline) == 5
    assert abs(sum(block.width for block in timeline) - 1000) < 30
