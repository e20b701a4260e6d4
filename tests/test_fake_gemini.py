"""The fake Gemini service: ledger, quota, faults, files and token counts, with the real client and plain HTTP."""

import asyncio
import io
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import jsonschema
import pytest
from google import genai
from google.genai import errors, types

from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL
from tests.analysed_media import make_media
from tests.fake_gemini import FakeGemini, Fault, read_faults
from tests.fake_gemini.answers import answer_for
from tests.prompts import NESTED

MODEL = DEFAULT_GEMINI_MODEL


@pytest.fixture(scope="module")
def running():
    with FakeGemini() as server:
        yield server


@pytest.fixture
def server(running):
    running.set_faults()
    running.service.clear()
    running.service.files.fails, running.service.files.processing_s = False, 0.0
    running.service.quota = None
    return running


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Content of small media files by name."""
    folder = tmp_path_factory.mktemp("media")
    silent = make_media(folder / "silent.mp4", picture="testsrc2=size=160x90:rate=10", seconds=4)
    film = make_media(folder / "film.mp4", picture="testsrc2=size=160x90:rate=10", sound="sine", seconds=4)
    tone = make_media(folder / "tone.wav", sound="sine", seconds=3)
    still = make_media(folder / "still.png", picture="testsrc2=size=160x90")
    return {path.stem: path.read_bytes() for path in (silent, film, tone, still)}


MIME = {"silent": "video/mp4", "film": "video/mp4", "tone": "audio/wav", "still": "image/png"}


def call(server, *parts, model=MODEL, **config):
    """Make one call with the real client, without retries."""

    async def scenario():
        options = types.HttpOptions(base_url=server.base_url, retry_options=types.HttpRetryOptions(attempts=1))
        client = genai.Client(vertexai=False, api_key="made-up", http_options=options)
        try:
            return await client.aio.models.generate_content(
                model=model, contents=list(parts), config=types.GenerateContentConfig(**config)
            )
        finally:
            await client.aio.aclose()

    return asyncio.run(scenario())


def part_of(media, name, **metadata):
    part = types.Part.from_bytes(data=media[name], mime_type=MIME[name])
    if metadata:
        part.video_metadata = types.VideoMetadata(**metadata)
    return part


def tokens_of(response):
    return {detail.modality.value: detail.token_count for detail in response.usage_metadata.prompt_tokens_details}


def post(server, path, body):
    request = urllib.request.Request(
        server.base_url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.loads(response.read())


# Token counts


@pytest.mark.parametrize(
    ("name", "metadata", "counted"),
    [
        ("silent", {}, {"VIDEO": 4 * 70}),
        ("silent", {"fps": 2.0}, {"VIDEO": 8 * 70}),
        ("silent", {"fps": 0.5}, {"VIDEO": 2 * 70}),
        ("silent", {"start_offset": "1s", "end_offset": "3s"}, {"VIDEO": 2 * 70}),
        ("silent", {"start_offset": "3s", "end_offset": "90s"}, {"VIDEO": 1 * 70}),
        ("tone", {}, {"AUDIO": 3 * 32}),
        ("still", {}, {"IMAGE": 1120}),
    ],
)
def test_token_counts_depend_on_the_media(server, media, name, metadata, counted):
    response = call(server, part_of(media, name, **metadata), "a question of 28 characters.")
    assert tokens_of(response) == {"TEXT": 7} | counted
    usage = response.usage_metadata
    assert usage.prompt_token_count == 7 + sum(counted.values())
    assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count


def test_film_with_sound_counts_both(server, media):
    tokens = tokens_of(call(server, part_of(media, "film"), "text"))
    assert tokens["VIDEO"] == 4 * 70
    assert tokens["AUDIO"] == pytest.approx(4 * 32, abs=4)


@pytest.mark.parametrize(
    ("model", "name", "counted"),
    [
        (MODEL, "silent", [4 * 70, 4 * 70, 4 * 280]),
        (MODEL, "still", [280, 560, 1120]),
        ("gemini-2.5-flash-lite", "silent", [4 * 66, 4 * 258, 4 * 258]),
        ("gemini-2.5-flash-lite", "still", [66, 258, 258]),
    ],
)
def test_media_tokens_depend_on_resolution(server, media, model, name, counted):
    for resolution, tokens in zip(("LOW", "MEDIUM", "HIGH"), counted, strict=True):
        response = call(server, part_of(media, name), model=model, media_resolution=f"MEDIA_RESOLUTION_{resolution}")
        assert sum(tokens_of(response).values()) == tokens


def test_text_and_instruction_tokens_are_counted(server):
    assert tokens_of(call(server, "x" * 400)) == {"TEXT": 100}
    assert tokens_of(call(server, "x" * 400, system_instruction="y" * 399)) == {"TEXT": 200}  # plus a line break


def test_ledger_has_the_usage_of_the_answer(server, media):
    response = call(server, part_of(media, "silent"))
    (entry,) = server.ledger.calls()
    assert entry.input_tokens == response.usage_metadata.prompt_token_count == 4 * 70
    assert entry.output_tokens == response.usage_metadata.candidates_token_count


def test_count_tokens_makes_no_answer(server, media):
    body = {
        "contents": [
            {"parts": [{"text": "x" * 40}, {"inlineData": {"mimeType": "image/png", "data": _base64(media["still"])}}]}
        ]
    }
    counted = post(server, f"/v1beta/models/{MODEL}:countTokens", body)
    assert counted == {"totalTokens": 10 + 1120}
    assert post(server, f"/v1beta/models/{MODEL}:countTokens", {"generateContentRequest": body}) == counted
    assert (len(server.ledger.calls("countTokens")), server.ledger.calls()) == (2, [])


def _base64(content):
    import base64

    return base64.b64encode(content).decode()


def test_invalid_media_is_rejected(server, media):
    with pytest.raises(errors.ClientError, match="Unable to process input video") as raised:
        call(server, types.Part.from_bytes(data=b"not a film", mime_type="video/mp4"))
    assert raised.value.code == 400


def test_request_over_the_limit_is_rejected(server):
    with pytest.raises(errors.ClientError, match="payload size exceeds"):
        call(server, types.Part.from_bytes(data=bytes(16_000_000), mime_type="video/mp4"))


# Answers


@pytest.mark.parametrize("seed", range(20))
def test_answers_match_their_schema_and_are_deterministic(seed):
    answer = answer_for(NESTED.json_schema, f"question {seed}")
    jsonschema.validate(answer, NESTED.json_schema)
    assert answer == answer_for(NESTED.json_schema, f"question {seed}")


def test_different_questions_get_different_answers(server):
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 10**9}}, "required": ["n"]}
    config = {"response_mime_type": "application/json", "response_json_schema": schema}
    first, second, again = (call(server, text, **config).text for text in ("one", "two", "one"))
    assert first != second
    assert first == again
    assert server.ledger.repeated() == 1


def test_answer_over_its_token_limit_is_truncated(server):
    server.service.answer = lambda body, schema: "x" * 1000
    try:
        response = call(server, "text", max_output_tokens=20)
    finally:
        server.service.answer = None
    assert response.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
    assert (response.text, response.usage_metadata.candidates_token_count) == ("x" * 80, 20)


# Quota, faults, ledger


def test_calls_over_the_quota_get_429_with_retry_delay():
    with FakeGemini(rps=1) as server:
        rejected = 0
        for number in range(6):
            try:
                call(server, f"question {number}")
            except errors.ClientError as error:
                rejected += 1
                details = {detail["@type"].rsplit(".", 1)[-1]: detail for detail in error.details["error"]["details"]}
                assert 0 < float(details["RetryInfo"]["retryDelay"].removesuffix("s")) <= 1.001
                assert "PerMinute" in details["QuotaFailure"]["violations"][0]["quotaId"]
        entries = server.ledger.calls()
        assert len(entries) == 6
        assert sum(entry.status == 429 for entry in entries) == rejected > 0
        assert server.ledger.rejected_share() == rejected / 6


def statuses(server, count=6, text="question {}"):
    for number in range(count):
        try:
            call(server, text.format(number))
        except errors.APIError:
            pass
    return [entry.status for entry in server.ledger.calls()]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"first": 2}, [503, 503, 200, 200, 200, 200]),
        ({"every": 3}, [200, 200, 503, 200, 200, 503]),
        ({"nth": 4}, [200, 200, 200, 503, 200, 200]),
        ({"after": 4}, [200, 200, 200, 200, 503, 503]),
        ({"text": "question [15]"}, [200, 503, 200, 200, 200, 503]),
        ({"model": "flash"}, [503] * 6),
        ({"model": "pro"}, [200] * 6),
        ({"probability": 0.0}, [200] * 6),
        ({"probability": 1.0}, [503] * 6),
        ({"method": "upload"}, [200] * 6),
    ],
)
def test_fault_rule_applies_to_matching_requests(server, rule, expected):
    server.set_faults(Fault(status=503, **rule))
    assert statuses(server) == expected


def test_fault_rule_with_tries_ends_after_them(server):
    server.set_faults(Fault(status=500, tries=2))
    assert statuses(server, 4, text="the same") == [500, 500, 200, 200]


def test_random_faults_depend_on_the_seed(server):
    server.set_faults(Fault(status=500, probability=0.5, seed=3))
    first = statuses(server, 12)
    server.service.clear()
    assert statuses(server, 12) == first
    assert set(first) == {200, 500}


def test_first_matching_fault_rule_applies(server):
    server.set_faults(Fault(first=1, status=500), Fault(status=503))
    assert statuses(server, 2) == [500, 503]


@pytest.mark.parametrize("text", ['[{"statsu": 500}]', "{}", "[1]", "nonsense"])
def test_invalid_fault_rules_are_rejected(server, text):
    with pytest.raises(ValueError, match=r".+"):
        read_faults(text)
    request = urllib.request.Request(server.base_url + "/_faults", text.encode())
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request, timeout=10)


def test_ledger_is_served_with_counts(server):
    assert post(server, "/_faults", [{"nth": 2, "status": 500}]) == {"faults": 1}
    statuses(server, 3, text="the same")
    with urllib.request.urlopen(server.base_url + "/_ledger", timeout=10) as response:
        summary = json.loads(response.read())
    assert summary == {
        "calls": 3, "answered": 2, "repeated": 1, "max_in_flight": 1, "by_status": {"200": 2, "500": 1}
    }  # fmt: skip
    post(server, "/_reset", {})
    assert server.ledger.calls() == []


def test_concurrent_requests_are_counted(server):
    async def scenario():
        options = types.HttpOptions(base_url=server.base_url)
        client = genai.Client(vertexai=False, api_key="made-up", http_options=options)
        calls = (client.aio.models.generate_content(model=MODEL, contents=f"question {n}") for n in range(7))
        await asyncio.gather(*calls)
        await client.aio.aclose()

    server.service.latency_s = 1.0
    try:
        asyncio.run(scenario())
    finally:
        server.service.latency_s = 0.0
    assert server.ledger.max_in_flight() == 7
    assert server.ledger.rate() <= 7.1


# Files


def upload(server, content, mime_type, then=lambda client, file: file):
    async def scenario():
        client = genai.Client(
            vertexai=False, api_key="made-up", http_options=types.HttpOptions(base_url=server.base_url)
        )
        try:
            file = await client.aio.files.upload(file=io.BytesIO(content), config={"mime_type": mime_type})
            done = then(client, file)
            return await done if asyncio.iscoroutine(done) else done
        finally:
            await client.aio.aclose()

    return asyncio.run(scenario())


def test_uploaded_file_is_stored_listed_and_deleted(server, media):
    async def inspect_and_delete(client, file):
        again = await client.aio.files.get(name=file.name)
        listed = [part.name async for part in await client.aio.files.list()]
        await client.aio.files.delete(name=file.name)
        with pytest.raises(errors.ClientError):
            await client.aio.files.get(name=file.name)
        return file, again, listed

    file, again, listed = upload(server, media["film"], "video/mp4", inspect_and_delete)
    assert (file.state, file.size_bytes, file.mime_type) == (types.FileState.ACTIVE, len(media["film"]), "video/mp4")
    assert again.uri == file.uri
    assert listed == [file.name]


def test_offsets_of_uploaded_file_limit_its_tokens(server, media):
    file = upload(server, media["silent"], "video/mp4")
    part = types.Part.from_uri(file_uri=file.uri, mime_type="video/mp4")
    part.video_metadata = types.VideoMetadata(start_offset="1s", end_offset="2.000000s")
    assert tokens_of(call(server, part)) == {"VIDEO": 70}


@pytest.mark.parametrize(("processing_s", "fails", "state"), [(60, False, "PROCESSING"), (0, True, "FAILED")])
def test_unready_file_is_rejected_in_calls(server, media, processing_s, fails, state):
    server.service.files.processing_s, server.service.files.fails = processing_s, fails
    file = upload(server, media["silent"], "video/mp4")
    assert file.state.name == state
    with pytest.raises(errors.ClientError, match="access the File"):
        call(server, types.Part.from_uri(file_uri=file.uri, mime_type="video/mp4"))


def test_uploads_are_counted_and_can_fail_by_rule(server):
    server.set_faults(Fault(method="upload", first=1, status=400))
    with pytest.raises(errors.ClientError):
        upload(server, b"x", "video/mp4")
    upload(server, b"x", "video/mp4")
    assert [entry.status for entry in server.ledger.calls("upload")] == [400, 200]


# Command line


def test_command_line_writes_the_ledger_to_a_file(tmp_path):
    faults = tmp_path / "faults.json"
    faults.write_text('[{"nth": 2, "status": 503}]')
    command = [sys.executable, "-m", "tests.fake_gemini", "--port", "0", "--latency", "0"]
    command += ["--faults", str(faults), "--ledger", str(tmp_path / "ledger.jsonl")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:

            class Shell:
                base_url = process.stdout.readline().split()[0]

            call(Shell, "one")
            with pytest.raises(errors.ServerError):
                call(Shell, "two")
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    lines = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert [(line["event"], line["number"], line["status"]) for line in lines] == [
        ("begin", 1, None), ("end", 1, 200), ("begin", 2, None), ("end", 2, 503)
    ]  # fmt: skip


def test_invalid_faults_file_is_named(tmp_path):
    faults = tmp_path / "faults.json"
    faults.write_text('[{"statsu": 503}]')
    command = [sys.executable, "-m", "tests.fake_gemini", "--faults", str(faults)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "statsu" in done.stderr
    assert "Traceback" not in done.stderr
