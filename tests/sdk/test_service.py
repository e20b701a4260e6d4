"""Both clients against a real service."""

import io
import os

import httpx2 as httpx
import pytest

from promptreel import sdk
from promptreel.schemas.wire.videos import SegmentTarget
from tests.pipeline_runs import make_image
from tests.sdk.bodies import PROMPT_TEXT, SCHEMA, SYNTHESIS


def test_run_from_upload_to_retry_of_failures(client, real_service, clip, tmp_path):
    suffix = os.urandom(4).hex()
    index = client.indexes.create(f"films {suffix}")
    prompt = client.prompts.create(f"length {suffix}", PROMPT_TEXT, SCHEMA, video_level=SYNTHESIS)
    present = client.videos.upload(clip, index_id=index.index_id)
    missing_file = real_service.media / f"{suffix}.mp4"
    missing_file.write_bytes(clip.read_bytes())
    missing = client.videos.register("missing", missing_file.as_uri(), index_id=index.index_id)
    target = {"type": "index", "index_id": index.index_id}
    settings = {"video_segmentation_type": "fixed", "video_segment_duration": 1}
    settings |= {"enable_transcription": False, "enable_image_embedding": False}

    estimate = client.prompt_runs.estimate(prompt.prompt_id, target, **settings)
    assert estimate.breakdown["prompt_run_estimate"]["eligible_item_count"] == 2

    missing_file.rename(tmp_path / "moved.mp4")
    queued = client.prompt_runs.execute(prompt.prompt_id, target, **settings, idempotency_key="once")
    assert client.prompt_runs.execute(prompt.prompt_id, target, **settings, idempotency_key="once") == queued
    reported = []
    done = client.prompt_runs.wait_for_completion(
        queued.run_id, timeout_s=90, poll_interval_s=0.1, on_progress=reported.append
    )
    assert (done.status, done.completed_videos, done.failed_videos) == ("completed_with_failures", 1, 1)
    assert reported[-1] == done
    assert len(reported) > 1
    assert [run.run_id for run in client.prompt_runs.list(limit=5)] == [done.run_id]
    assert [run.run_id for run in client.indexes.list_prompt_runs(index.index_id)] == [done.run_id]
    assert [run.run_id for run in client.videos.list_prompt_runs(present.video_id)] == [done.run_id]

    results = client.prompt_runs.list_results(done.run_id, present.video_id, limit=2)
    assert (len(results.data), results.has_more) == (2, True)
    assert [(row.start_time, row.end_time) for row in results] == [(0, 1), (1, 2), (2, 3)]
    assert all(row.metadata["duration_seconds"] == pytest.approx(1, abs=0.1) for row in results)
    synthesis = client.prompt_runs.get_video_result(done.run_id, present.video_id)
    assert synthesis.metadata["duration_seconds"] == pytest.approx(3, abs=0.2)
    assert len(list(client.videos.list_segments(present.video_id, run_id=done.run_id, limit=1))) == 3
    assert isinstance(client.prompt_runs.get_llm_calls(done.run_id), list)
    assert [row.video_id for row in client.videos.batch_status([present.video_id, missing.video_id])] == [
        present.video_id,
        missing.video_id,
    ]
    of_run = client.videos.batch_segments(targets=[SegmentTarget(video_id=present.video_id, run_id=done.run_id)])
    of_newest_run = client.videos.batch_segments(video_ids=[present.video_id])
    assert [len(rows[0].segments) for rows in (of_run, of_newest_run)] == [3, 3]

    failures = client.prompt_runs.get_failed_segments(done.run_id)
    assert (failures.failed_segments, failures.videos[0].video_id) == (1, missing.video_id)
    # A missing file is not retryable by default.
    with pytest.raises(sdk.ConflictError, match="nothing_to_retry"):
        client.prompt_runs.retry_failures(done.run_id)
    (tmp_path / "moved.mp4").rename(missing_file)
    segment_id = failures.videos[0].segments[0].segment_id
    retry = client.prompt_runs.retry_segment(done.run_id, missing.video_id, segment_id)
    finished = client.prompt_runs.wait_for_retry(done.run_id, retry.retry_id, timeout_s=90, poll_interval_s=0.1)
    assert finished.status == "completed"
    assert (
        client.prompt_runs.get_segment_retry_status(done.run_id, missing.video_id, segment_id, retry.retry_id)
        == finished
    )
    assert client.prompt_runs.get_failed_segments(done.run_id).failed_segments == 0
    assert len(list(client.prompt_runs.list_results(done.run_id, missing.video_id))) == 3

    event_types = []
    events = client.events.stream(run_id=done.run_id, last_event_id="0")
    while not event_types or event_types[-1] != "prompt_run.partial_completed":
        event_types.append(next(events).event_type)
    events.close()
    assert event_types[0] == "prompt_run.started"


def test_run_over_missing_file_fails_and_queued_run_cancels(client, real_service, clip):
    prompt = client.prompts.create("length", PROMPT_TEXT, SCHEMA)
    file = real_service.media / f"{os.urandom(4).hex()}.mp4"
    file.write_bytes(clip.read_bytes())
    video = client.videos.register("missing", file.as_uri())
    file.unlink()
    run = client.prompt_runs.execute(prompt.prompt_id, {"type": "videos", "video_ids": [video.video_id]})
    with pytest.raises(sdk.RunFailed, match="media_not_found") as caught:
        client.prompt_runs.wait_for_completion(run.run_id, timeout_s=90, poll_interval_s=0.1)
    assert caught.value.state.failed_videos == 1

    client.videos.upload(clip, title="present")
    run = client.prompt_runs.execute(prompt.prompt_id, {"type": "playground"})
    client.prompt_runs.cancel(run.run_id)
    finished = client.prompt_runs.wait_for_completion(run.run_id, timeout_s=90, poll_interval_s=0.1)
    # If the runner had already started, it counts the missing file as failed.
    assert (finished.status, finished.cancelled_videos + finished.failed_videos) == ("cancelled", 2)


def test_prompts_are_created_updated_and_deleted(client):
    created = client.prompts.create("first", PROMPT_TEXT, SCHEMA, description="d", video_level=SYNTHESIS)
    assert client.prompts.retrieve(created.prompt_id) == created
    updated = client.prompts.update(created.prompt_id, name="second", description="", clear_video_level=True)
    assert (updated.name, updated.description, updated.video_level) == ("second", "", None)
    assert (updated.prompt_text, updated.json_schema) == (PROMPT_TEXT, SCHEMA)
    listed = client.prompts.list(active_only=False)
    assert ([prompt.prompt_id for prompt in listed.prompts], listed.total_count) == ([created.prompt_id], 1)
    assert client.prompts.usage(created.prompt_id).is_in_use is False
    assert client.prompts.test_schema(SCHEMA, {"duration_seconds": 1}).valid is True
    assert client.prompts.test_schema(SCHEMA, {}).valid is False
    assert created.prompt_id in client.prompts.delete(created.prompt_id).message
    with pytest.raises(sdk.NotFoundError) as caught:
        client.prompts.retrieve(created.prompt_id)
    assert caught.value.code == "resource_prompt_not_found"
    assert caught.value.request_id
    with pytest.raises(sdk.ValidationError, match="name"):
        client.prompts.create("", PROMPT_TEXT, SCHEMA)


def test_media_are_uploaded_listed_and_deleted(client, tmp_path):
    picture = make_image(tmp_path / "picture.png")
    index = client.indexes.create("pictures", description="d")
    assert client.indexes.retrieve(index.index_id) == index
    assert client.indexes.list() == [index]
    client.indexes.create("one", idempotency_key="same")
    with pytest.raises(sdk.ConflictError) as caught:
        client.indexes.create("other", idempotency_key="same")
    assert caught.value.code == "idempotency_request_mismatch"

    by_path = client.videos.upload(picture, title="by path", index_id=index.index_id)
    with picture.open("rb") as file:
        by_file = client.videos.upload(file, index_id=index.index_id)
    by_bytes = client.videos.upload(io.BytesIO(picture.read_bytes()), filename="x.png", index_id=index.index_id)
    assert [video.title for video in (by_path, by_file, by_bytes)] == ["by path", "picture.png", "x.png"]
    uploaded = [video.video_id for video in (by_bytes, by_file, by_path)]
    assert [video.video_id for video in client.indexes.list_videos(index.index_id, limit=1)] == uploaded
    assert [video.video_id for video in client.videos.batch(uploaded)] == uploaded
    assert client.videos.retrieve(by_path.video_id).media_type == "image"
    link = client.videos.signed_url(by_file.video_uri)
    assert httpx.get(link.signed_url, trust_env=False).content == picture.read_bytes()

    unindexed = client.videos.upload(picture)
    assert [video.video_id for video in client.playground.list_videos()] == [unindexed.video_id]
    assert client.videos.delete(unindexed.video_id).status == "deleted"
    assert client.videos.wait_for_deletion(unindexed.video_id).video_id == unindexed.video_id
    assert client.playground.list_videos().data == []
    with pytest.raises(sdk.NotFoundError):
        client.indexes.wait_for_deletion(index.index_id)
    client.indexes.delete(index.index_id)
    assert client.indexes.wait_for_deletion(index.index_id).status == "deleted"
    with pytest.raises(sdk.NotFoundError):
        client.videos.retrieve(by_path.video_id)
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    with pytest.raises(sdk.ValidationError):
        client.videos.upload(text)


def test_keys_are_created_used_and_revoked(client, make_client, real_service):
    created = client.api_keys.create("reader", scopes=["read"], expires_in_days=1)
    reader = make_client(created.key, real_service.base_url)
    reader.auth.validate()
    with pytest.raises(sdk.PermissionDeniedError, match="write"):
        reader.indexes.create("films")
    assert client.api_keys.retrieve(created.key_id).is_active
    rotated = client.api_keys.rotate(created.key_id)
    with pytest.raises(sdk.AuthenticationError, match="promptreel keys create"):
        reader.auth.validate()
    assert rotated.old_key_id == created.key_id
    assert client.api_keys.revoke(rotated.new_key.key_id).is_active is False
    client.api_keys.delete(created.key_id)
    assert created.key_id not in [key.key_id for key in client.api_keys.list()]
    assert client.rate_limits.status().categories["write"].minute_used > 0


def test_rejected_sql_generation_has_an_error_code(client):
    with pytest.raises(sdk.ApiStatusError) as caught:
        client.search.sql.generate("idx_1", "count")
    assert caught.value.status < 500
    assert caught.value.code != "unreadable_error"
