"""Make every call of a published client that the API supports, and check the client's results.

tests/sdk/test_published_clients.py runs this script in a process that can import `videovector`. The environment variable
GIVEN has the base URL, key, media folder and a retryable failed segment as JSON.
"""

import asyncio
import base64
import json
import os
import sys
import time

import videovector

GIVEN = json.loads(os.environ["GIVEN"])
MAJOR = int(videovector.__version__.split(".")[0])
RUN = {"video_segmentation_type": "fixed", "video_segment_duration": 1, "audio_segmentation_type": "fixed"}
RUN |= {"audio_segment_duration": 1, "enable_transcription": False, "enable_image_embedding": False}
SCHEMA = {"type": "object", "properties": {"duration_seconds": {"type": "number"}}, "required": ["duration_seconds"]}
LEVEL = {"instructions_text": "Measure the complete item.", "json_schema": SCHEMA}
if MAJOR == 1:
    LEVEL["included_segment_fields"] = ["duration_seconds"]


def path_of(name):
    return os.path.join(GIVEN["media"], name)


def assert_raises(error, call, *arguments, code=None, **options):
    """Check that a call raises this client error with the service's error code."""
    raised = None
    try:
        call(*arguments, **options)
    except error as caught:
        raised = caught
    assert raised is not None, f"{call} raised no {error.__name__}"
    assert code is None or raised.error_code == code, repr(raised)
    assert raised.request_id, repr(raised)


def accounts(client):
    created = client.api_keys.create(name="created", scopes=["read"], expires_in_days=30)
    assert created.key.startswith("sk_live_")
    assert client.api_keys.retrieve(created.key_id).name == "created"
    assert created.key_id in [key.key_id for key in client.api_keys.list()]
    rotated = client.api_keys.rotate(created.key_id)
    assert rotated.key != created.key
    with videovector.VideoVector(api_key=rotated.key, base_url=GIVEN["base_url"]) as reader:
        assert_raises(
            videovector.AuthorizationError, reader.indexes.create, name="no", code="authorization_insufficient_scope"
        )
    assert client.api_keys.revoke(rotated.key_id).is_active is False
    assert client.api_keys.delete(created.key_id).message
    with videovector.VideoVector(api_key=created.key, base_url=GIVEN["base_url"]) as gone:
        assert_raises(videovector.AuthenticationError, gone.indexes.list, code="invalid_api_key")
    with videovector.VideoVector(bearer_token=GIVEN["key"], base_url=GIVEN["base_url"]) as bearer:
        assert isinstance(bearer.indexes.list(), list)
    status = client.rate_limits.get_status()
    assert status.categories["read"].minute_limit > 0
    assert client.rate_limits.refresh().user_id == status.user_id
    if MAJOR >= 2:
        assert client.authenticate() is None or client.authenticate().get("ready") is True


def prompts(client):
    created = client.prompts.create(
        name="client's prompt",
        prompt_text="Say how long the segment is.",
        json_schema=SCHEMA,
        description="first",
        video_level=LEVEL,
        semantic_indexing={"disabled_segment_fields": ["duration_seconds"], "disabled_video_level_fields": []},
        idempotency_key="prompt-of-the-client",
    )
    again = client.prompts.create(
        name="client's prompt",
        prompt_text="Say how long the segment is.",
        json_schema=SCHEMA,
        description="first",
        video_level=LEVEL,
        semantic_indexing={"disabled_segment_fields": ["duration_seconds"], "disabled_video_level_fields": []},
        idempotency_key="prompt-of-the-client",
    )
    assert again.prompt_id == created.prompt_id
    assert_raises(
        videovector.ConflictError,
        client.prompts.create,
        name="another",
        prompt_text="Say how long the segment is.",
        json_schema=SCHEMA,
        idempotency_key="prompt-of-the-client",
        code="idempotency_request_mismatch",
    )
    assert client.prompts.retrieve(created.prompt_id) == created
    assert client.prompts.list(active_only=True, include_defaults=True).total_count >= 1
    changed = client.prompts.update(created.prompt_id, description="second", semantic_indexing={})
    assert changed.description == "second"
    assert client.prompts.get_usage(created.prompt_id).is_in_use is False
    verdict = client.prompts.test_schema(json_schema=SCHEMA, sample_data={"duration_seconds": "long"})
    assert verdict.valid is False
    assert client.prompts.test_schema(json_schema=SCHEMA, sample_data={"duration_seconds": 1}).valid is True
    assert_raises(videovector.ValidationError, client.prompts.create, name="x", prompt_text="short", json_schema={})
    plain = client.prompts.create(name="plain", prompt_text="Say how long the segment is.", json_schema=SCHEMA)
    assert client.prompts.update(created.prompt_id, clear_video_level=True).video_level is None
    client.prompts.update(created.prompt_id, video_level=LEVEL)
    assert client.prompts.delete(plain.prompt_id).message
    assert_raises(videovector.NotFoundError, client.prompts.retrieve, plain.prompt_id, code="resource_prompt_not_found")
    return created.prompt_id


def media(client):
    index = client.indexes.create(name="client's index", idempotency_key="index-of-the-client")
    assert client.indexes.retrieve(index.index_id).name == "client's index"
    assert index.index_id in [found.index_id for found in client.indexes.list(include_defaults=True)]
    uploaded = client.videos.upload(file=path_of("a.mp4"), title="film", index_id=index.index_id)
    with open(path_of("b.flac"), "rb") as file:
        sound = client.videos.upload(file=file, title="sound", index_id=index.index_id)
    registered = client.videos.create(title="image", video_uri=GIVEN["image_uri"], index_id=index.index_id)
    client.videos.upload(file=path_of("c.png"), title="loose")
    assert [video.title for video in client.videos.list_playground(limit=10)] == ["loose"]
    if MAJOR == 1:
        video_id, sound_id, image_id = uploaded.video_id, sound.video_id, registered.video_id
        assert uploaded.media_type == "video"
    else:
        video_id, sound_id, image_id = uploaded.video_ids[0], sound.video_ids[0], registered.video_ids[0]
        assert uploaded.status == "completed"
        assert client.import_jobs.retrieve(uploaded.job_id).status == "completed"
        job = client.import_jobs.wait_for_completion(uploaded.job_id)
        assert job.video_ids == [video_id]
        assert [output.video_id for output in client.import_jobs.iter_outputs(uploaded.job_id)] == [video_id]
    video = client.videos.retrieve(video_id)
    assert (video.title, video.media_type, video.status) == ("film", "video", "not_processed")
    listed = client.indexes.list_videos(index.index_id, limit=2)
    assert listed.has_more
    assert {found.video_id for found in listed.auto_paging_iter()} == {video_id, sound_id, image_id}
    assert len(client.videos.batch_retrieve([video_id, image_id])) == 2
    assert client.videos.get_signed_url(video.video_uri, force_refresh=True).signed_url.startswith("http")
    assert_raises(videovector.NotFoundError, client.videos.process, video_id, segment_duration=5)
    with open(os.path.join(GIVEN["media"], "text.mp4"), "w") as file:
        file.write("this is not a film")
    assert_raises(videovector.ValidationError, client.videos.upload, file=path_of("text.mp4"), title="text")
    return index.index_id, video_id


def runs(client, prompt_id, index_id, video_id):
    target = {"type": "index", "index_id": index_id}
    estimate = client.prompt_runs.estimate(prompt_id=prompt_id, target=target, processing_model="signals", **RUN)
    assert estimate.breakdown["prompt_run_estimate"]["eligible_item_count"] == 3
    run = client.prompt_runs.execute(prompt_id=prompt_id, target=target, processing_model="signals", **RUN)
    assert (run.status, run.total_videos, run.total_audios, run.total_images) == ("pending", 1, 1, 1)
    waiting = client.prompt_runs.execute(prompt_id=prompt_id, target=target, processing_model="signals", **RUN)
    cancelled = client.prompt_runs.cancel(waiting.run_id)
    assert cancelled.stop_state.requested_at
    done = client.prompt_runs.wait_for_completion(run.run_id, poll_interval=0.2, timeout=120)
    assert (done.status, done.completed_videos) == ("completed", 1)
    assert client.prompt_runs.retrieve(run.run_id) == done
    assert run.run_id in [found.run_id for found in client.prompt_runs.list(limit=10)]
    page = client.prompt_runs.list_results(run.run_id, video_id=video_id, limit=2)
    assert (len(page), page.has_more) == (2, True)
    results = list(page.auto_paging_iter())
    assert [(result.start_time, result.end_time) for result in results] == [(0, 1), (1, 2), (2, 3)]
    assert all(abs(result.metadata["duration_seconds"] - 1) < 0.1 for result in results)
    whole = client.prompt_runs.get_video_result(run.run_id, video_id)
    assert abs(whole.metadata["duration_seconds"] - 3) < 0.2
    assert client.prompt_runs.get_failed_segments(run.run_id).videos == []
    assert client.prompt_runs.get_llm_calls(run.run_id) == []
    assert run.run_id in [
        found.run_id for found in client.indexes.list_prompt_runs(index_id, limit=1).auto_paging_iter()
    ]
    assert run.run_id in [found.run_id for found in client.videos.list_prompt_runs(video_id, limit=5)]
    segments = client.videos.list_segments(video_id, run_id=run.run_id, limit=2)
    assert len(list(segments.auto_paging_iter())) == 3
    assert len(client.videos.list_segments(video_id, latest_run=True)) == 3
    assert client.videos.batch_status([video_id])[0].status == "processed"
    assert len(client.videos.batch_segments([video_id])[0].segments) == 3
    through = videovector.BatchVideoSegmentsTarget(video_id=video_id, run_id=run.run_id)
    by_run = client.videos.batch_segments_for_targets([through])
    assert by_run[0].run_id == run.run_id
    assert_raises(videovector.NotFoundError, client.prompt_runs.retrieve, "run_none", code="resource_run_not_found")
    assert_raises(videovector.ConflictError, client.prompts.delete, prompt_id, code="prompt_in_use")
    stopped = client.prompt_runs.wait_for_completion(waiting.run_id, poll_interval=0.2, timeout=120)
    assert stopped.status in ("cancelled", "completed")  # it may have ended before the cancellation
    assert client.prompt_runs.cancel(run.run_id).status == "completed"
    return run.run_id


def searches(client, index_id, video_id, run_id):
    scope = {"index_id": index_id, "run_ids": [run_id]}
    with open(path_of("c.png"), "rb") as file:
        picture = base64.b64encode(file.read()).decode()
    hits = client.search.text(query="duration seconds", top_k=20, search_fields=["metadata_text"], **scope)
    of_video = [hit for hit in hits if hit.video_id == video_id and hit.result_type == "segment"]
    assert {hit.run_id for hit in hits} == {run_id}
    assert sorted((hit.start_time, hit.end_time) for hit in of_video) == [(0, 1), (1, 2), (2, 3)]
    listed = {segment.segment_id for segment in client.videos.list_segments(video_id, run_id=run_id)}
    assert {hit.segment_id for hit in of_video} == listed
    assert of_video[0].matched_field_instances[0].field_path == "metadata_text"
    both = client.search.multimodal(text_query="duration", text_weight=1.0, image_weight=0.0, **scope)
    assert {hit.match_type for hit in both} == {"text_only"}
    assert [hit.text_rank for hit in both] == list(range(1, len(both) + 1))
    if GIVEN["has_clip"]:
        assert client.search.image(image_data=picture, top_k=3, **scope) == []  # the run embedded no frames
    else:
        unavailable = "image_search_unavailable"
        assert_raises(videovector.ValidationError, client.search.image, image_data=picture, code=unavailable, **scope)
    for aggregation in ("best", "all", "weighted"):
        found = client.search.multi_run(query="duration", run_ids=[run_id], aggregation=aggregation, top_k=2)
        assert len(found) == 2
    assert client.search.multi_run(query="duration", index_id=index_id)
    assert client.search.playground(query="duration") == []
    assert_raises(videovector.ValidationError, client.search.text, query="a", search_fields=["none"], **scope)
    assert_raises(videovector.ValidationError, client.search.image, image_data="AAAA", **scope)
    assert_raises(
        videovector.NotFoundError, client.search.text, index_id="idx_none", query="a", code="resource_index_not_found"
    )
    assert_raises(
        videovector.NotFoundError,
        client.search.multi_run,
        query="a",
        run_ids=["run_none"],
        code="resource_run_not_found",
    )


def filters(client, index_id, video_id, run_id):
    condition = {"field": "duration_seconds", "type": "number", "operator": "greater_than", "value": 0.5}
    first = client.search.filter(index_id, conditions=[condition], page_size=2, run_ids=[run_id])
    assert (first.total_shown, bool(first.next_page_token)) == (2, True)
    found, cursor = list(first.results), first.next_page_token
    while cursor:
        page = client.search.filter(index_id, conditions=[condition], page_size=2, run_ids=[run_id], cursor=cursor)
        found, cursor = found + page.results, page.next_page_token
    of_video = [hit for hit in found if hit.video_id == video_id]
    assert [(hit.start_time, hit.end_time) for hit in of_video] == [(0, 1), (1, 2), (2, 3)]
    assert all(abs(hit.metadata["duration_seconds"] - 1) < 0.1 for hit in of_video)
    none = {**condition, "operator": "less_than"}
    assert client.search.filter(index_id, conditions=[condition, none]).results == []
    assert client.search.filter_playground(conditions=[condition]).results == []
    unknown = {**condition, "field": "none"}
    assert_raises(videovector.ValidationError, client.search.filter, index_id, conditions=[unknown], run_ids=[run_id])


def exports(client, index_id, video_id, run_id):
    created = client.exports.create_prompt_run_export(run_id, idempotency_key="export-of-the-client")
    assert client.exports.create_prompt_run_export(run_id, idempotency_key="export-of-the-client") == created
    done = client.exports.wait_for_completion(created.export_id, poll_interval=0.1, timeout=60)
    assert (done.status, done.export_type, done.target_id) == ("completed", "prompt_run", run_id)
    target = os.path.join(GIVEN["media"], f"export-{MAJOR}.json")
    assert client.exports.download(created.export_id, target) == done.file_size_bytes
    with open(target, "rb") as file:
        (of_run,) = json.loads(file.read())["runs"]
    os.remove(target)
    segments = {part["video"]["video_id"]: part["segments"] for part in of_run["media"]}
    listed = client.prompt_runs.list_results(run_id, video_id=video_id).auto_paging_iter()
    assert [segment["segment_id"] for segment in segments[video_id]] == [row.segment_id for row in listed]
    of_index = client.exports.create_index_export(index_id, prompt_run_ids=[run_id])
    assert client.exports.wait_for_completion(of_index.export_id, poll_interval=0.1, timeout=60).status == "completed"
    streamed = b"".join(client.exports.iter_download(of_index.export_id, chunk_size=1000))
    assert json.loads(streamed)["target_id"] == index_id
    assert client.exports.retrieve(of_index.export_id).export_params == {"prompt_run_ids": [run_id]}
    assert client.exports.download_url(created.export_id) is None  # the test server uses plain HTTP
    assert {export.export_id for export in client.exports.list(limit=5)} >= {created.export_id, of_index.export_id}
    assert_raises(
        videovector.NotFoundError, client.exports.create_prompt_run_export, "run_none", code="resource_run_not_found"
    )
    assert_raises(
        videovector.ValidationError, client.exports.create_prompt_run_export, run_id, destination_connector_id="c"
    )


def failures(client):
    """Retry the failed segment of a finished run."""
    found = GIVEN["failed"]
    manifest = client.prompt_runs.get_failed_segments(found["run_id"])
    failed = manifest.videos[0].segments[0]
    assert (manifest.failed_segments, failed.retryable) == (1, True)
    calls = client.prompt_runs.get_llm_calls(found["run_id"])
    assert {call.status for call in calls} >= {"success"}
    started = client.prompt_runs.retry_segment(found["run_id"], found["video_id"], failed.segment_id)
    assert started.retry_id
    deadline = time.monotonic() + 90
    while True:
        state = client.prompt_runs.get_segment_retry_status(
            found["run_id"], found["video_id"], failed.segment_id, started.retry_id
        )
        if state.status in ("completed", "failed"):
            break
        assert time.monotonic() < deadline, state
        time.sleep(0.2)
    assert state.status == "completed", state
    assert client.prompt_runs.get_failed_segments(found["run_id"]).failed_segments == 0
    assert client.prompt_runs.retrieve(found["run_id"]).status == "completed"
    assert_raises(
        videovector.ConflictError,
        client.prompt_runs.retry_segment,
        found["run_id"],
        found["video_id"],
        failed.segment_id,
        code="segment_not_failed",
    )


def unsupported_endpoints(client, run_id):
    """Check that unsupported endpoints raise a clean error and the client remains usable."""
    for call in (client.webhooks.list, client.connectors.list):
        assert_raises(videovector.NotFoundError, call, code="endpoint_not_supported")
    assert client.prompt_runs.retrieve(run_id).run_id == run_id


def deletions(client, prompt_id, index_id, video_id):
    gone = client.videos.delete(video_id)
    assert gone.status == "deleted"
    assert client.videos.get_deletion(video_id) == gone
    gone = client.indexes.delete(index_id)
    assert gone.status == "deleted"
    assert client.indexes.get_deletion(index_id) == gone
    assert client.prompts.delete(prompt_id, force=True).message


async def async_client(run_id, video_id):
    async with videovector.AsyncVideoVector(api_key=GIVEN["key"], base_url=GIVEN["base_url"]) as client:
        assert (await client.prompt_runs.wait_for_completion(run_id, poll_interval=0.1, timeout=30)).run_id == run_id
        page = await client.prompt_runs.list_results(run_id, video_id=video_id, limit=1)
        assert len([result async for result in page.auto_paging_iter()]) == 3
        index = await client.indexes.create(name="asynchronous")
        uploaded = await client.videos.upload(file=path_of("c.png"), title="image", index_id=index.index_id)
        assert (uploaded.video_id if MAJOR == 1 else uploaded.video_ids[0]).startswith("vid_")
        assert (await client.prompts.list()).total_count >= 1
        assert (await client.rate_limits.get_status()).categories
        assert (await client.api_keys.list())[0].key_id
        hits = await client.search.multi_run(query="duration", run_ids=[run_id])
        assert {hit.run_id for hit in hits} == {run_id}
        created = await client.exports.create_prompt_run_export(run_id)
        done = await client.exports.wait_for_completion(created.export_id, poll_interval=0.1, timeout=60)
        content = [chunk async for chunk in client.exports.iter_download(created.export_id)]
        assert len(b"".join(content)) == done.file_size_bytes
        try:
            await client.prompt_runs.retrieve("run_none")
        except videovector.NotFoundError:
            pass
        else:
            raise AssertionError("no NotFoundError")


def main():
    with videovector.VideoVector(api_key=GIVEN["key"], base_url=GIVEN["base_url"]) as client:
        accounts(client)
        prompt_id = prompts(client)
        index_id, video_id = media(client)
        run_id = runs(client, prompt_id, index_id, video_id)
        asyncio.run(async_client(run_id, video_id))
        failures(client)
        searches(client, index_id, video_id, run_id)
        filters(client, index_id, video_id, run_id)
        exports(client, index_id, video_id, run_id)
        unsupported_endpoints(client, run_id)
        deletions(client, prompt_id, index_id, video_id)
    print(videovector.__version__)


if __name__ == "__main__":
    sys.exit(main())
