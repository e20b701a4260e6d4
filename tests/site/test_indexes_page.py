"""The pages of indexes in a real browser."""

import pytest

from promptreel.api.db.clock import now
from promptreel.api.db.models import Video
from promptreel.api.site.index_list import MEDIA_PER_PAGE
from tests.api_server import ok_json
from tests.site.browser import WIDTHS, check_page
from tests.synthetic_runs import Catalogue

pytest_plugins = ["tests.api_fixtures", "tests.site.browser_fixtures"]

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize("width", WIDTHS)
def test_index_shows_its_media_and_runs(visit, world, width):
    visitor = visit(width)
    page = check_page(visitor, "/indexes")
    assert page.locator("tbody tr").count() == 2
    page = check_page(visitor, f"/indexes/{world.index_id}")
    tiles = page.locator(".tile")
    assert tiles.locator(".name").all_inner_texts() == ["c.png", "b.flac", "a.mp4"]
    assert tiles.locator("img").evaluate_all("images => images.map(image => image.naturalWidth > 0)") == [True, True]
    text = page.inner_text("main")
    assert "video, 0:03.00" in text
    assert page.locator("tbody tr").count() == 2
    for name in ("sql", "search", "upload"):
        assert page.locator(f'a[href="/{name}?index={world.index_id}"]').count() == 1
    tiles.get_by_role("link", name="a.mp4").click()
    page.wait_for_url(f"**/items/{world.video_id}")
    assert not visitor.problems


def test_playground_shows_media_without_an_index(visit, world):
    page = check_page(visit(), "/indexes/playground")
    assert page.locator(".tile .name").all_inner_texts() == ["lost", "c.png"]
    assert page.get_by_role("link", name="Delete").count() == 0


def test_index_is_created(visit, caller):
    visitor = visit(key=caller.key)
    page = visitor.open("/indexes")
    page.get_by_label("Name").fill(HOSTILE)
    page.get_by_label("Description").fill(HOSTILE)
    page.get_by_role("button", name="Create the index").click()
    page.wait_for_url("**/indexes/idx_*")
    assert page.inner_text("h1") == HOSTILE
    for path in (page.url, "/indexes"):
        page = check_page(visitor, path)
        assert page.locator("main img").count() == 0
    assert [index["name"] for index in ok_json(caller.get("/indexes"))] == [HOSTILE]


def test_index_without_a_name_is_explained(visit, caller):
    page = visit(key=caller.key).open("/indexes")
    page.locator("form.wide-form").evaluate("form => form.noValidate = true")
    page.get_by_label("Description").fill("of the harbour")
    page.get_by_role("button", name="Create the index").click()
    assert "name:" in page.get_by_role("alert").inner_text()
    assert page.get_by_label("Description").input_value() == "of the harbour"


@pytest.mark.parametrize("width", WIDTHS)
def test_index_is_deleted_after_a_confirmation(visit, caller, api_media, width):
    index_id = caller.index(HOSTILE)
    video_id = caller.video(api_media / "c.png", index_id)
    visitor = visit(width, key=caller.key)
    page = visitor.open(f"/indexes/{index_id}")
    assert page.locator(".tile a").count() == 0  # without a run, the item has no page
    page.get_by_role("link", name="Delete").click()
    page = check_page(visitor, page.url)
    assert "its 1 item" in page.inner_text("main")
    assert ok_json(caller.get(f"/indexes/{index_id}"))
    page.get_by_role("button", name="Delete the index and its media").click()
    page.wait_for_url("**/indexes")
    assert caller.get(f"/videos/{video_id}").status_code == 404
    for path in (f"/indexes/{index_id}", f"/indexes/{index_id}/delete"):
        assert page.goto(path).status == 404


def test_run_over_a_deleted_index_has_no_link_to_it(visit, service, caller):
    catalogue = Catalogue(service, caller.account_id)
    index_id = catalogue.index(HOSTILE)
    path = f"/runs/{catalogue.run({catalogue.video(index_id): [None]}, index_id=index_id)}"
    page = visit(key=caller.key).open(path)
    assert page.get_by_role("link", name=HOSTILE, exact=True).get_attribute("href") == f"/indexes/{index_id}"
    ok_json(caller.delete(f"/indexes/{index_id}"))
    assert page.goto(path).status == 200
    assert "over a deleted index" in page.inner_text("main")
    assert page.get_by_role("link", name=HOSTILE, exact=True).count() == 0


def test_media_are_paged_and_filtered(visit, service, caller):
    index_id = caller.index()
    created = now()
    with service.app.state.database.write() as session:
        for number in range(MEDIA_PER_PAGE + 1):
            video = {
                "video_id": f"vid_{index_id}_{number}", "account_id": caller.account_id, "index_id": index_id,
                "title": f"take 100% {number:03d}", "video_uri": "media://x", "media_uri": "/nowhere",
                "source_kind": "file", "media_type": "video", "duration_us": 1_000_000, "size_bytes": 1,
                "status": "not_processed", "created_at": created, "updated_at": created,
            }  # fmt: skip
            session.add(Video(**video))
    page = visit(key=caller.key).open(f"/indexes/{index_id}")
    assert page.locator(".tile").count() == MEDIA_PER_PAGE
    page.get_by_role("link", name="Next page").click()
    page.wait_for_url("**page=2")
    assert page.locator(".tile").count() == 1
    page.get_by_label("Name").fill("% 007")
    page.get_by_role("button", name="Filter").click()
    assert page.locator(".tile .name").all_inner_texts() == ["take 100% 007"]


def test_scopes_decide_what_can_be_changed(visit, service, world):
    token, path = None, f"/indexes/{world.index_id}"
    for scope, actions in (("read", []), ("write", ["Upload"]), ("admin", ["Upload", "Delete"])):
        key = service.caller(scope, account_id=world.caller.account_id).key
        page = visit(key=key).open(path)
        shown = page.locator(".actions a").all_inner_texts()
        assert [name for name in shown if name in ("Upload", "Delete")] == actions
        if scope != "admin":
            token = page.locator('input[name="form_token"]').first.get_attribute("value")
            assert page.request.post(f"{path}/delete", form={"form_token": token}).status == 403
            assert page.goto(f"{path}/delete").status == 403
        if scope == "read":
            assert page.request.post("/indexes", form={"form_token": token, "name": "mine"}).status == 403
            assert visit(key=key).open("/indexes").get_by_label("Name").count() == 0


def test_index_of_another_account_does_not_exist(visit, caller, world):
    page = visit(key=caller.key).page
    for path in (f"/indexes/{world.index_id}", f"/indexes/{world.index_id}/delete"):
        assert page.goto(path).status == 404


def test_runs_are_filtered_by_index(visit, world):
    page = visit().open(f"/runs?index={world.index_id}")
    assert page.locator("tbody tr").count() == 2
    assert visit().open("/runs?index=playground").locator("tbody tr").count() == 1
    page.get_by_role("link", name="Show those over all media").click()
    page.wait_for_url("**/runs")
    assert page.locator("tbody tr").count() == 3


def test_run_links_its_prompt_and_its_index(visit, world):
    page = visit().open(f"/runs/{world.run_id}")
    assert page.locator(f'a[href="/prompts/{world.prompt_id}"]').count() == 1
    assert page.locator(f'a[href="/indexes/{world.index_id}"]').count() == 1
    page = visit().open(f"/runs/{world.lost_id}")
    page.get_by_role("link", name="the playground").click()
    page.wait_for_url("**/indexes/playground")
