"""Running a prompt from its page: choose, estimate, start."""

import pytest

from tests.api_server import ApiServer, ok_json
from tests.site.browser import WIDTHS, Visitor, check_page

pytest_plugins = ["tests.api_fixtures", "tests.site.browser_fixtures"]


@pytest.fixture
def films(caller, api_media):
    """The index of the caller with a video and an image."""
    index_id = caller.index()
    caller.video(api_media / "a.mp4", index_id)
    caller.video(api_media / "c.png", index_id)
    return index_id


def fill_in(page):
    """Ask for fixed windows of one second, without local models."""
    for kind in ("videos", "audio"):
        page.get_by_label(f"Cut {kind}").select_option("fixed")
    for field in page.get_by_label("Fixed length in seconds").all():
        field.fill("1")
    page.get_by_label("Transcribe speech").uncheck()
    page.get_by_label("Embed frames").uncheck()


@pytest.mark.parametrize("width", WIDTHS)
def test_run_starts_after_its_estimate(visit, caller, films, width):
    prompt_id = caller.prompt()
    visitor = visit(width, key=caller.key)
    page = check_page(visitor, f"/prompts/{prompt_id}")
    page.get_by_role("link", name="Run this prompt").click()
    page.get_by_label("Run over").select_option(films)
    page.get_by_label("Name of the run").fill("from a page")
    fill_in(page)
    assert page.get_by_role("button", name="Start the run").count() == 0
    page.get_by_role("button", name="Estimate").click()
    estimate = page.locator("section[aria-labelledby=estimate]")
    facts = dict(zip(estimate.locator("dt").all_inner_texts(), estimate.locator("dd").all_inner_texts(), strict=True))
    assert (facts["items"], facts["segments"], facts["cost"]) == ("2", "4", "none")
    check_page(visitor, page.url.partition("#")[0])
    page.get_by_role("button", name="Start the run").click()
    page.wait_for_url("**/runs/run_*")
    assert not visitor.problems
    (run,) = ok_json(caller.get("/prompt-runs"))
    assert run["name"] == "from a page"
    assert run["run_context"] == {"type": "index", "index_id": films}
    assert run["video_segment_duration"] == 1
    assert (run["enable_transcription"], run["enable_image_embedding"]) == (False, False)
    assert caller.wait(run["run_id"])["status"] == "completed"


def test_form_that_is_sent_twice_starts_one_run(visit, caller, films):
    page = visit(key=caller.key).open(f"/prompts/{caller.prompt()}/run?index={films}&step=estimate")
    form = page.locator("form").filter(has=page.locator('input[name="key"]'))
    sent = {name: form.locator(f'input[name="{name}"]').get_attribute("value") for name in ("form_token", "key")}
    path = form.get_attribute("action")
    answers = [page.request.post(path, form=sent, max_redirects=0) for _ in range(2)]
    assert [answer.status for answer in answers] == [303, 303]
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert len(ok_json(caller.get("/prompt-runs"))) == 1


def test_run_covers_only_chosen_items(visit, caller, films):
    page = visit(key=caller.key).open(f"/prompts/{caller.prompt()}/run?index={films}")
    page.get_by_role("button", name="Choose items").click()
    page.get_by_label("c.png").check()
    fill_in(page)
    page.get_by_role("button", name="Estimate").click()
    assert page.get_by_label("c.png").is_checked()
    page.get_by_role("button", name="Start the run").click()
    page.wait_for_url("**/runs/run_*")
    (run,) = ok_json(caller.get("/prompt-runs"))
    assert (run["total_videos"], run["total_images"]) == (0, 1)


def test_choice_in_another_index_is_ignored(visit, caller, films, api_media):
    other = caller.index("other")
    caller.video(api_media / "c.png", other)
    page = visit(key=caller.key).open(f"/prompts/{caller.prompt()}/run?index={films}&step=choose")
    page.get_by_label("a.mp4").check()
    page.get_by_label("Run over").select_option(other)
    page.get_by_role("button", name="Estimate").click()
    assert "1 item" in page.locator("section[aria-labelledby=estimate] summary").inner_text()


@pytest.mark.parametrize(
    ("query", "path", "kept"),
    [
        ("video=fixed", "video_segment_duration is required", ("Cut videos", "fixed")),
        ("audio=fixed&audio_seconds=999", "audio_segment_duration", ("Cut audio", "fixed")),
        ("video=backwards", "video_segmentation_type", ("Name of the run", "")),
        ("model=no-such-model", "no-such-model", ("Model (", "no-such-model")),
        ("index=idx_0", "idx_0", ("Name of the run", "")),
        (
            "definition=one+product&video=content_aware",
            "segment_options.definition",
            ("What one segment", "one product"),
        ),
    ],
)
def test_problems_are_shown_beside_the_form(visit, caller, films, query, path, kept):
    over = "" if "index=" in query else f"&index={films}"
    page = visit(key=caller.key).page
    assert page.goto(f"/prompts/{caller.prompt()}/run?step=estimate&{query}{over}").status == 422
    assert path in page.get_by_role("alert").inner_text()
    assert page.get_by_label(kept[0]).input_value() == kept[1]
    assert page.get_by_role("button", name="Start the run").count() == 0


def test_start_of_an_invalid_run_shows_the_problem(visit, caller, films):
    prompt_id = caller.prompt()
    page = visit(key=caller.key).open(f"/prompts/{prompt_id}/run?index={films}&step=estimate")
    token = page.locator('input[name="form_token"]').first.get_attribute("value")
    caller.delete(f"/indexes/{films}")
    answer = page.request.post(
        f"/prompts/{prompt_id}/run?index={films}&step=estimate", form={"form_token": token, "key": "k"}
    )
    assert answer.status == 422
    assert films in answer.text()
    assert ok_json(caller.get("/prompt-runs")) == []


def test_key_that_only_reads_sees_the_estimate_only(visit, service, world):
    reader = service.caller("read", account_id=world.caller.account_id)
    page = visit(key=reader.key).open(f"/prompts/{world.measure_id}/run?index={world.index_id}&step=estimate")
    assert "requires the scope write" in page.inner_text("main")
    assert page.get_by_role("button", name="Start the run").count() == 0


def test_form_offers_only_allowed_models(browser, tmp_path, api_media):
    allowed = {"models": ("signals",), "model_aliases": {"fast": "signals"}, "supervise": False}
    with ApiServer(tmp_path / "data", **allowed) as server:
        caller = server.caller()
        caller.video(api_media / "c.png")
        visitor = Visitor(browser, server.base_url).sign_in(caller.key)
        page = visitor.open(f"/prompts/{caller.prompt()}/run")
        offered = page.locator("#model option").evaluate_all("all => all.map(option => option.value)")
        assert offered == ["", "fast", "signals"]
        page.get_by_label("Model", exact=True).select_option("fast")
        page.get_by_role("button", name="Estimate").click()
        assert page.get_by_role("button", name="Start the run").count() == 1
        visitor.close()
