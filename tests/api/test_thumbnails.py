"""Thumbnails: results and segments name a frame, which loads with an API key or by the signed URL alone."""

import io
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2 as httpx
import pytest
from PIL import Image

from promptreel.api.app import PREFIX
from promptreel.api.runs.thumbnails import MAX_BYTES, Frame, middle_frames, shrink
from promptreel.api.uploads.links import link_token
from tests.api_server import assert_error, ok_json
from tests.pipeline_runs import make_video, rows_of

pytest_plugins = ["tests.api_fixtures"]


def results_of(world, video_id):
    found = world.caller.get(f"/prompt-runs/{world.run_id}/results", params={"video_id": video_id})
    return ok_json(found)["data"]


def load(url, **headers):
    """Load a URL like an <img> tag: without an API key."""
    return httpx.get(url, headers=headers)


def frames_of(world, video_id):
    """Return the content of the sampled frames of an item by time in microseconds."""
    rows = rows_of(world.service.data, world.run_id, "frames", "video_id = $item", item=video_id)
    return {row["time_us"]: (Path(world.service.data) / row["file"]).read_bytes() for row in rows}


def test_results_name_the_middle_frame_of_each_segment(world):
    frames = frames_of(world, world.video_id)
    results = results_of(world, world.video_id)
    assert len(results) == 3
    for row in results:
        assert row["thumbnail_available"] is True
        time_us = int(parse_qs(urlsplit(row["thumbnail_uri"]).query)["time_us"][0])
        middle = round((row["start_time"] + row["end_time"]) * 500_000)
        inside = [time for time in frames if row["start_time"] * 1e6 <= time < row["end_time"] * 1e6]
        assert abs(time_us - middle) == min(abs(time - middle) for time in inside)
        answer = load(row["thumbnail_uri"])
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
        assert answer.content == frames[time_us]


@pytest.mark.parametrize("path", ["/videos/{}/segments", "/videos/batch/segments"])
def test_segments_name_the_same_frame_as_results(world, path):
    if "batch" in path:
        [item] = ok_json(world.caller.post(path, {"targets": [{"video_id": world.video_id, "run_id": world.run_id}]}))
        segments = item["segments"]
    else:
        segments = ok_json(world.caller.get(path.format(world.video_id), params={"run_id": world.run_id}))["data"]
    wanted = {row["segment_id"]: urlsplit(row["thumbnail_uri"]).query for row in results_of(world, world.video_id)}
    assert {row["segment_id"]: urlsplit(row["thumbnail_uri"]).query for row in segments} == wanted
    assert all(row["thumbnail_available"] for row in segments)


def test_failed_segments_have_a_thumbnail_too(world):
    failed = [row for row in results_of(world, world.video_id) if not row["field_extraction_succeeded"]]
    assert failed
    assert all(row["thumbnail_available"] for row in failed)


def test_image_has_a_thumbnail_and_audio_has_none(world):
    [image] = results_of(world, world.image_id)
    assert image["thumbnail_available"]
    assert load(image["thumbnail_uri"]).status_code == 200
    for row in results_of(world, world.audio_id):
        assert (row["thumbnail_uri"], row["thumbnail_available"]) == (None, False)
    assert_error(world.caller.get(f"/videos/{world.audio_id}/thumbnail"), 404, "resource_thumbnail_not_found")


def test_synthesis_has_thumbnails_of_the_item_and_its_first_segment(world):
    result = ok_json(world.caller.get(f"/prompt-runs/{world.run_id}/videos/{world.video_id}/video-result"))
    first = results_of(world, world.video_id)[0]
    assert result["thumbnail_available"] is True
    assert load(result["thumbnail_uri"]).status_code == 200
    assert urlsplit(result["preview_thumbnail_uri"]).query == urlsplit(first["thumbnail_uri"]).query
    assert load(result["preview_thumbnail_uri"]).content == load(first["thumbnail_uri"]).content


def test_items_name_a_frame_of_their_newest_run(world):
    bodies = [
        ok_json(world.caller.get(f"/videos/{world.video_id}")),
        ok_json(world.caller.post("/videos/batch", {"video_ids": [world.video_id]}))[0],
        next(
            body
            for body in ok_json(world.caller.get(f"/indexes/{world.index_id}/videos"))["data"]
            if body["video_id"] == world.video_id
        ),
    ]
    for body in bodies:
        assert body["thumbnail_available"] is True
        assert load(body["thumbnail_uri"]).headers["content-type"] == "image/jpeg"


def test_items_without_a_picture_have_no_thumbnail(world):
    for video_id in (world.audio_id, world.playground_id, world.lost_video_id):
        body = ok_json(world.caller.get(f"/videos/{video_id}"))
        assert (body["thumbnail_uri"], body["thumbnail_available"]) == (None, False)


def test_key_loads_any_frame_of_an_own_run(world):
    path = f"/videos/{world.video_id}/thumbnail"
    for time_us, content in frames_of(world, world.video_id).items():
        answer = world.caller.get(path, params={"run_id": world.run_id, "time_us": time_us})
        assert answer.content == content
    assert world.caller.get(path).status_code == 200  # the item's own, of its newest run
    missing = world.caller.get(path, params={"run_id": world.run_id, "time_us": 999_999_999})
    assert_error(missing, 404, "resource_thumbnail_not_found")


def test_thumbnail_of_another_account_is_not_found(world):
    stranger = world.service.caller()
    path = f"/videos/{world.video_id}/thumbnail"
    assert_error(stranger.get(path), 404, "resource_video_not_found")
    assert_error(stranger.get(path, params={"run_id": world.run_id}), 404, "resource_video_not_found")
    assert_error(httpx.get(f"{world.service.base_url}{PREFIX}{path}"), 401, "authentication_required")


def test_token_loads_only_the_frame_that_it_signs(world):
    url = results_of(world, world.video_id)[0]["thumbnail_uri"]
    other = results_of(world, world.video_id)[1]["thumbnail_uri"]
    signed, wanted = parse_qs(urlsplit(url).query), parse_qs(urlsplit(other).query)
    for changed in (
        {"time_us": wanted["time_us"]},
        {"run_id": [world.measured_id]},
        {"token": ["x"]},
        {"expires": [str(int(signed["expires"][0]) + 1)]},
        {"expires": ["1"]},
    ):
        query = {name: values[0] for name, values in {**signed, **changed}.items()}
        assert_error(httpx.get(url.split("?")[0], params=query), 403, "link_expired")
    token = {"expires": signed["expires"][0], "token": signed["token"][0]}
    content = url.split("?")[0].removesuffix("thumbnail") + "content"
    assert_error(httpx.get(content, params=token), 403, "link_expired")


def test_content_token_does_not_load_a_frame(world):
    url = results_of(world, world.video_id)[0]["thumbnail_uri"]
    expires = int(parse_qs(urlsplit(url).query)["expires"][0])
    secret = (Path(world.service.data) / "api/link-secret").read_bytes()
    query = {"run_id": world.run_id, "expires": expires, "token": link_token(secret, world.video_id, expires)}
    assert_error(httpx.get(url.split("?")[0], params=query), 403, "link_expired")


def test_frame_is_cached_privately_and_validated_by_its_tag(world):
    url = results_of(world, world.video_id)[0]["thumbnail_uri"]
    answer = load(url)
    assert answer.headers["cache-control"] == "private, max-age=3600"
    tag = answer.headers["etag"]
    for sent in (tag, f'W/{tag}, "other"', "*"):
        again = load(url, **{"If-None-Match": sent})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert load(url, **{"If-None-Match": '"other"'}).status_code == 200


def test_url_stays_the_same_for_some_time(world):
    first, again = (results_of(world, world.video_id)[0]["thumbnail_uri"] for _ in range(2))
    assert first == again


def test_removed_analysis_means_no_thumbnail(service, tmp_path):
    caller = service.caller()
    index_id, prompt_id = caller.index(), caller.prompt()
    video_id = caller.video(make_video(tmp_path / "bars.mp4", pattern="smptebars"), index_id)
    run_id = caller.start(prompt_id, {"type": "index", "index_id": index_id})
    caller.wait(run_id)
    path = f"/videos/{video_id}/thumbnail"
    [first, *_] = rows_of(service.data, run_id, "frames")
    folder = Path(service.data) / first["file"].split("/frames/")[0]
    hidden = folder.with_name("hidden")
    folder.rename(hidden)
    try:
        rows = ok_json(caller.get(f"/prompt-runs/{run_id}/results", params={"video_id": video_id}))["data"]
        assert [(row["thumbnail_uri"], row["thumbnail_available"]) for row in rows] == [(None, False)] * len(rows)
        assert_error(caller.get(path), 404, "resource_thumbnail_not_found")
    finally:
        hidden.rename(folder)


def test_deleted_item_has_no_thumbnail(service, api_media):
    caller = service.caller()
    index_id, prompt_id = caller.index(), caller.prompt()
    video_id = caller.video(api_media / "c.png", index_id)
    caller.wait(run_id := caller.start(prompt_id, {"type": "index", "index_id": index_id}))
    [row] = ok_json(caller.get(f"/prompt-runs/{run_id}/results", params={"video_id": video_id}))["data"]
    assert load(row["thumbnail_uri"]).status_code == 200
    assert caller.delete(f"/videos/{video_id}").status_code == 200
    assert_error(load(row["thumbnail_uri"]), 404, "resource_video_not_found")


def test_large_frames_are_shrunk():
    noise = Image.effect_noise((2400, 1600), 90).convert("RGB")
    large = io.BytesIO()
    noise.save(large, "JPEG", quality=95)
    assert len(large.getvalue()) > 1_000_000
    small = shrink(large.getvalue())
    assert len(small) < MAX_BYTES
    assert Image.open(io.BytesIO(small)).size == (320, 213)


def test_small_frames_are_served_as_sampled():
    plain = io.BytesIO()
    Image.new("RGB", (854, 480), "blue").save(plain, "JPEG")
    assert shrink(plain.getvalue()) == plain.getvalue()


def test_middle_frame_is_the_nearest_of_its_own_segment():
    rows = [
        {"segment_id": segment_id, "time_us": time_us, "file": f"{time_us}.jpg"}
        for segment_id, time_us in [("a", 0), ("a", 4), ("b", 4), ("b", 9), ("a", 9)]
    ]
    segments = [
        {"segment_id": "a", "start_us": 0, "end_us": 10},
        {"segment_id": "b", "start_us": 4, "end_us": 12},
        {"segment_id": "c", "start_us": 12, "end_us": 20},
    ]
    assert middle_frames(rows, segments) == {"a": Frame(4, "4.jpg"), "b": Frame(9, "9.jpg")}


def test_search_hits_name_the_frame_of_their_segment(world):
    wanted = {row["segment_id"]: urlsplit(row["thumbnail_uri"]).query for row in results_of(world, world.video_id)}
    body = {"query": "describe", "top_k": 50, "run_ids": [world.run_id]}
    hits = ok_json(world.caller.post(f"/indexes/{world.index_id}/search", body))
    segments = [hit for hit in hits if hit["video_id"] == world.video_id and hit["result_type"] == "segment"]
    assert segments
    for hit in segments:
        assert hit["thumbnail_available"] is True
        assert urlsplit(hit["thumbnail_uri"]).query == wanted[hit["segment_id"]]
    [item] = [hit for hit in hits if hit["video_id"] == world.video_id and hit["result_type"] == "video"]
    assert urlsplit(item["thumbnail_uri"]).query == wanted[item["preview_segment_id"]]
    assert item["preview_thumbnail_uri"] == item["thumbnail_uri"]


def test_filter_hits_name_the_frame_of_their_segment(world):
    wanted = {row["segment_id"]: urlsplit(row["thumbnail_uri"]).query for row in results_of(world, world.video_id)}
    conditions = [{"field": "duration_seconds", "operator": "greater_than", "value": 0, "type": "number"}]
    body = {"conditions": conditions, "run_ids": [world.measured_id]}
    hits = ok_json(world.caller.post(f"/search/filter/{world.index_id}", body))["results"]
    films = [hit for hit in hits if hit["video_id"] == world.video_id]
    assert len(films) == 3
    for hit in films:
        query = urlsplit(hit["thumbnail_uri"]).query
        assert parse_qs(query)["time_us"] == parse_qs(wanted[hit["segment_id"]])["time_us"]
        assert load(hit["thumbnail_uri"]).status_code == 200
