"""The Gemini provider against the fake service: what is sent, and what answers, errors and silences come to."""

import asyncio
import base64
import contextlib
import dataclasses
import io
import json
import math
import random
import socket
import struct
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import av
import httpx2
import pytest
from google.genai import errors
from starlette.responses import JSONResponse

from promptreel.providers import gemini
from promptreel.providers.answers import AnswerFailed, generate_checked
from promptreel.providers.base import ModelRequest
from promptreel.providers.call_policy import CallPolicy, CallSubject, CallTally, Halted
from promptreel.providers.gemini import GeminiProvider, wire_schema
from promptreel.providers.gemini_client import KEY_VARIABLES, model_error_of
from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL
from promptreel.schemas.errors import ModelError, SettingsError
from promptreel.schemas.settings import CallSettings, ModelSettings
from tests.analysed_media import analyse, make_media, run_ffmpeg, segment_of
from tests.fake_gemini import FakeGemini, Fault
from tests.fake_gemini.faults import error_body
from tests.models import SCHEMA, MemorySink
from tests.prompts import NESTED

MODEL = DEFAULT_GEMINI_MODEL


class Impatient(random.Random):
    """Jitter that always draws the shortest pause."""

    def uniform(self, a, b):
        return a


@pytest.fixture(scope="module")
def server():
    with FakeGemini() as running:
        yield running


@pytest.fixture
def service(server, monkeypatch):
    """The fake service, forgetful of earlier tests; `bodies` holds what it was asked."""
    monkeypatch.setenv("GEMINI_API_KEY", "made-up")
    monkeypatch.setattr(gemini, "UPLOAD_POLL_INTERVAL_S", 0.02)
    server.set_faults()
    server.service.clear()
    server.service.files.processing_s, server.service.files.fails = 0.0, False
    server.bodies = []
    answer_with(server, {"n": 1})
    return server


def answer_with(server, value):
    """Makes the service give this answer, or what this function makes of a request's text."""

    def answer(body, schema):
        server.bodies.append(body)
        return value(question_of(body)) if callable(value) else value

    server.service.answer = answer


def question_of(body):
    return body["contents"][0]["parts"][-1]["text"]


def media_parts(body):
    return body["contents"][0]["parts"][:-1]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """(analysis, folder) of 12 s of pictures and a tone, a frame each second."""
    folder = tmp_path_factory.mktemp("film")
    path = make_media(
        folder / "film.mp4", picture="testsrc2=size=320x180:rate=24", sound="sine=frequency=440", seconds=12
    )
    return analyse(path, folder / "analysis")


@pytest.fixture(scope="module")
def tone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tone")
    return analyse(make_media(folder / "tone.wav", sound="sine=frequency=440", seconds=8), folder / "analysis")


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    folder = tmp_path_factory.mktemp("still")
    return analyse(make_media(folder / "still.png", picture="testsrc2=size=320x180"), folder / "analysis")


def question(media=None, text="question", schema=SCHEMA, instruction="instruction"):
    return ModelRequest("metadata_extraction", instruction, text, schema, media)


@contextlib.asynccontextmanager
async def opened(base_url, fps=1.0, **settings):
    provider = GeminiProvider(ModelSettings(**{"model": MODEL, "base_url": base_url, **settings}), fps)
    await provider.open()
    try:
        yield provider
    finally:
        await provider.close()


def ask_all(
    base_url, requests, *, fps=1.0, calls=CallSettings(max_attempts=3, deadline_s=20), one_by_one=False, **settings
):
    """(answer or failure of each request, call records)."""
    sink = MemorySink()

    async def ask_one(provider, policy, number, request):
        subject = CallSubject("run_a", "vid_a", f"seg_{number}", f"key_{number}")
        try:
            return await generate_checked(provider, policy, request, subject, CallTally())
        except (ModelError, Halted) as failure:
            return failure

    async def scenario():
        async with opened(base_url, fps, **settings) as provider:
            policy = CallPolicy(provider, calls, sink, jitter=Impatient())
            asked = [ask_one(provider, policy, number, request) for number, request in enumerate(requests)]
            if one_by_one:
                return [await one for one in asked]
            return list(await asyncio.gather(*asked))

    return asyncio.run(scenario()), sink.ended


def ask(service, request=None, **options):
    """(answer or failure, call records) of one request."""
    (outcome,), calls = ask_all(service.base_url, [request or question()], **options)
    return outcome, calls


def refusal(service, fault):
    """The error that one call ends with."""
    service.set_faults(fault)

    async def scenario():
        async with opened(service.base_url) as provider:
            with pytest.raises(ModelError) as caught:
                await provider.call(question(), None)
            return caught.value

    return asyncio.run(scenario())


# What is sent


def sound_length(content, tmp_path):
    """Seconds of sound that ffmpeg decodes from a clip."""
    path = tmp_path / "received"
    path.write_bytes(content)
    return len(run_ffmpeg("-i", path, "-map", "0:a?", "-ar", 16_000, "-ac", 1, "-f", "s16le", "-")) / 32_000


def pictures_of(content):
    """(times of the pictures in a clip, length of the clip), in seconds."""
    with av.open(io.BytesIO(content)) as container:
        return [frame.time for frame in container.decode(video=0)], container.duration / 1e6


def content_of(part):
    return base64.urlsafe_b64decode(part["inlineData"]["data"].replace("+", "-").replace("/", "_"))


@pytest.mark.parametrize(("start_s", "end_s"), [(0, 12), (3, 7.5), (10.25, 12)])
def test_a_segment_goes_as_one_clip_of_its_length(service, film, tmp_path, start_s, end_s):
    answer, (call,) = ask(service, question(segment_of(film, start_s, end_s)))
    assert answer.metadata == {"n": 1}
    (part,) = media_parts(service.bodies[0])
    assert part["inlineData"]["mimeType"] == "video/mp4"
    assert "videoMetadata" not in part
    times_s, length_s = pictures_of(content_of(part))
    frames = segment_of(film, start_s, end_s).frames
    # The last picture may stand in the clip once more, at its end.
    assert len(times_s) - len(frames) in (0, 1)
    assert times_s[: len(frames)] == pytest.approx(
        [max(0, frame.time_us / 1e6 - start_s) for frame in frames], abs=0.05
    )
    assert length_s == pytest.approx(end_s - start_s, abs=0.13)
    assert sound_length(content_of(part), tmp_path) == pytest.approx(
        end_s - start_s, abs=0.13
    )  # an AAC frame of 1024 samples on each side
    assert call.video_tokens == 70 * math.floor(end_s - start_s + 0.1)
    assert call.audio_tokens == pytest.approx(32 * (end_s - start_s), abs=6)
    assert call.image_tokens == 0
    assert call.input_tokens == call.text_tokens + call.video_tokens + call.audio_tokens
    assert call.total_tokens == call.input_tokens + call.output_tokens
    assert call.video_seconds == end_s - start_s


def test_a_clip_without_sound_lasts_as_long_as_its_segment(service, film):
    media = dataclasses.replace(segment_of(film, 3.2, 3.9), audio_file=None)
    ask(service, question(media))
    (part,) = media_parts(service.bodies[0])
    assert pictures_of(content_of(part))[1] == pytest.approx(1.0, abs=0.1)  # stretched to the least length of a clip


def test_sound_alone_goes_as_a_sound_clip(service, tone, tmp_path):
    _, (call,) = ask(service, question(segment_of(tone, 2, 5)), fps=0.5)
    (part,) = media_parts(service.bodies[0])
    assert part["inlineData"]["mimeType"] == "audio/mp4"
    assert "videoMetadata" not in part
    assert sound_length(content_of(part), tmp_path) == pytest.approx(3, abs=0.13)
    assert (call.video_tokens, call.image_tokens) == (0, 0)
    assert call.audio_tokens > 0


def test_an_image_goes_as_its_picture(service, still):
    media = segment_of(still)
    _, (call,) = ask(service, question(media))
    (part,) = media_parts(service.bodies[0])
    assert part["inlineData"]["mimeType"] == "image/jpeg"
    assert content_of(part) == (media.folder / media.frames[0].file).read_bytes()
    assert (call.image_tokens, call.video_tokens, call.audio_tokens) == (1120, 0, 0)


def test_frames_go_as_pictures_with_their_times_and_the_sound(service, film, tmp_path):
    media = segment_of(film, 3, 6)
    _, (call,) = ask(service, question(media), media_input="frames")
    *shown, sound_label, sound = media_parts(service.bodies[0])
    # A frame of each second, the first of them still shown when the segment begins.
    times_s = [float(part["text"].split()[2].removeprefix("0:")) for part in shown[::2]]
    assert times_s == pytest.approx([0, 0, 1, 2], abs=0.05)
    assert [content_of(part) for part in shown[1::2]] == [(media.folder / f.file).read_bytes() for f in media.frames]
    assert sound_label["text"] == "Sound of the segment:"
    assert sound_length(content_of(sound), tmp_path) == pytest.approx(3, abs=0.13)
    assert (call.image_tokens, call.video_tokens) == (4 * 1120, 0)


def test_frames_over_the_limit_of_one_request_are_not_sent(service, film, monkeypatch):
    monkeypatch.setattr(gemini, "INLINE_LIMIT_BYTES", 1000)
    failure, _ = ask(service, question(segment_of(film)), media_input="frames")
    assert failure.code == "model_bad_request"
    assert "the media (12 frames) has" in failure.message
    assert service.ledger.calls() == []


def test_segments_that_ask_at_once_share_one_upload_and_differ_in_offsets(service, film):
    bounds = [(number * 0.4, number * 0.4 + 0.4) for number in range(30)]
    requests = [question(segment_of(film, start, end), f"segment {start:g}") for start, end in bounds]
    answers, _ = ask_all(service.base_url, requests, media_input="files")
    assert [answer.metadata for answer in answers] == [{"n": 1}] * 30
    assert len(service.ledger.calls("upload")) == 1
    offsets = {}
    for body in service.bodies:
        (part,) = media_parts(body)
        told = part["videoMetadata"]
        offsets[question_of(body)] = (told["startOffset"], told["endOffset"])
    assert {part["fileData"]["fileUri"] for body in service.bodies for part in media_parts(body)} == {
        f"{service.base_url}/v1/{name}" for name in service.service.files.deleted
    }
    assert offsets == {f"segment {start:g}": (f"{start:.6f}s", f"{end:.6f}s") for start, end in bounds}


def test_an_uploaded_item_holds_all_of_it(service, film, tmp_path):
    ask(service, question(segment_of(film, 4, 6)), media_input="files")
    (stored,) = service.service.files.deleted.values()
    assert stored.mime_type == "video/mp4"
    assert sound_length(stored.content, tmp_path) == pytest.approx(12, abs=0.13)
    assert len(pictures_of(stored.content)[0]) in (12, 13)  # the last may stand once more at the end


def test_each_item_has_an_upload_of_its_own(service, film, tone):
    requests = [question(segment_of(film, 0, 2, "film")), question(segment_of(tone, 0, 2, "tone"))]
    ask_all(service.base_url, requests, media_input="files", fps=2.0)
    assert len(service.ledger.calls("upload")) == 2
    (told,) = [
        part["videoMetadata"] for b in service.bodies for part in media_parts(b) if "fps" in part["videoMetadata"]
    ]
    assert told["fps"] == 2.0  # of the film; sound alone has no frame rate


def test_a_clip_over_the_inline_limit_goes_by_upload(service, film, monkeypatch, tmp_path):
    monkeypatch.setattr(gemini, "INLINE_LIMIT_BYTES", 1000)
    answer, _ = ask(service, question(segment_of(film, 2, 5)), fps=2.0)
    assert answer.metadata == {"n": 1}
    (part,) = media_parts(service.bodies[0])
    assert part["fileData"]["mimeType"] == "video/mp4"
    assert part["videoMetadata"] == {"fps": 2.0}
    (stored,) = service.service.files.deleted.values()
    assert pictures_of(stored.content)[1] == pytest.approx(3, abs=0.13)


@pytest.mark.parametrize(("fps", "told"), [(1.0, None), (0.5, {"fps": 0.5}), (2.0, {"fps": 2.0})])
def test_a_frame_rate_other_than_the_services_own_is_told(service, film, fps, told):
    ask(service, question(segment_of(film, 0, 4)), fps=fps)
    assert media_parts(service.bodies[0])[0].get("videoMetadata") == told


def test_instruction_schema_and_text_stand_where_the_service_expects_them(service):
    ask(service, question(text="the text", instruction="shared by all"))
    (body,) = service.bodies
    assert body["systemInstruction"]["parts"] == [{"text": "shared by all"}]
    assert body["contents"] == [{"role": "user", "parts": [{"text": "the text"}]}]
    assert body["generationConfig"]["responseMimeType"] == "application/json"
    assert body["generationConfig"]["responseJsonSchema"] == SCHEMA
    assert "tools" not in body


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"media_resolution": "low"}, {"mediaResolution": "MEDIA_RESOLUTION_LOW"}),
        ({"media_resolution": "medium"}, {"mediaResolution": "MEDIA_RESOLUTION_MEDIUM"}),
        ({"media_resolution": "high"}, {"mediaResolution": "MEDIA_RESOLUTION_HIGH"}),
        ({"thinking_level": "low"}, {"thinkingConfig": {"thinkingLevel": "LOW"}}),
        ({"temperature": 0.7}, {"temperature": 0.7}),
        ({"max_output_tokens": 300}, {"maxOutputTokens": 300}),
    ],
)
def test_settings_reach_the_service_and_only_those_that_are_set(service, settings, told):
    ask(service, **settings)
    plain = {"responseMimeType", "responseJsonSchema", "temperature", "maxOutputTokens"}
    config = service.bodies[0]["generationConfig"]
    assert set(config) == plain | set(told)
    assert {key: config[key] for key in told} == told


@pytest.mark.parametrize(("resolution", "tokens"), [(None, 70), ("low", 70), ("high", 280)])
def test_the_resolution_decides_the_tokens_of_a_frame(service, film, resolution, tokens):
    _, (call,) = ask(service, question(segment_of(film, 0, 4)), media_resolution=resolution)
    assert call.video_tokens == 4 * tokens


def test_the_format_of_media_times_is_kept_from_the_service(service):
    before = json.dumps(NESTED.json_schema)
    answer_with(service, {"summary": "s", "scene": {"location": "l"}, "products": []})
    answer, _ = ask(service, question(schema=NESTED.json_schema))
    assert answer.metadata["summary"] == "s"
    sent = json.dumps(service.bodies[0]["generationConfig"]["responseJsonSchema"])
    assert before.count("media-time") == 1
    assert json.loads(sent) == json.loads(before.replace(', "format": "media-time"', ""))
    assert json.dumps(NESTED.json_schema) == before


def test_a_field_may_bear_the_name_of_a_keyword():
    named = {"type": "object", "$id": "x", "properties": {"$id": {"type": "string"}, "format": {"type": "string"}}}
    assert wire_schema(named) == {key: value for key, value in named.items() if key != "$id"}


# Usage


def test_cached_tokens_are_recorded(service):
    requests = [question(text=f"question {number}", instruction="shared " * 700) for number in range(2)]
    _, calls = ask_all(service.base_url, requests, one_by_one=True)
    instruction = service.bodies[0]["systemInstruction"]
    assert [call.cached_tokens for call in calls] == [0, math.ceil(len(json.dumps(instruction)) / 4)]


def test_thoughts_are_counted_and_are_no_part_of_the_answer(service):
    service.set_faults(Fault(thoughts="It might be two."))
    answer, (call,) = ask(service)
    assert answer.metadata == {"n": 1}
    assert answer.text == '{"n": 1}'
    assert call.thought_tokens == 4
    assert call.total_tokens == call.input_tokens + call.output_tokens + 4


# Answers that are none


BLOCKING = (
    "SAFETY RECITATION LANGUAGE BLOCKLIST PROHIBITED_CONTENT SPII IMAGE_SAFETY IMAGE_PROHIBITED_CONTENT "
    "IMAGE_RECITATION"
).split()
STOPPING = "OTHER MALFORMED_FUNCTION_CALL UNEXPECTED_TOOL_CALL NO_IMAGE IMAGE_OTHER A_REASON_OF_TOMORROW".split()


@pytest.mark.parametrize("reason", BLOCKING)
def test_a_refusal_of_the_content_is_final(service, reason):
    service.set_faults(Fault(finish_reason=reason))
    failure, (call,) = ask(service)
    assert (failure.code, failure.retryable) == ("model_blocked", False)
    assert reason in failure.message
    assert (call.status, call.finish_reason) == ("error", reason)
    assert len(service.ledger.calls()) == 1


@pytest.mark.parametrize("reason", STOPPING)
@pytest.mark.filterwarnings("ignore:.*is not a valid FinishReason:UserWarning")
def test_any_other_end_is_asked_for_once_more(service, reason):
    service.set_faults(Fault(finish_reason=reason))
    failure, calls = ask(service)
    assert (failure.code, failure.retryable) == ("model_stopped", True)
    assert reason in failure.message
    assert [call.finish_reason for call in calls] == [reason] * 2
    assert len(service.ledger.calls()) == 2


@pytest.mark.filterwarnings("ignore:.*is not a valid BlockedReason:UserWarning")
@pytest.mark.parametrize("reason", ["SAFETY", "PROHIBITED_CONTENT", "A_REASON_OF_TOMORROW"])
def test_a_blocked_prompt_is_final(service, reason):
    service.set_faults(Fault(block_reason=reason))
    failure, (call,) = ask(service)
    assert (failure.code, failure.retryable) == ("model_blocked", False)
    assert call.finish_reason == reason
    assert call.input_tokens > 0


@pytest.mark.parametrize("answer", ["empty", "no_candidates"])
def test_an_answer_without_content_is_asked_for_once_more(service, answer):
    service.set_faults(Fault(answer=answer))
    failure, calls = ask(service)
    assert (failure.code, failure.retryable) == ("model_empty", True)
    assert len(calls) == len(service.ledger.calls()) == 2
    service.set_faults(Fault(answer=answer, first=1))
    assert ask(service)[0].metadata == {"n": 1}


def test_an_answer_in_a_fence_is_read(service):
    service.set_faults(Fault(answer="fenced"))
    answer, calls = ask(service)
    assert answer.metadata == {"n": 1}
    assert len(calls) == 1


def test_a_cut_answer_is_asked_for_once_more_with_a_larger_budget_and_the_same_prompt(service):
    service.set_faults(Fault(answer="truncated"))
    failure, calls = ask(service, max_output_tokens=100)
    assert (failure.code, failure.retryable) == ("model_truncated", False)
    assert failure.answer
    assert [body["generationConfig"].pop("maxOutputTokens") for body in service.bodies] == [100, 400]
    assert service.bodies[0] == service.bodies[1]
    assert [call.finish_reason for call in calls] == ["MAX_TOKENS"] * 2
    service.set_faults()
    answer_with(service, {"n": 1, "words": "x" * 1000})  # 250 tokens and some
    answer, calls = ask(service, max_output_tokens=100)
    assert answer.metadata["n"] == 1
    assert [call.status for call in calls] == ["error", "success"]


def test_the_larger_budget_stays_within_what_the_service_takes(service):
    service.set_faults(Fault(answer="truncated", first=1))
    answer, calls = ask(service, max_output_tokens=60_000)
    assert answer.metadata == {"n": 1}
    assert [body["generationConfig"]["maxOutputTokens"] for body in service.bodies] == [60_000, 65_536]
    assert [call.code for call in calls] == ["model_truncated", None]


def test_media_that_was_not_seen_is_asked_about_once_more(service, film):
    request = question(segment_of(film, 0, 2))
    service.set_faults(Fault(no_media_tokens=True))
    failure, calls = ask(service, request)
    assert (failure.code, failure.answer) == ("media_not_seen", '{"n": 1}')
    assert len(calls) == len(service.ledger.calls()) == 2
    assert service.bodies[0] == service.bodies[1]
    service.set_faults(Fault(no_media_tokens=True, first=1))
    assert ask(service, request)[0].metadata == {"n": 1}


# Errors


ERRORS = {
    "400": (Fault(status=400), "model_bad_request", 1),
    "400 of a bad key": (Fault(status=400, reason="API_KEY_INVALID"), "model_auth", 1),
    "401": (Fault(status=401), "model_auth", 1),
    "403": (Fault(status=403), "model_auth", 1),
    "404": (Fault(status=404), "model_not_found", 1),
    "408": (Fault(status=408), "model_timeout", 3),
    "500": (Fault(status=500), "model_unavailable", 3),
    "502 with a page": (Fault(html=True), "model_unavailable", 3),
    "503": (Fault(status=503), "model_unavailable", 3),
    "504": (Fault(status=504), "model_timeout", 3),
    "200 with a page": (Fault(html=True, status=200), "model_unavailable", 3),
    "an answer that breaks off": (Fault(reset=True), "model_unavailable", 3),
    "429": (Fault(status=429, retry_delay=0.01), "rate_limited", 12),
    "429 of a day": (Fault(status=429, quota_id="GenerateRequestsPerDayPerProjectPerModel"), "quota_exhausted", 1),
    "429 of spend": (Fault(status=429, message="monthly spending cap exceeded"), "quota_exhausted", 1),
    "429 of credits": (Fault(status=429, message="Your prepayment credits are depleted."), "quota_exhausted", 1),
}


@pytest.mark.parametrize("name", ERRORS)
def test_each_error_has_its_meaning_and_its_attempts(service, name):
    fault, code, attempts = ERRORS[name]
    service.set_faults(fault)
    failure, calls = ask(service, calls=CallSettings(max_attempts=3, max_calls_per_second=1000, deadline_s=20))
    assert failure.code == code
    assert failure.retryable == (attempts > 1 or code == "quota_exhausted")
    assert len(service.ledger.calls()) == len(calls) == attempts  # the client adds no tries of its own
    assert {call.code for call in calls} == {code}


def test_a_refusal_for_speed_is_not_taken_for_a_spent_quota(service):
    message = (
        "You exceeded your current quota, please check your plan and billing details. For more information on this "
        "error, head to the documentation of rate limits. Please retry in 0.05s."
    )
    minute = Fault(
        first=1, status=429, message=message, quota_id="GenerateContentInputTokensPerModelPerMinute", retry_delay=0.05
    )
    service.set_faults(minute)
    answer, calls = ask(service)
    assert answer.metadata == {"n": 1}
    assert [call.code for call in calls] == ["rate_limited", None]


@pytest.mark.parametrize(
    ("fault", "wait_s"),
    [
        (Fault(status=429, retry_delay=27.5), 27.5),
        (Fault(status=429, retry_after=7), 7.0),
        (Fault(status=429, retry_delay=2, retry_after=7), 2.0),
        (Fault(status=503, retry_after=3), 3.0),
        (Fault(status=503, retry_after="soon"), None),
        (Fault(status=503, retry_after="Sun, 06 Nov 1994 08:49:37 GMT"), 0.0),
        (Fault(status=503), None),
    ],
)
def test_the_wait_that_the_service_asks_for_is_read(service, fault, wait_s):
    assert refusal(service, fault).retry_after_s == wait_s


@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_until_a_moment_is_counted_from_that_of_the_answer(service, status):
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    assert refusal(service, Fault(status=status, retry_after=until)).retry_after_s == pytest.approx(40, abs=5)


def test_the_clock_of_this_machine_does_not_change_a_wait(monkeypatch):
    answered = {"Retry-After": "Sun, 06 Nov 1994 08:50:07 GMT", "Date": "Sun, 06 Nov 1994 08:49:37 GMT"}
    refused = errors.APIError(503, error_body(503), httpx2.Response(503, headers=answered))
    assert model_error_of(refused).retry_after_s == 30.0


def test_a_daily_quota_ends_all_calling(service):
    service.set_faults(Fault(after=5, status=429, quota_id="GenerateRequestsPerDayPerProjectPerModel", retry_delay=9))
    requests = [question(text=f"question {number}") for number in range(20)]
    outcomes, calls = ask_all(service.base_url, requests, one_by_one=True)
    assert [type(outcome) for outcome in outcomes[6:]] == [Halted] * 14
    assert {outcome.code for outcome in outcomes[5:]} == {"quota_exhausted"}
    assert len(service.ledger.calls()) == len(calls) == 6


def test_a_service_that_is_not_there_is_unavailable(service):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        (failure,), calls = ask_all(address, [question()])
    assert (failure.code, failure.retryable) == ("model_unavailable", True)
    assert len(calls) == 3


def test_a_connection_that_is_reset_counts_as_unavailable(service):
    accepted = []

    def reset_all(listener):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                accepted.append(connection.recv(100))
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=reset_all, args=(listener,), daemon=True)
        thread.start()
        (failure,), calls = ask_all(f"http://127.0.0.1:{listener.getsockname()[1]}", [question()])
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    assert failure.code == "model_unavailable"
    assert len(calls) == len(accepted) == 3


def test_a_silent_service_is_given_up_at_the_deadline_of_each_call(service):
    service.set_faults(Fault(hang=True))
    failure, calls = ask(service, calls=CallSettings(max_attempts=2, deadline_s=1))
    assert (failure.code, failure.retryable) == ("model_timeout", True)
    assert [call.code for call in calls] == ["model_timeout"] * 2
    assert len(service.ledger.calls()) == 2


def test_a_late_answer_is_not_waited_for_and_one_result_comes_of_two_calls(service):
    service.set_faults(Fault(first=1, delay=60))
    answer, calls = ask(service, calls=CallSettings(max_attempts=3, deadline_s=3))
    assert answer.metadata == {"n": 1}
    assert [call.code for call in calls] == ["model_timeout", None]
    assert len(service.ledger.calls()) == 2


def test_calls_stay_within_the_cap_when_three_in_ten_fail(service):
    service.set_faults(Fault(probability=0.3, seed=5, status=500))
    requests = [question(text=f"question {number}") for number in range(150)]
    outcomes, calls = ask_all(service.base_url, requests, calls=CallSettings(max_attempts=4))
    tries = Counter(entry.content for entry in service.ledger.calls())
    assert len(tries) == 150
    assert max(tries.values()) <= 4
    assert sum(tries.values()) == len(calls)
    answered = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    assert len(answered) == len(service.ledger.answered()) > 140
    assert service.ledger.repeated() == 0
    assert sum(call.status == "success" for call in calls) == len(answered)


def test_no_call_is_made_after_the_key_was_refused(service):
    service.set_faults(Fault(status=401))
    outcomes, _ = ask_all(service.base_url, [question(text=str(number)) for number in range(5)], one_by_one=True)
    assert {outcome.code for outcome in outcomes} == {"model_auth"}
    assert len(service.ledger.calls()) == 1


# Uploads


def test_an_upload_that_is_still_processed_is_waited_for(service, film):
    service.service.files.processing_s = 0.3
    answer, _ = ask(service, question(segment_of(film, 0, 2)), media_input="files")
    assert answer.metadata == {"n": 1}
    assert len(service.ledger.calls("upload")) == 1


def test_an_upload_that_the_service_cannot_read_fails_with_its_reason(service, film):
    service.service.files.fails = True
    failure, calls = ask(service, question(segment_of(film, 0, 2)), media_input="files")
    assert (failure.code, failure.retryable) == ("model_bad_request", False)
    assert "could not be processed" in failure.message
    assert calls == []


def test_an_upload_that_never_becomes_ready_is_given_up(service, film, monkeypatch):
    monkeypatch.setattr(gemini, "UPLOAD_TIMEOUT_S", 0.3)
    service.service.files.processing_s = 1000
    one_attempt = CallSettings(max_attempts=1)
    failure, _ = ask(service, question(segment_of(film, 0, 2)), media_input="files", calls=one_attempt)
    assert (failure.code, failure.retryable) == ("model_timeout", True)


def test_a_failed_upload_is_tried_again_within_the_attempts(service, film):
    requests = [question(segment_of(film, second, second + 1), f"at {second}") for second in range(4)]
    service.set_faults(Fault(method="upload", first=1, status=503))
    answers, _ = ask_all(service.base_url, requests, media_input="files")
    assert [answer.metadata for answer in answers] == [{"n": 1}] * 4
    assert len(service.ledger.calls("upload")) == 2


def test_uploads_stay_within_the_attempts(service, film):
    service.set_faults(Fault(method="upload", status=500))
    failure, calls = ask(service, question(segment_of(film, 0, 1)), media_input="files")
    assert (failure.code, failure.retryable) == ("model_unavailable", True)
    assert len(service.ledger.calls("upload")) == 3
    assert calls == []


def test_after_an_upload_was_refused_the_next_segment_uploads_anew(service, film):
    requests = [question(segment_of(film, second, second + 1), f"at {second}") for second in range(2)]
    service.set_faults(Fault(method="upload", first=1, status=400))
    (first, second), _ = ask_all(service.base_url, requests, media_input="files", one_by_one=True)
    assert first.code == "model_bad_request"
    assert second.metadata == {"n": 1}


def test_an_upload_that_is_gone_is_made_again_and_does_not_end_the_run(service, film):
    media = segment_of(film, 0, 2)

    async def scenario():
        async with opened(service.base_url, media_input="files") as provider:
            policy = CallPolicy(provider, CallSettings(max_attempts=3), MemorySink(), jitter=Impatient())
            subject = CallSubject("run_a", "vid_a", "seg_a", "key_a")
            await generate_checked(provider, policy, question(media, "first"), subject, CallTally())
            service.service.files.files.clear()
            # The refusal of one of them comes when the others have seen to a new upload, which is then used.
            service.set_faults(Fault(text="later 0", first=1, delay=1))
            later = [question(media, f"later {number}") for number in range(5)]
            return await asyncio.gather(
                *(generate_checked(provider, policy, request, subject, CallTally()) for request in later)
            )

    answers = asyncio.run(scenario())
    assert [answer.metadata for answer in answers] == [{"n": 1}] * 5
    assert len(service.ledger.calls("upload")) == 2


def test_what_was_uploaded_is_deleted_when_the_worker_ends_and_not_before(service, film, tone):
    files = service.service.files
    requests = [question(segment_of(film, 0, 2, "film")), question(segment_of(tone, 0, 2, "tone"))]

    async def scenario():
        async with opened(service.base_url, media_input="files") as provider:
            policy = CallPolicy(provider, CallSettings(), MemorySink())
            subject = CallSubject("run_a", "vid_a", "seg_a", "key_a")
            for request in (*requests, *requests):
                await generate_checked(provider, policy, request, subject, CallTally())
            assert (len(files.files), len(files.deleted)) == (2, 0)

    asyncio.run(scenario())
    assert (len(files.files), len(files.deleted)) == (0, 2)


def test_uploads_that_cannot_be_deleted_are_left_to_the_service(service, film, monkeypatch):
    answer = service.service._file

    def refuse(request, name):
        return JSONResponse(error_body(500), 500) if request.method == "DELETE" else answer(request, name)

    monkeypatch.setattr(service.service, "_file", refuse)
    outcome, _ = ask(service, question(segment_of(film, 0, 2)), media_input="files")
    assert outcome.metadata == {"n": 1}
    assert len(service.service.files.files) == 1


def test_deleting_is_given_up_where_the_service_is_silent(service, film, monkeypatch):
    monkeypatch.setattr(gemini, "DELETE_TIMEOUT_S", 0.2)

    async def scenario():
        async with opened(service.base_url, media_input="files") as provider:
            await provider.prepare(question(segment_of(film, 0, 2)))
            provider._client.aio.files.delete = lambda **name: asyncio.Event().wait()

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert len(service.service.files.files) == 1


# Two hundred answers


def storable_answer(rng):
    return {
        "summary": rng.choice(["a", "", "é漢😀", "line\nline", "\u2028"]),
        "scene": {"location": "dock", "people_count": rng.randrange(-5, 2**63)},
        "products": [{"name": f"p{n}", "price": rng.uniform(-1e300, 1e300)} for n in range(rng.randrange(4))],
    }


GOOD_FORMS = {
    "plain": lambda text, rng: text,
    "padded": lambda text, rng: f"\n\t {text} \r\n",
    "fenced": lambda text, rng: f"```json\n{text}\n```",
    "fenced without a name": lambda text, rng: f"```\n{text}\n```",
    "more fields than asked for": lambda text, rng: text[:-1] + ', "more": [null, {"x": []}]}',
    "half a surrogate pair": lambda text, rng: text[:-1] + ', "more": "x\\ud83dy"}',
    "a field twice": lambda text, rng: text[:-1] + ', "summary": "last one counts"}',
    "numbers as floats": lambda text, rng: text[:-1] + ', "start_time": 1e3}',
}
BAD_FORMS = {
    "cut": lambda text, rng: text[: rng.randrange(1, len(text))],
    "prose before": lambda text, rng: f"Here it is: {text}",
    "prose after": lambda text, rng: f"{text}\nI hope that helps.",
    "two objects": lambda text, rng: text + text,
    "single quotes": lambda text, rng: text.replace('"', "'"),
    "a comma too many": lambda text, rng: text[:-1] + ",}",
    "a comment": lambda text, rng: text[:-1] + "} // done",
    "not a number": lambda text, rng: text[:-1] + f', "start_time": {rng.choice(["NaN", "Infinity", "-Infinity"])}}}',
    "beyond floating point": lambda text, rng: text[:-1] + ', "start_time": 1e999}',
    "beyond 64 bits": lambda text, rng: (
        text[:-1] + f', "extra": {{"n": {rng.choice([2**63, -(2**63) - 1, 10**400])}}}}}'
    ),
    "beyond Python's digits": lambda text, rng: text[:-1] + ', "start_time": ' + "9" * 5000 + "}",
    "deep lists": lambda text, rng: text[:-1] + ', "extra": {"n": ' + "[" * 700 + "]" * 700 + "}}",
    "deep objects": lambda text, rng: text[:-1] + ', "extra": ' + '{"n":' * 400 + "1" + "}" * 400 + "}",
    "endless lists": lambda text, rng: "[" * rng.randrange(2_000, 50_000),
    "a list": lambda text, rng: f"[{text}]",
    "null": lambda text, rng: "null",
    "a text": lambda text, rng: json.dumps(text),
    "an empty object": lambda text, rng: "{}",
    "a field missing": lambda text, rng: text.replace('"summary"', '"sumary"'),
    "a null in place of a text": lambda text, rng: text[:-1] + ', "summary": null}',
    "a text in place of a number": lambda text, rng: text[:-1] + ', "start_time": "1.5"}',
    "a list in place of an object": lambda text, rng: text[:-1] + ', "scene": []}',
    "a product without a name": lambda text, rng: text[:-1] + ', "products": [{"price": 1}]}',
    "a page": lambda text, rng: "<html><body>502</body></html>",
    "control characters": lambda text, rng: text.replace("dock", "do\x00ck"),
}


def corpus(count, seed):
    """[(form, text, is good)], drawn from a seed."""
    rng = random.Random(seed)
    forms = [(name, make, True) for name, make in GOOD_FORMS.items()]
    forms += [(name, make, False) for name, make in BAD_FORMS.items()]
    chosen = [forms[number % len(forms)] for number in range(count)]
    return [(name, make(json.dumps(storable_answer(rng)), rng), good) for name, make, good in chosen]


def test_each_of_two_hundred_answers_ends_as_a_checked_answer_or_a_failure_that_keeps_it(service):
    answers = corpus(200, seed=11)
    answer_with(service, lambda text: answers[int(text.split()[1])][1])
    requests = [question(text=f"case {number} .", schema=NESTED.json_schema) for number in range(200)]
    outcomes, _ = ask_all(service.base_url, requests, max_output_tokens=65_536)
    asked = Counter(int(entry.text.split("case ")[1].split()[0]) for entry in service.ledger.calls())
    for number, ((form, text, good), outcome) in enumerate(zip(answers, outcomes, strict=True)):
        if good:
            assert not isinstance(outcome, Exception), (form, text, outcome)
            assert outcome.text == text
            json.dumps(outcome.metadata, allow_nan=False, ensure_ascii=False).encode()
        else:
            assert isinstance(outcome, AnswerFailed), (form, text, outcome)
            assert outcome.code in ("answer_not_json", "schema_invalid"), (form, outcome.code)
            assert outcome.answer == text, form
        assert asked[number] == (1 if good else 2), form


def test_two_bad_answers_of_different_kinds_are_one_repair(service):
    answers = iter(["no JSON", '{"n": "x"}', '{"n": 3}'])
    answer_with(service, lambda text: next(answers))
    failure, calls = ask(service)
    assert (failure.code, failure.answer) == ("schema_invalid", '{"n": "x"}')
    assert len(calls) == len(service.ledger.calls()) == 2


def test_half_a_surrogate_pair_in_the_text_itself_ends_in_a_failure_not_in_a_defect(service):
    answer_with(service, '{"n": 1, "more": "\ud83d"}')
    outcome, calls = ask(service)
    if isinstance(outcome, Exception):
        assert isinstance(outcome, ModelError), outcome
    else:
        assert outcome.metadata == {"n": 1, "more": "\ufffd"}
    for call in calls:
        json.dumps(call.response_text, ensure_ascii=False).encode()


# Access


def test_a_run_without_a_key_is_refused_naming_the_ways_to_one(monkeypatch):
    for name in KEY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingsError, match=r"GEMINI_API_KEY, or --vertex-project .* the built-in model signals"):
        GeminiProvider(ModelSettings(MODEL), 1.0).check_access()
    monkeypatch.setenv("GOOGLE_API_KEY", "made-up")
    GeminiProvider(ModelSettings(MODEL), 1.0).check_access()


def test_uploads_cannot_be_asked_for_on_vertex():
    settings = ModelSettings(MODEL, media_input="files", vertex_project="p", vertex_location="l")
    with pytest.raises(SettingsError, match="Files API"):
        GeminiProvider(settings, 1.0).check_access()


def test_the_environment_may_give_the_address_and_cannot_divert_calls_to_vertex(service, monkeypatch):
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", service.base_url)
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    (answer,), _ = ask_all(None, [question()])
    assert answer.metadata == {"n": 1}
    (entry,) = service.ledger.calls()
    assert entry.path.endswith(f"/models/{MODEL}:generateContent")
    assert "publishers" not in entry.path


@pytest.fixture
def service_account(service, tmp_path, monkeypatch):
    """Application default credentials whose tokens come from the fake service."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    account = {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "1",
        "client_email": "made-up@example.com",
        "token_uri": f"{service.base_url}/token",
        "private_key": key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    }
    path = tmp_path / "account.json"
    path.write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    for name in KEY_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_vertex_is_asked_with_the_accounts_token(service, service_account, film):
    vertex = {"vertex_project": "p", "vertex_location": "europe-west1"}
    answer, (call,) = ask(service, question(segment_of(film, 0, 2)), **vertex)
    assert answer.metadata == {"n": 1}
    assert call.video_tokens == 2 * 70
    (entry,) = service.ledger.calls()
    assert entry.path == (
        f"/v1beta1/projects/p/locations/europe-west1/publishers/google/models/{MODEL}:generateContent"
    )


def test_a_clip_too_large_for_vertex_fails_with_the_fix(service, service_account, film, monkeypatch):
    monkeypatch.setattr(gemini, "INLINE_LIMIT_BYTES", 1000)
    failure, _ = ask(service, question(segment_of(film, 0, 2)), vertex_project="p", vertex_location="europe-west1")
    assert failure.code == "model_bad_request"
    assert "shorter segments" in failure.message
