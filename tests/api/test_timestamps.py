"""All responses have times in one format: UTC, milliseconds, Z."""

import json
import re

import pytest

from promptreel.api.db.clock import wire_text
from tests.api.test_bodies import READS
from tests.api_server import ok_json

pytest_plugins = ["tests.api_fixtures"]

FORMAT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d")


def times(value, name=""):
    """Yield (name, value) of each field with a time in a JSON value."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from times(part, key)
    elif isinstance(value, list):
        for part in value:
            yield from times(part, name)
    else:
        is_named = value is not None and (name.endswith("_at") or name == "timestamp")
        if is_named or (isinstance(value, str) and TIME.match(value)):
            yield name, value


def assert_one_format(body, least):
    """Check the format of all times in a body, and that it has at least so many."""
    found = list(times(body))
    assert len(found) >= least, json.dumps(body)[:500]
    assert [(name, value) for name, value in found if name != "reset_at" and not FORMAT.fullmatch(str(value))] == []


WITHOUT_TIMES = ("failed segments", "failed item", "import outputs")


@pytest.mark.parametrize("name", READS)
def test_every_response_has_times_in_one_format(world, name):
    path, _ = READS[name]
    assert_one_format(ok_json(world.caller.get(path.format(**vars(world)))), name not in WITHOUT_TIMES)


def test_answers_to_writes_have_times_in_one_format(world):
    caller = world.caller
    both = {"video_ids": [world.video_id, world.lost_video_id]}
    assert_one_format(ok_json(caller.post("/videos/batch", both)), 2)
    assert_one_format(ok_json(caller.post("/videos/batch/status", both)), 2)
    assert_one_format(ok_json(caller.post("/videos/batch/segments", both)), 1)
    assert_one_format(ok_json(caller.post("/videos/signed-url", {"gcs_uri": f"media://{world.video_id}"})), 1)
    assert_one_format(caller.get("/prompt-runs/none").json(), 1)
    export_id = ok_json(caller.post(f"/exports/prompt-run/{world.run_id}"), 202)["export_id"]
    assert_one_format(ok_json(caller.get(f"/exports/{export_id}")), 1)
    assert_one_format(ok_json(caller.post(f"/indexes/{world.index_id}/search", {"query": "segment"})), 0)


@pytest.mark.parametrize(
    "text",
    ["2026-04-20T10:00:00.123456+00:00", "2026-04-20T10:00:00.123Z", "2026-04-20T12:00:00.123+02:00"],
)
def test_times_of_tables_are_converted(text):
    assert wire_text(text) == "2026-04-20T10:00:00.123Z"
