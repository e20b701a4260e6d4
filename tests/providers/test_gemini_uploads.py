"""The uploads of the Gemini provider: shared by segments, retried, replaced and deleted."""

import asyncio

import pytest
from starlette.responses import JSONResponse

from promptreel.providers import gemini
from promptreel.providers.answers import generate_checked
from promptreel.providers.call_policy import CallPolicy, CallSubject, CallTally
from promptreel.schemas.settings import CallSettings
from promptreel.testing.calls import NoJitter
from tests.analysed_media import segment_of
from tests.fake_gemini import Fault
from tests.fake_gemini.faults import error_body
from tests.models import MemorySink
from tests.providers.gemini_calls import (
    build_request,
    call_all,
    call_model,
    media_parts,
    open_provider,
    pictures_of,
    request_text,
    sound_length,
)


def test_concurrent_segments_share_one_upload_with_different_offsets(service, film):
    bounds = [(number * 0.4, number * 0.4 + 0.4) for number in range(30)]
    requests = [build_request(segment_of(film, start, end), f"segment {start:g}") for start, end in bounds]
    answers, _ = call_all(service.base_url, requests, media_input="files")
    assert [answer.metadata for answer in answers] == [{"n": 1}] * 30
    assert len(service.ledger.calls("upload")) == 1
    offsets = {}
    for body in service.bodies:
        (part,) = media_parts(body)
        metadata = part["videoMetadata"]
        offsets[request_text(body)] = (metadata["startOffset"], metadata["endOffset"])
    assert {part["fileData"]["fileUri"] for body in service.bodies for part in media_parts(body)} == {
        f"{service.base_url}/v1/{name}" for name in service.service.files.deleted
    }
    assert offsets == {f"segment {start:g}": (f"{start:.6f}s", f"{end:.6f}s") for start, end in bounds}


def test_upload_contains_the_complete_item(service, film, tmp_path):
    call_model(service, build_request(segment_of(film, 4, 6)), media_input="files")
    (stored,) = service.service.files.deleted.values()
    assert stored.mime_type == "video/mp4"
    assert sound_length(stored.content, tmp_path) == pytest.approx(12, abs=0.13)
    assert len(pictures_of(stored.content)[0]) in (12, 13)  # the last picture may be repeated at the end


def test_each_item_has_its_own_upload(service, film, tone):
    requests = [build_request(segment_of(film, 0, 2, "film")), build_request(segment_of(tone, 0, 2, "tone"))]
    call_all(service.base_url, requests, media_input="files", fps=2.0)
    assert len(service.ledger.calls("upload")) == 2
    (metadata,) = [
        part["videoMetadata"] for b in service.bodies for part in media_parts(b) if "fps" in part["videoMetadata"]
    ]
    assert metadata["fps"] == 2.0  # the film; audio has no frame rate


def test_clip_over_the_inline_limit_is_uploaded(service, film, monkeypatch, tmp_path):
    monkeypatch.setattr(gemini, "MAX_INLINE_BYTES", 1000)
    answer, _ = call_model(service, build_request(segment_of(film, 2, 5)), fps=2.0)
    assert answer.metadata == {"n": 1}
    (part,) = media_parts(service.bodies[0])
    assert part["fileData"]["mimeType"] == "video/mp4"
    assert part["videoMetadata"] == {"fps": 2.0}
    (stored,) = service.service.files.deleted.values()
    assert pictures_of(stored.content)[1] == pytest.approx(3, abs=0.13)


def test_processing_upload_is_awaited(service, film):
    service.service.files.processing_s = 0.3
    answer, _ = call_model(service, build_request(segment_of(film, 0, 2)), media_input="files")
    assert answer.metadata == {"n": 1}
    assert len(service.ledger.calls("upload")) == 1


def test_unreadable_upload_fails_with_the_reason(service, film):
    service.service.files.fails = True
    failure, calls = call_model(service, build_request(segment_of(film, 0, 2)), media_input="files")
    assert (failure.code, failure.retryable) == ("model_bad_request", False)
    assert "could not be processed" in failure.message
    assert calls == []


def test_upload_that_never_becomes_ready_times_out(service, film, monkeypatch):
    monkeypatch.setattr(gemini, "UPLOAD_TIMEOUT_S", 0.3)
    service.service.files.processing_s = 1000
    one_attempt = CallSettings(max_attempts=1, max_outage_s=0)
    failure, _ = call_model(service, build_request(segment_of(film, 0, 2)), media_input="files", calls=one_attempt)
    assert (failure.code, failure.retryable) == ("model_timeout", True)


def test_failed_upload_is_retried(service, film):
    requests = [build_request(segment_of(film, second, second + 1), f"at {second}") for second in range(4)]
    service.set_faults(Fault(method="upload", first=1, status=503))
    answers, _ = call_all(service.base_url, requests, media_input="files")
    assert [answer.metadata for answer in answers] == [{"n": 1}] * 4
    assert len(service.ledger.calls("upload")) == 2


def test_uploads_stay_within_the_attempts(service, film):
    service.set_faults(Fault(method="upload", status=500))
    failure, calls = call_model(service, build_request(segment_of(film, 0, 1)), media_input="files")
    assert (failure.code, failure.retryable) == ("model_unavailable", True)
    assert len(service.ledger.calls("upload")) == 3
    assert calls == []


def test_next_segment_uploads_again_after_a_rejected_upload(service, film):
    requests = [build_request(segment_of(film, second, second + 1), f"at {second}") for second in range(2)]
    service.set_faults(Fault(method="upload", first=1, status=400))
    (first, second), _ = call_all(service.base_url, requests, media_input="files", one_by_one=True)
    assert first.code == "model_bad_request"
    assert second.metadata == {"n": 1}


def test_lost_upload_is_replaced_without_halting_the_run(service, film):
    media = segment_of(film, 0, 2)

    async def scenario():
        async with open_provider(service.base_url, media_input="files") as provider:
            policy = CallPolicy(provider, CallSettings(max_attempts=3), MemorySink(), jitter=NoJitter())
            subject = CallSubject("run_a", "vid_a", "seg_a", "key_a")
            await generate_checked(provider, policy, build_request(media, "first"), subject, CallTally())
            service.service.files.files.clear()
            # One request is rejected after the others have replaced the upload; it then uses the new one.
            service.set_faults(Fault(text="later 0", first=1, delay=1))
            later = [build_request(media, f"later {number}") for number in range(5)]
            return await asyncio.gather(
                *(generate_checked(provider, policy, request, subject, CallTally()) for request in later)
            )

    answers = asyncio.run(scenario())
    assert [answer.metadata for answer in answers] == [{"n": 1}] * 5
    assert len(service.ledger.calls("upload")) == 2


def test_uploads_are_deleted_when_the_provider_closes(service, film, tone):
    files = service.service.files
    requests = [build_request(segment_of(film, 0, 2, "film")), build_request(segment_of(tone, 0, 2, "tone"))]

    async def scenario():
        async with open_provider(service.base_url, media_input="files") as provider:
            policy = CallPolicy(provider, CallSettings(), MemorySink())
            subject = CallSubject("run_a", "vid_a", "seg_a", "key_a")
            for request in (*requests, *requests):
                await generate_checked(provider, policy, request, subject, CallTally())
            assert (len(files.files), len(files.deleted)) == (2, 0)

    asyncio.run(scenario())
    assert (len(files.files), len(files.deleted)) == (0, 2)


def test_failed_deletions_are_ignored(service, film, monkeypatch):
    respond = service.service.files.respond

    def reject_deletion(method, name):
        return JSONResponse(error_body(500), 500) if method == "DELETE" else respond(method, name)

    monkeypatch.setattr(service.service.files, "respond", reject_deletion)
    outcome, _ = call_model(service, build_request(segment_of(film, 0, 2)), media_input="files")
    assert outcome.metadata == {"n": 1}
    assert len(service.service.files.files) == 1


def test_deletion_times_out_if_the_service_is_silent(service, film, monkeypatch):
    monkeypatch.setattr(gemini, "DELETE_TIMEOUT_S", 0.2)

    async def scenario():
        async with open_provider(service.base_url, media_input="files") as provider:
            await provider.prepare(build_request(segment_of(film, 0, 2)))
            provider._client.aio.files.delete = lambda **name: asyncio.Event().wait()

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert len(service.service.files.files) == 1
