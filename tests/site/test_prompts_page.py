"""The pages of prompts in a real browser."""

import json

import pytest

from promptreel.api.site.prompt_list import PROMPTS_PER_PAGE
from tests.api_server import DESCRIBE, ok_json
from tests.site.browser import WIDTHS, check_page
from tests.site.page_calls import PageClient

pytest_plugins = ["tests.api_fixtures", "tests.site.browser_fixtures"]

HOSTILE = "<img src=x onerror=alert(1)>"
FULL = {
    **DESCRIBE,
    "semantic_indexing": {"disabled_segment_fields": ["summary"], "disabled_video_level_fields": ["topic"]},
    "media": {"pictures_only": True, "frames_per_segment": 3, "resolution": "high"},
}


def token_on(page):
    return page.locator('input[name="form_token"]').first.get_attribute("value")


@pytest.mark.parametrize("width", WIDTHS)
def test_pages_of_prompts_fit_and_are_accessible(visit, world, width):
    visitor = visit(width)
    page = check_page(visitor, "/prompts")
    assert "describe" in page.inner_text("tbody")
    page = check_page(visitor, f"/prompts/{world.prompt_id}")
    assert DESCRIBE["prompt_text"] in page.inner_text("main")
    assert page.locator(f'a[href="/runs/{world.run_id}"]').count() == 1
    for path in ("/prompts/new", f"/prompts/{world.prompt_id}/edit"):
        check_page(visitor, path)


def test_list_shows_versions_fields_and_runs(visit, world):
    page = visit().open("/prompts?q=DESCR")
    row = page.locator("tbody tr")
    assert row.count() == 1
    assert row.locator("td").all_inner_texts()[:4] == ["1", "2", "yes", "1"]
    row.get_by_role("link", name="1 runs of describe").click()
    page.wait_for_url(f"**/runs?prompt={world.prompt_id}")
    assert page.locator("tbody tr").count() == 1


def test_prompts_are_paged(visit, caller):
    for number in range(PROMPTS_PER_PAGE + 1):
        caller.prompt({**DESCRIBE, "name": f"prompt {number}"})
    page = visit(key=caller.key).open("/prompts?q=prompt")
    assert page.locator("tbody tr").count() == PROMPTS_PER_PAGE
    page.get_by_role("link", name="Next page").click()
    page.wait_for_url("**page=2**")
    assert page.locator("tbody tr").count() == 1


def test_prompt_is_created_and_gets_a_second_version(visit, caller):
    visitor = visit(key=caller.key)
    page = visitor.open("/prompts")
    page.get_by_role("link", name="New prompt").click()
    page.get_by_label("Name").fill("headlines")
    page.get_by_label("Text: what the model does").fill("Say in one sentence what happens.")
    page.get_by_role("button", name="Create the prompt").click()
    page.wait_for_url("**/prompts/prompt_*")
    assert "version 1" in page.inner_text("h1")
    page.get_by_role("link", name="New version").click()
    page.get_by_label("Text: what the model does").fill("Say in two sentences what happens.")
    page.get_by_role("button", name="Save as a new version").click()
    page.get_by_role("link", name="version 1").click()
    page.wait_for_url("**?version=1")
    assert "in one sentence" in page.inner_text("main")
    assert "earlier version" in page.inner_text("main")
    page.get_by_role("link", name="Show the one that runs use").click()
    page.get_by_text("in two sentences").wait_for()
    assert not visitor.problems


def test_saving_without_a_change_makes_no_version(visit, caller):
    prompt_id = caller.prompt(FULL)
    before = ok_json(caller.get(f"/prompts/{prompt_id}"))
    page = visit(key=caller.key).open(f"/prompts/{prompt_id}/edit")
    page.get_by_role("button", name="Save as a new version").click()
    page.wait_for_url(f"**/prompts/{prompt_id}")
    after = ok_json(caller.get(f"/prompts/{prompt_id}"))
    assert after == before
    assert after["version"] == 1
    assert "pictures only" in page.inner_text("main")


def test_fields_can_be_removed_from_a_prompt(visit, caller):
    prompt_id = caller.prompt(FULL)
    page = visit(key=caller.key).open(f"/prompts/{prompt_id}/edit")
    page.get_by_label("Pictures only").uncheck()
    page.get_by_label("Frames of each segment").fill("")
    page.get_by_label("Resolution", exact=True).select_option("")
    page.locator("#synthesis_text").fill("")
    page.locator("#synthesis_schema").fill("")
    page.locator("#disabled_synthesis_fields").fill("")
    page.get_by_role("button", name="Save as a new version").click()
    page.wait_for_url(f"**/prompts/{prompt_id}")
    after = ok_json(caller.get(f"/prompts/{prompt_id}"))
    assert after["video_level"] is None
    assert not (after["media"] or {}).get("pictures_only")
    assert after["semantic_indexing"]["disabled_video_level_fields"] == []


def test_all_problems_are_shown_with_their_paths(visit, caller):
    visitor = visit(key=caller.key)
    page = visitor.open("/prompts/new")
    page.locator("form.wide-form").evaluate("form => form.noValidate = true")
    page.get_by_label("Name").fill("x")
    page.get_by_label("Text: what the model does").fill("short")
    page.get_by_label("JSON schema of the answer").fill('{"type": "object", oops')
    page.get_by_text("Synthesis of each item").click()
    page.locator("#synthesis_text").fill("Sum up.")
    page.locator("#synthesis_schema").fill(
        '{"type": "object", "properties": {"a": {"type": "string", "minLength": "b"}}}'
    )
    page.get_by_role("button", name="Create the prompt").click()
    shown = page.get_by_role("alert").inner_text()
    for path in ("name:", "prompt_text:", "json_schema: is not JSON at line 1, column", "video_level.json_schema"):
        assert path in shown, (path, shown)
    assert "minLength" in shown
    assert page.get_by_label("Name").input_value() == "x"
    assert page.get_by_label("JSON schema of the answer").input_value() == '{"type": "object", oops'
    assert page.get_by_label("Name").get_attribute("aria-invalid") == "true"
    assert ok_json(caller.get("/prompts"))["total_count"] == 0


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"json_schema": '{"type": "object", "properties": {"a": {"$ref": "https://x/y"}}}'}, "json_schema"),
        ({"json_schema": "[]"}, "json_schema"),
        ({"json_schema": "[" * 5000}, "json_schema"),
        ({"disabled_fields": "colour"}, "semantic_indexing.disabled_segment_fields"),
        ({"frames_per_segment": "many"}, "media.frames_per_segment"),
        ({"resolution": "huge"}, "media.resolution"),
        ({"synthesis_text": "Sum up."}, "video_level.json_schema"),
    ],
)
def test_problem_names_its_field(service, caller, fields, path):
    client = PageClient(service.base_url, caller.key)
    given = {"name": "colours", "prompt_text": "Say what happens.", "json_schema": json.dumps(DESCRIBE["json_schema"])}
    answer = client.post("/prompts/new", {**given, **fields})
    assert answer.status_code == 422
    assert f"<code>{path}" in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert ok_json(caller.get("/prompts"))["total_count"] == 0


def test_key_in_a_schema_that_occurs_twice_is_a_problem(visit, caller):
    page = visit(key=caller.key).open("/prompts/new")
    fields = {"name": "twice", "prompt_text": "Say what happens.", "form_token": token_on(page)}
    answer = page.request.post("/prompts/new", form={**fields, "json_schema": '{"type": "object", "type": "array"}'})
    assert answer.status == 422
    assert "occurs more than once" in answer.text()


def test_hostile_prompt_stays_text(visit, caller):
    schema = {
        "type": "object",
        "properties": {HOSTILE: {"type": "string", "description": "</pre><script>alert(2)</script>"}},
    }
    definition = {
        "name": HOSTILE,
        "description": HOSTILE,
        "prompt_text": f"{HOSTILE} </textarea>",
        "json_schema": schema,
    }
    prompt_id = caller.prompt(definition)
    visitor = visit(key=caller.key)
    for path in ("/prompts", f"/prompts/{prompt_id}", f"/prompts/{prompt_id}/edit", f"/prompts/{prompt_id}/run"):
        page = check_page(visitor, path)
        assert page.locator("main img").count() == 0
        assert HOSTILE in page.inner_text("main") or HOSTILE in page.get_by_label("Name").first.input_value()
    page = visitor.open(f"/prompts/{prompt_id}/edit")
    assert json.loads(page.get_by_label("JSON schema of the answer").input_value()) == schema


def test_key_that_only_reads_cannot_change_prompts(visit, service, world):
    reader = service.caller("read", account_id=world.caller.account_id)
    page = visit(key=reader.key).open(f"/prompts/{world.prompt_id}")
    assert page.get_by_role("link", name="New version").count() == 0
    token = token_on(page)
    assert page.goto("/prompts/new").status == 403
    for path in ("/prompts/new", f"/prompts/{world.prompt_id}/edit", f"/prompts/{world.prompt_id}/run"):
        answer = page.request.post(path, form={"form_token": token, "name": "mine", "key": "k"})
        assert answer.status == 403, path
        assert "authorization_insufficient_scope" in answer.text()


def test_unknown_prompts_and_versions_are_not_found(visit, caller, world):
    page = visit(key=caller.key).page
    mine = caller.prompt()
    for path in (f"/prompts/{world.prompt_id}", f"/prompts/{world.prompt_id}/edit", f"/prompts/{mine}?version=7"):
        assert page.goto(path).status == 404, path
