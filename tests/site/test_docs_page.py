"""The reference of the API in a real browser."""

import httpx2 as httpx
import pytest

from promptreel.api.site.api_reference import reference_operations, reference_tags
from promptreel.api.site.api_schema import MAX_ROWS, schema_rows
from tests.api_server import ok_json
from tests.site.browser import WIDTHS, Visitor, check_page

pytest_plugins = ["tests.api_fixtures", "tests.site.browser_fixtures"]


@pytest.fixture(scope="module")
def description(service):
    return ok_json(service.stranger().get("/openapi.json"))


@pytest.mark.parametrize("width", WIDTHS)
def test_reference_needs_no_key_and_no_other_host(browser, service, description, width):
    visitor = Visitor(browser, service.base_url, width)
    page = check_page(visitor, "/docs")
    assert page.locator(".operations li").count() == sum(
        len(operations) for operations in description["paths"].values()
    )
    assert f"{service.base_url}/api/v2/prompt-runs" in page.inner_text("pre")
    page.get_by_role("link", name="POST /api/v2/prompt-runs/execute").click()
    page.wait_for_url("**/docs/prompt-runs#post-prompt-runs-execute")
    assert "Start a run." in page.inner_text("main")
    visitor.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_every_tag_has_a_page(browser, service, description, width):
    visitor = Visitor(browser, service.base_url, width)
    for tag in reference_tags(description):
        page = check_page(visitor, f"/docs/{tag.name}")
        assert page.locator("article").count() == len(tag.entries)
    visitor.close()


def test_api_docs_lead_to_the_page(browser, service):
    visitor = Visitor(browser, service.base_url)
    page = visitor.open("/api/v2/docs")
    assert page.url == f"{service.base_url}/docs"
    assert not visitor.problems
    visitor.close()
    for path in ("/redoc", "/api/v2/redoc"):
        assert httpx.get(service.base_url + path).status_code in (303, 404)


def test_every_page_links_the_reference(visit, service, world):
    assert 'href="/docs"' in httpx.get(service.base_url + "/sign-in").text
    page = visit().open(f"/runs/{world.run_id}")
    page.get_by_role("link", name="API reference").click()
    page.wait_for_url("**/docs")
    assert page.get_by_role("button", name="Sign out").count() == 1  # the navigation stays


def test_unknown_tag_is_not_found(service):
    assert httpx.get(service.base_url + "/docs/no-such-tag").status_code == 404


def test_operations_have_all_parameters_and_fields(description):
    seen = 0
    for tag in reference_tags(description):
        for operation in reference_operations(description, tag.name):
            source = description["paths"][operation.path][operation.method.lower()]
            assert [row.path for _, row in operation.parameters] == [
                part["name"] for part in source.get("parameters", ())
            ]
            assert (operation.body is not None) == ("requestBody" in source)
            assert operation.text
            for body in filter(None, (operation.body, *(response.body for response in operation.responses))):
                seen += len(body.rows)
    assert seen > 1000


def test_schema_is_flattened():
    schemas = {
        "Tree": {
            "type": "object",
            "description": "A tree.\n\nAttributes:\n    name: what it is\n        called.\n    size, depth: numbers.",
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "size": {"anyOf": [{"type": "integer", "minimum": 2, "default": 3}, {"type": "null"}]},
                "children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}},
                "kind": {"oneOf": [{"$ref": "#/components/schemas/A"}, {"$ref": "#/components/schemas/B"}]},
            },
            "required": ["name"],
        },
        "A": {"type": "object", "description": "An a.", "properties": {"type": {"const": "a"}}},
        "B": {"type": "object", "properties": {"type": {"const": "b"}}},
    }
    rows = schema_rows({"type": "array", "items": {"$ref": "#/components/schemas/Tree"}}, schemas)
    assert [(row.path, row.kind, row.is_required, row.text) for row in rows] == [
        ("[].name", "string (not empty)", True, "what it is called."),
        ("[].size", "integer (≥ 2) or null", False, "numbers. Default: 3."),
        ("[].children", "array of Tree", False, ""),
        ("[].kind", "A or B", False, ""),
        ("[].kind", "A", False, "An a."),
        ("[].kind.type", '"a"', False, ""),
        ("[].kind", "B", False, ""),
        ("[].kind.type", '"b"', False, ""),
    ]


def test_rows_of_a_schema_are_bounded():
    wide = {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(MAX_ROWS + 5)}}
    assert len(schema_rows(wide, {})) == MAX_ROWS
