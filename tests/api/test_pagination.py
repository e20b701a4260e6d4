"""Pagination: limits, and cursors that are bound to their list."""

import base64
import json

import pytest

from tests.api_server import assert_error, ok_json

pytest_plugins = ["tests.api_fixtures"]


def test_pages_have_every_row_once_and_no_cursor_twice(caller, api_media):
    index_id = caller.index()
    videos = [caller.video(api_media / "c.png", index_id) for _ in range(5)]
    for limit in (1, 2, 5):
        video_ids, cursors, cursor = [], [], None
        while True:
            page = ok_json(
                caller.get(
                    f"/indexes/{index_id}/videos", params={"limit": limit, **({"cursor": cursor} if cursor else {})}
                )
            )
            video_ids += [video["video_id"] for video in page["data"]]
            cursor = page["pagination"]["next_cursor"]
            assert page["pagination"]["has_more"] is (cursor is not None)
            assert page["pagination"]["limit"] == limit
            if cursor is None:
                break
            cursors.append(cursor)
        assert video_ids == videos[::-1]
        assert len(set(cursors)) == len(cursors)


def test_results_are_paged_in_order_of_time(world):
    path = f"/prompt-runs/{world.run_id}/results"
    first = ok_json(world.caller.get(path, params={"video_id": world.video_id, "limit": 2}))
    cursor = first["pagination"]["next_cursor"]
    last = ok_json(world.caller.get(path, params={"video_id": world.video_id, "limit": 2, "cursor": cursor}))
    assert [row["start_time"] for row in first["data"] + last["data"]] == [0, 1, 2]
    assert last["pagination"] == {"limit": 2, "has_more": False, "next_cursor": None}
    # A cursor is bound to its list.
    other = {"video_id": world.audio_id, "cursor": cursor}
    assert_error(world.caller.get(path, params=other), 422, "validation_failed")
    assert_error(world.caller.get(f"/indexes/{world.index_id}/videos?cursor={cursor}"), 422, "validation_failed")


def test_a_modified_cursor_is_rejected(world):
    path = f"/prompt-runs/{world.run_id}/results"
    query = {"video_id": world.video_id, "limit": 1}
    cursor = ok_json(world.caller.get(path, params=query))["pagination"]["next_cursor"]
    signature, position = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))

    def forge(*values):
        return base64.urlsafe_b64encode(json.dumps([signature, list(values)]).encode()).decode().rstrip("=")

    assert ok_json(world.caller.get(path, params={**query, "cursor": forge(*position)}))["data"]
    bad = [
        "x",
        "%%%",
        cursor[:-3],
        "A" * 3000,
        forge("1", 0, "seg"),
        forge(99, 0, "seg"),
        forge(-1, 0, "s"),
        forge(1, 2**70, "s"),
    ]
    for value in (*bad, forge(1, 0), forge(1, 0, None), forge(True, 0, "s"), forge({}, [], "s")):
        assert_error(world.caller.get(path, params={**query, "cursor": value}), 422, "validation_failed")


@pytest.mark.parametrize("text", ["\ud800", "a\0b"])
def test_a_cursor_with_text_that_cannot_be_stored_is_rejected(world, text):
    path = f"/indexes/{world.index_id}/videos"
    cursor = ok_json(world.caller.get(path, params={"limit": 1}))["pagination"]["next_cursor"]
    signature, (timestamp, _) = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    forged = base64.urlsafe_b64encode(json.dumps([signature, [timestamp, text]]).encode()).decode().rstrip("=")
    assert_error(world.caller.get(path, params={"cursor": forged}), 422, "validation_failed")


@pytest.mark.parametrize("limit", ["0", "101", "-1", "many", "1.5"])
def test_a_limit_is_from_1_to_100(world, limit):
    for path in (
        f"/indexes/{world.index_id}/videos",
        f"/indexes/{world.index_id}/prompt-runs",
        f"/videos/{world.video_id}/segments",
        f"/prompt-runs/{world.run_id}/results?video_id={world.video_id}",
        "/playground/videos",
    ):
        separator = "&" if "?" in path else "?"
        assert_error(world.caller.get(f"{path}{separator}limit={limit}"), 422, "validation_failed")


def test_lists_of_runs_have_at_most_200_rows(world):
    assert len(ok_json(world.caller.get("/prompt-runs?limit=200"))) == 3
    assert len(ok_json(world.caller.get("/prompt-runs?limit=1"))) == 1
    assert_error(world.caller.get("/prompt-runs?limit=201"), 422, "validation_failed")
    newest_first = [run["executed_at"] for run in ok_json(world.caller.get("/prompt-runs"))]
    assert newest_first == sorted(newest_first, reverse=True)
