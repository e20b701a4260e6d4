"""Texts that contain scripts in everything that a page shows or echoes, on every page of a real browser.

The browser ignores the Content-Security-Policy here, so that these tests fail if a single text is not escaped.
"""

import dataclasses
import json
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest

from tests.api_server import ok_json
from tests.prompts import NESTED
from tests.site.browser import Visitor
from tests.site.xss_payloads import PAYLOADS
from tests.synthetic_runs import Catalogue, segment_id

pytest_plugins = ["tests.api_fixtures", "tests.site.browser_fixtures"]

SIZE = "fetch(location.href).then(response => response.arrayBuffer()).then(content => content.byteLength)"
NAMES = tuple(payload.replace("\x00", "") for payload in PAYLOADS)  # PostgreSQL and file systems reject a null


@pytest.fixture(scope="module")
def hostile(service):
    """Two runs over 200 items whose names and answers are the payloads, and one over an item with 200 such segments."""
    caller = service.caller()
    catalogue = Catalogue(service, caller.account_id)
    indexes = [catalogue.index(name) for name in NAMES]
    videos = [catalogue.video(indexes[0], name) for name in NAMES]
    names = dict(zip(videos, NAMES, strict=True))
    answers = {video: [{"summary": text, "keywords": [text]}] for video, text in zip(videos, PAYLOADS, strict=True)}
    other = {video: [{"summary": text + " "}] for video, text in zip(videos, PAYLOADS, strict=True)}
    prompt = dataclasses.replace(NESTED, name=NAMES[0])
    item = catalogue.video(indexes[0], NAMES[1])
    texts = {segment_id(item, number): text for number, text in enumerate(PAYLOADS)}
    return SimpleNamespace(
        caller=caller,
        catalogue=catalogue,
        index=indexes[0],
        run=catalogue.run(answers, prompt, indexes[0], names=names),
        other=catalogue.run(other, prompt, indexes[0], names=names),
        long=catalogue.run(
            {item: [{"summary": text} for text in PAYLOADS]},
            prompt,
            indexes[0],
            names={item: NAMES[1]},
            spoken=texts,
            calls=texts,
        ),
        item=item,
    )


@pytest.fixture
def open_unprotected(browser, service, hostile):
    """Open a page without its Content-Security-Policy; check that no script ran and return the page."""
    visitor = Visitor(browser, service.base_url, bypass_csp=True).sign_in(hostile.caller.key)

    def open_page(path, status=200):
        response = visitor.page.goto(path, wait_until="load")
        assert response.status == status, f"{path}: {response.status}"
        problems = [problem for problem in visitor.problems if "404 (Not Found)" not in problem]
        assert not [problem for problem in problems if "Failed to load resource" not in problem], (path, problems)
        return visitor.page

    yield open_page
    visitor.close()


def shown(page, selector):
    """Return the texts of elements as they are in the document."""
    return page.locator(selector).evaluate_all("all => all.map(element => element.textContent)")


def submit(page, form, text):
    """Submit a form with a text in each of its fields, without the checks of the browser."""
    with page.expect_navigation():
        page.locator(form).evaluate(
            """(form, text) => {
                for (const field of form.querySelectorAll("input:not([type=hidden]), textarea, select")) {
                    if (field.tagName === "SELECT") field.add(new Option(text, text, true, true));
                    else { field.type === "number" && (field.type = "text"); field.value = text; }
                }
                form.submit();
            }""",
            text,
        )


def test_item_names_on_the_run_page(open_unprotected, hostile):
    found = []
    for number in range(1, 5):
        found += shown(open_unprotected(f"/runs/{hostile.run}?page={number}"), ".tile .name")
    assert sorted(found) == sorted(NAMES)


def test_answers_and_transcripts_on_the_item_page(open_unprotected, hostile):
    answers, transcripts = [], []
    for number in range(1, 9):
        page = open_unprotected(f"/runs/{hostile.long}/items/{hostile.item}?page={number}")
        answers += shown(page, ".segment .fields dd bdi")
        transcripts += shown(page, ".segment blockquote bdi")
    assert answers == transcripts == list(NAMES)


def test_calls_page(open_unprotected, hostile):
    for number in range(1, 21):
        page = open_unprotected(f"/runs/{hostile.long}/items/{hostile.item}/calls?page={number}")
        assert len(shown(page, "article pre")) == 30


def test_hits_and_differences(open_unprotected, hostile):
    page = open_unprotected(f"/search?run={hostile.run}&field=summary&op=is_not_empty&value=")
    found = []
    while True:
        found += shown(page, ".hits .name bdi")
        following = page.get_by_role("link", name="Next page")
        if not following.count():
            break
        page = open_unprotected(following.get_attribute("href"))
    assert sorted(found) == sorted(NAMES)
    open_unprotected(f"/search?{urlencode({'q': 'alert', 'index': hostile.index})}")
    page = open_unprotected(f"/compare?base={hostile.run}&other={hostile.other}")
    assert set(shown(page, ".changes td bdi")[0]) <= set("".join(NAMES))
    open_unprotected("/compare")


def test_sql_results_and_column_names(open_unprotected, hostile):
    page = open_unprotected("/sql?" + urlencode({"q": "SELECT name FROM media", "run": hostile.run}))
    assert sorted(shown(page, "tbody td:last-child bdi")) == sorted(NAMES)
    quoted = ['"' + name.replace('"', '""') + f' {number}"' for number, name in enumerate(NAMES)]
    for first in range(0, len(NAMES), 25):
        columns = ", ".join(f"1 AS {name}" for name in quoted[first : first + 25])
        open_unprotected("/sql?" + urlencode({"q": f"SELECT {columns}"}))


def test_requests_are_echoed_as_text(open_unprotected, hostile):
    for text in NAMES:
        page = open_unprotected("/runs?" + urlencode({"q": text, "model": text}))
        assert page.get_by_label("Name or prompt").input_value() == text.replace("\n", "")
    for text in NAMES[::7]:
        page = open_unprotected("/sql?" + urlencode({"q": f"CHOOSE {text}"}), 422)
        assert page.get_by_role("alert").count() == 1
        open_unprotected("/search?" + urlencode({"field": text, "op": "contains", "value": text}), 422)
        open_unprotected(f"/runs/{hostile.run}?" + urlencode({"q": text}))


def test_names_of_runs_and_prompts_in_the_list(open_unprotected, hostile):
    page = open_unprotected("/runs")
    assert NAMES[0] in shown(page, "tbody th bdi")


TEXT = "\n".join(NAMES[::3])[:4_900]  # of at most 5,000 characters


@pytest.fixture(scope="module")
def prompt_id(hostile):
    """A prompt of two versions whose texts are payloads."""
    schema = {
        "type": "object",
        "title": NAMES[1],
        "properties": {f"f{number}": {"type": "string", "description": text} for number, text in enumerate(NAMES)},
    }
    level = {"instructions_text": TEXT, "included_segment_fields": ["f0"], "json_schema": schema}
    definition = {
        "name": NAMES[2], "description": "".join(NAMES[3:9]), "prompt_text": TEXT, "json_schema": schema,
        "video_level": level,
    }  # fmt: skip
    created = hostile.caller.prompt(definition)
    ok_json(hostile.caller.put(f"/prompts/{created}", json={"prompt_text": TEXT + " Again."}))
    return created


def test_prompts(open_unprotected, prompt_id):
    assert NAMES[2] in shown(open_unprotected("/prompts"), "tbody th bdi")
    for path in (f"/prompts/{prompt_id}", f"/prompts/{prompt_id}?version=1"):
        page = open_unprotected(path)
        schemas = [json.loads(text) for text in shown(page, "pre") if text.startswith("{")]
        assert len(schemas) == 2
        for schema in schemas:
            assert [field["description"] for field in schema["properties"].values()] == list(NAMES)
    page = open_unprotected(f"/prompts/{prompt_id}/edit")
    assert page.locator("#prompt_text").input_value() == TEXT + " Again."
    open_unprotected("/prompts?" + urlencode({"q": NAMES[1]}))


def test_rejected_prompt_is_shown_again(open_unprotected):
    for text in NAMES[::10]:
        page = open_unprotected("/prompts/new")
        submit(page, "main form", text)
        assert page.get_by_role("alert").count() == 1
        assert page.locator("#json_schema").input_value() == text
    open_unprotected("/prompts/new")


def test_form_that_runs_a_prompt(open_unprotected, hostile, prompt_id):
    page = open_unprotected(f"/prompts/{prompt_id}/run?" + urlencode({"step": "choose", "index": hostile.index}))
    offered = shown(page, "label bdi")
    assert len(offered) >= 100
    assert set(offered) <= set(NAMES)
    fields = ("index", "model", "video", "audio", "definition", "name", "video_seconds")
    for text in NAMES[::7]:
        echoed = urlencode({"step": "estimate", "item": text, **dict.fromkeys(fields, text)})
        open_unprotected(f"/prompts/{prompt_id}/run?{echoed}", 422)


def test_indexes_and_keys(open_unprotected, hostile):
    assert set(NAMES) <= set(shown(open_unprotected("/indexes"), "tbody th bdi"))
    page = open_unprotected(f"/indexes/{hostile.index}")
    assert set(shown(page, ".tile .name")) <= set(NAMES)
    open_unprotected(f"/indexes/{hostile.index}?" + urlencode({"q": NAMES[1]}))
    created = [
        ok_json(hostile.caller.post("/api-keys", {"name": name}), 201)["key_id"] for name in NAMES if len(name) <= 100
    ]
    assert len(created) > 150
    assert set(shown(open_unprotected("/keys"), "tbody th bdi")) >= {name for name in NAMES if len(name) <= 100}
    open_unprotected(f"/keys/{created[0]}/revoke")


def test_rejected_media_names(open_unprotected, hostile):
    for first in (0, 100):
        page = open_unprotected(f"/upload?index={hostile.index}")
        names = NAMES[first : first + 100]
        files = [{"name": name, "mimeType": "text/plain", "buffer": b"no media"} for name in names]
        page.locator("input[type=file]").set_input_files(files)
        with page.expect_navigation():
            page.get_by_role("button", name="Upload").click()
        assert len(shown(page, ".outcomes li")) == len(names)
        assert "rejected" in page.locator(".outcomes").inner_text()
    for text in NAMES[::10]:
        page = open_unprotected("/upload")
        submit(page, "form[action='/upload/uri']", text)
        assert page.get_by_role("alert").count() == 1
        assert page.locator("#uri").input_value() == text.strip()


def test_rejected_indexes_and_keys_are_shown_again(open_unprotected):
    for text in NAMES[::20]:
        page = open_unprotected("/keys")
        submit(page, "form[action='/keys']", text)
        assert page.get_by_role("alert").count() == 1
        page = open_unprotected("/indexes")
        submit(page, "form[action='/indexes']", text * 20)
        assert page.get_by_role("alert").count() == 1
    open_unprotected("/docs")


@pytest.mark.parametrize("character", ['"', "字", "a"])
def test_long_texts_stay_within_the_size_of_a_page(open_unprotected, hostile, character):
    catalogue, texts = hostile.catalogue, [character * 9_000] * 30
    video = catalogue.video()
    spoken = {segment_id(video, number): text for number, text in enumerate(texts)}
    answers = [
        {"summary": text, "keywords": [text[:500]] * 20, "extra": {f"k{n}": text for n in range(50)}} for text in texts
    ]
    run_id = catalogue.run({video: answers}, spoken=spoken, calls=spoken)
    path = f"/runs/{run_id}/items/{video}"
    for part in (path, f"{path}/calls"):
        page = open_unprotected(part)
        assert page.evaluate(SIZE) < 500_000
