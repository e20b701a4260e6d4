"""Helpers of filter search tests; their fixtures are in `tests/api/filter_fixtures.py`."""

from tests.api_server import ok_json

EQUALS = {"field": "summary", "type": "string", "operator": "equals", "value": "a crane"}


CRANE, OTHER = {"summary": "A Crane", "scene": {"location": "dock"}}, {"summary": "a ship", "keywords": ["Dock"]}


def search(filter_caller, index_id, *conditions, **body):
    content = {"conditions": list(conditions), **body} if conditions else body
    return ok_json(filter_caller.post(f"/search/filter/{index_id}", content))


def found(page):
    return [(hit["run_id"], hit["segment_id"]) for hit in page["results"]]


def follow(filter_caller, index_id, *conditions, **body):
    """Return the hits of all pages; check the invariants of each page."""
    hits, tokens, cursor = [], set(), {}
    while True:
        page = search(filter_caller, index_id, *conditions, **body, **cursor)
        assert page["results"] == page["data"]
        assert page["total_shown"] == len(page["data"]) <= page["pagination"]["limit"]
        assert page["next_page_token"] == page["pagination"]["next_cursor"]
        assert page["pagination"]["has_more"] == (page["next_page_token"] is not None)
        hits += page["data"]
        if page["next_page_token"] is None:
            return hits
        assert page["next_page_token"] not in tokens
        tokens.add(page["next_page_token"])
        cursor = {"cursor": page["next_page_token"]}
