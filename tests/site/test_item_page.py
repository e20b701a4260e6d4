"""The page of an item in a real browser, and the bytes that its player loads."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import fsspec
import httpx2 as httpx
import pytest
from fastapi import Request

from promptreel.api.runs.run_tables import readable_tables
from promptreel.api.runs.thumbnails import Thumbnails
from promptreel.api.site.item_view import SEGMENTS_PER_PAGE, ItemQuery, shown_item
from promptreel.api.uploads.content import content_response, content_type
from promptreel.api.web.errors import ApiError
from promptreel.pages.item_timeline import MAX_BLOCKS
from promptreel.tables.storage import open_storage
from tests.site.browser import WIDTHS, check_page
from tests.synthetic_runs import make_run

pytest_plugins = ["tests.api_fixtures", "tests.site.browser_fixtures"]

OBJECT = bytes(range(100))
ANSWER = {"summary": "a van", "scene": {"location": "harbour"}, "products": []}


def path_of(world, kind="video"):
    return f"/runs/{world.run_id}/items/{vars(world)[f'{kind}_id']}"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ["video", "audio", "image"])
def test_item_shows_its_segments(visit, world, kind, width):
    page = check_page(visit(width), path_of(world, kind))
    count = {"video": 3, "audio": 2, "image": 1}[kind]
    assert page.locator(".segment").count() == count
    text = page.inner_text("main")
    assert "summary" in text
    if kind == "video":
        assert page.locator(".failed code").count() >= 1
        assert page.locator(".segment img").evaluate_all("all => all.every(image => image.complete)")
        assert page.locator(".strip img").count() == 3


def wait_for_time(page, seconds):
    page.wait_for_function(f"Math.abs(document.getElementById('player').currentTime - {seconds}) < 0.05")


def test_timeline_and_keys_move_the_player(visit, world):
    visitor = visit()
    page = visitor.open(path_of(world))
    page.wait_for_function("document.getElementById('player').readyState > 0")
    page.locator(".timeline a").nth(1).click()
    wait_for_time(page, 1)
    page.wait_for_function("document.querySelectorAll('.segment')[1].classList.contains('current')")
    page.keyboard.press("n")
    wait_for_time(page, 2)
    assert page.evaluate("document.activeElement === document.querySelectorAll('.segment')[2]")
    page.keyboard.press("p")
    wait_for_time(page, 1)
    assert not visitor.problems


def test_link_to_a_segment_moves_the_player(visit, world):
    visitor = visit()
    page = visitor.open(path_of(world))
    href = page.locator(".segment h3 a").nth(2).get_attribute("href")
    segment_id = href.removeprefix("#s-")
    page.goto(f"{path_of(world)}?segment_id={segment_id}{href}")
    wait_for_time(page, 2)


def test_calls_show_what_was_sent_and_answered(visit, world):
    visitor = visit()
    page = visitor.open(path_of(world))
    page.get_by_role("link", name="Model calls of segment 1").click()
    page.get_by_role("heading", name="Model calls").wait_for()
    assert page.locator("article").count() == 1
    page.get_by_text("Instruction", exact=True).click()
    assert "Describe the segment" in page.inner_text("main")
    page = check_page(visitor, f"{path_of(world)}/calls")
    assert page.locator("article").count() >= 4  # three segments and the synthesis


@pytest.mark.parametrize("path", ["items/vid_none", "items/{video_id}?page=9", "items/{video_id}?segment_id=none"])
def test_unknown_item_part_or_segment_is_not_found(visit, world, path):
    page = visit().page
    assert page.goto(f"/runs/{world.run_id}/{path.format(video_id=world.video_id)}").status == 404


def content_of(world):
    page = httpx.Client(base_url=world.service.base_url)
    body = world.caller.post("/videos/signed-url", {"gcs_uri": f"media://{world.video_id}"}).json()
    return page, body["signed_url"]


def test_bytes_are_never_a_page_of_this_service(world):
    client, url = content_of(world)
    headers = client.get(url).headers
    assert headers["content-type"] == "video/mp4"
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize("name", ["x.html", "x.svg", "x.xhtml", "x.js", "x", "x.mp4.html", "x.pdf"])
def test_other_types_are_plain_bytes(name):
    assert content_type(name) == "application/octet-stream"


def test_ranges_of_local_files(world, api_media):
    client, url = content_of(world)
    content = (api_media / "a.mp4").read_bytes()
    response = client.get(url, headers={"Range": "bytes=10-19"})
    assert (response.status_code, response.content) == (206, content[10:20])


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        (None, 200, slice(0, 100)),
        ("bytes=0-", 206, slice(0, 100)),
        ("bytes=10-19", 206, slice(10, 20)),
        ("bytes=90-1000", 206, slice(90, 100)),
        ("bytes=-5", 206, slice(95, 100)),
        ("bytes=-1000", 206, slice(0, 100)),
        ("pages=1-2", 200, slice(0, 100)),
    ],
)
def test_ranges_of_objects(wanted, status, part):
    response, content = in_a_thread(read_object(wanted))
    assert (response.status_code, content) == (status, OBJECT[part])
    assert response.headers["content-length"] == str(len(content))
    if status == 206:
        assert response.headers["content-range"] == f"bytes {part.start}-{part.stop - 1}/100"


@pytest.mark.parametrize("wanted", ["bytes=100-", "bytes=200-300", "bytes=-0"])
def test_range_outside_an_object_is_rejected(wanted):
    with pytest.raises(ApiError) as found:
        in_a_thread(read_object(wanted))
    assert found.value.status == 416


def in_a_thread(coroutine):
    """Run a coroutine; the browser's driver has an event loop in this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


async def read_object(wanted):
    fsspec.filesystem("memory").pipe_file("/bucket/a.mp4", OBJECT)
    headers = [(b"range", wanted.encode())] if wanted is not None else []
    app = SimpleNamespace(state=SimpleNamespace(config=None, trusts_local_files=False))
    request = Request({"type": "http", "headers": headers, "app": app})
    video = SimpleNamespace(media_uri="memory://bucket/a.mp4", source_kind="bucket")
    response = content_response(request, video)
    return response, b"".join([block async for block in response.body_iterator])


@pytest.fixture(scope="module")
def long_item(tmp_path_factory):
    storage = open_storage(tmp_path_factory.mktemp("long"))
    answers = {"v": [ANSWER if number % 100 else None for number in range(5_000)]}
    run_id = make_run(storage, answers)
    return readable_tables(storage, run_id), Thumbnails(storage, b"secret", ""), run_id


def test_long_item_is_shown_in_parts(long_item):
    tables, thumbnails, run_id = long_item
    item = shown_item(tables, ItemQuery(run_id, "v", 3), thumbnails)
    assert item.pages == 5_000 / SEGMENTS_PER_PAGE
    assert [segment.number for segment in item.segments] == list(range(51, 76))
    assert len(item.timeline) <= MAX_BLOCKS
    assert item.timeline[0].first == 1
    assert item.timeline[-1].last == 5_000
    assert all(after.first == before.last + 1 for before, after in zip(item.timeline, item.timeline[1:], strict=False))
    assert sum(block.status == "failed" for block in item.timeline) == 50
    wanted = item.timeline[100]
    url = item.query.segment_url(wanted.first, wanted.segment_id)
    assert int(re.search(r"page=(\d+)", url)[1]) == (wanted.first - 1) // SEGMENTS_PER_PAGE + 1
    found = shown_item(tables, ItemQuery(run_id, "v"), thumbnails, wanted.segment_id)
    assert wanted.segment_id in [segment.segment_id for segment in found.segments]
