"""The protocol of the google-genai client over HTTP: generateContent, embeddings, countTokens and files."""

import asyncio
import json
import random
import threading
import time
from collections import Counter

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from promptreel.providers.known_models import KNOWN_MODELS
from tests.fake_gemini.answers import answer_for, embedding_for
from tests.fake_gemini.batches import BatchService
from tests.fake_gemini.faults import Fault, error_body, read_faults
from tests.fake_gemini.files import FileStore
from tests.fake_gemini.marks import is_marking, marks_for
from tests.fake_gemini.quota import Quota
from tests.fake_gemini.request_body import content_hash, decode_base64, parts_of, text_of, with_camel_case_keys
from tests.fake_gemini.response_body import BrokenResponse, apply_fault, usage_metadata
from tests.fake_gemini.tokens import BadMedia, facts_of, media_tokens, text_tokens
from tests.fake_gemini.usage_style import UsageStyle

_MAX_OUTPUT_TOKENS = 65_536
_MAX_REQUEST_BYTES = 20 * 1024 * 1024
_MAX_EMBEDDED_TEXTS = 100  # in one request
_MIN_CACHED_CHARS = 4096  # an instruction of at least this length counts as cached from its second use on


# The wording of the service for every quota.
_QUOTA_MESSAGE = "You exceeded your current quota, please check your plan and billing details."
_TOKEN = "made-up"  # for Vertex AI
_QUOTA_ID = "GenerateRequestsPerMinutePerProjectPerModel"
# Models that the service has shut down, or has closed to new users.
RETIRED = tuple(name for name, model in KNOWN_MODELS.items() if (model.shutdown_date or "9") < "2027")


class RejectedRequest(Exception):
    """The service rejects the request with an error response."""

    def __init__(self, status, message, **details):
        super().__init__(message)
        self.status, self.message, self.details = status, message, details


class FakeService:
    """The state behind the routes.

    Args:
        answer: a function `answer(body, schema)` that replaces the built-in answers.
        marks: (start, end, label) of the segments of every item, in seconds, for requests that mark segments.
        retired: names of models that get status 404.
        versions: maps a model to the version that its answers report; by default the model's name.
        has_models: False for a proxy that answers calls only, and cannot look up models.
        batch_s: duration of a batch job.
        usage: how much the models write and think, and how the service counts; None writes little and never thinks.
    """

    def __init__(
        self,
        ledger,
        *,
        latency_s=0.0,
        spread=0.0,
        rps=None,
        faults=(),
        processing_s=0.0,
        uploads_fail=False,
        answer=None,
        marks=None,
        retired=RETIRED,
        versions=None,
        has_models=True,
        batch_s=0.0,
        usage=None,
        seed=0,
    ):
        self.ledger = ledger
        self.latency_s = latency_s
        self.spread = spread
        self.quota = Quota(rps) if rps else None
        self.faults = list(faults)
        self.answer = answer
        self.marks = marks
        self.retired = frozenset(retired)
        self.versions = dict(versions or {})
        self.has_models = has_models
        self.look_ups = []  # names of the models that clients looked up; "" for the list
        self.usage = usage or UsageStyle()
        self.files = FileStore("", processing_s, uploads_fail)
        self.batches = BatchService(self, batch_s)
        self.released = threading.Event()
        self._try_counts = Counter()
        self._instructions = Counter()
        self._random = random.Random(seed)

    def app(self):
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/_ledger", self.get_ledger),
                Route("/_faults", self.set_faults, methods=["POST"]),
                Route("/_reset", self.reset, methods=["POST"]),
                Route("/token", self.issue_token, methods=["POST"]),
                # The version is v1 or v1beta; v1beta1 on Vertex AI.
                Route("/upload/{version}/files", self.start_upload, methods=["POST"]),
                Route("/upload/{version}/continue/{name:path}", self.receive_upload, methods=["POST", "PUT"]),
                Route("/{version}/files", self.list_files),
                Route("/{version}/batches", self.batches.list),
                Route("/{version}/{name:path}", self.dispatch, methods=["GET", "POST", "DELETE"]),
            ]
        )

    async def dispatch(self, request):
        name = request.path_params["name"]
        if name.endswith(":download") or name.startswith("batches/"):
            return await self.batches.handle(name)
        if name.startswith("files/"):
            return self.files.respond(request.method, name)
        if request.method == "GET":
            return self._models(name)
        model, _, method = name.rsplit("/", 1)[-1].partition(":")
        raw = await request.body()
        if len(raw) > _MAX_REQUEST_BYTES:
            message = f"Request payload size exceeds the limit: {_MAX_REQUEST_BYTES} bytes."
            return JSONResponse(error_body(400, message), status_code=400)
        body = with_camel_case_keys(json.loads(raw))
        if method == "batchGenerateContent":
            return await self.batches.create(model, body)
        if method == "countTokens":
            return self._count(model, body)
        handlers = {
            "generateContent": self._generate,
            "embedContent": self._embed,
            "batchEmbedContents": self._embed_batch,
        }
        if method not in handlers:
            return JSONResponse(error_body(404, f"unknown method {method}"), status_code=404)
        if name.startswith("projects/") and request.headers.get("authorization") != f"Bearer {_TOKEN}":
            return JSONResponse(error_body(401, "Vertex AI needs a token from /token"), status_code=401)
        return await self._call(method, model, body, request.url.path, handlers[method])

    def _models(self, name):
        model = name.rsplit("/", 1)[-1] if "/" in name else ""
        self.look_ups.append(model)
        if not self.has_models or not name.startswith(("models", "tunedModels")):
            return JSONResponse({"detail": "Not Found"}, status_code=404)
        if not model:
            listed = [known for known in KNOWN_MODELS if known not in self.retired]
            return JSONResponse({"models": [{"name": f"models/{known}"} for known in listed]})
        if model in self.retired:
            message = f"{name} is not found for API version v1, or is not supported for generateContent."
            return JSONResponse(error_body(404, message), status_code=404)
        return JSONResponse({"name": name, "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536})

    async def _call(self, method, model, body, path, handler):
        """Handle one call with quota, faults and ledger; `handler` returns its answer and the facts for the ledger."""
        content = content_hash(model, body)
        text = text_of(body)
        entry = self.ledger.begin(method, model, content, text, path)
        entry.tier = body.get("serviceTier", "standard").lower()
        fault = self._fault(entry, self._count_try(content))
        answered = False
        try:
            wait = self.quota.acquire() if self.quota is not None else 0.0
            if wait:
                answered = True
                return self._error(entry, 429, _QUOTA_MESSAGE, retry_delay=wait, quota_id=_QUOTA_ID)
            await self._pause(fault)
            if model in self.retired:
                raise RejectedRequest(404, f"models/{model} is no longer available to new users. Use a newer model.")
            if fault.reset:
                answered = True
                self.ledger.end(entry, 0, fault=fault.label)
                return BrokenResponse()
            if fault.html:
                answered = True
                status = fault.status or 502
                self.ledger.end(entry, status, fault=fault.label)
                return Response(f"<html><body>{status} from a proxy</body></html>", status, media_type="text/html")
            if fault.status is not None:
                answered = True
                return self._error(
                    entry, fault.status, fault.message, retry_after=fault.retry_after, fault=fault.label,
                    retry_delay=fault.retry_delay, quota_id=fault.quota_id, quota_value=fault.quota_value,
                    reason=fault.reason, status_name=fault.status_name,
                )  # fmt: skip
            answer, facts = handler(model, body, fault)
            answered = True
            self.ledger.end(entry, 200, fault=fault.label or None, **facts)
            # In ASCII, so that an answer can contain everything that JSON can escape.
            return Response(json.dumps(answer), media_type="application/json")
        except RejectedRequest as rejected:
            answered = True
            return self._error(entry, rejected.status, rejected.message, **rejected.details)
        finally:
            if not answered:  # the client disconnected while waiting
                self.ledger.end(entry, 0, fault=fault.label or "client left")

    def _count_try(self, content):
        self._try_counts[content] += 1
        return self._try_counts[content]

    def _fault(self, entry, try_number=1):
        elapsed_s = entry.arrived_at - self.ledger.entries[0].arrived_at
        for fault in self.faults:
            if fault.matches(entry, try_number, elapsed_s):
                fault.hits += 1
                return fault
        return Fault()

    async def _pause(self, fault):
        if fault.hang:
            await asyncio.Event().wait()
        factor = self._random.lognormvariate(0, self.spread) if self.spread else 1.0
        await asyncio.sleep(self.latency_s * factor + fault.delay)
        while fault.hold and not self.released.is_set():
            await asyncio.sleep(0.02)

    def _error(self, entry, status, message, *, retry_after=None, fault=None, **details):
        self.ledger.end(entry, status, fault=fault)
        value = retry_after if isinstance(retry_after, str) else f"{retry_after or 0:g}"
        headers = {"Retry-After": value} if retry_after is not None else {}
        return JSONResponse(error_body(status, message, **details), status_code=status, headers=headers)

    def _generate(self, model, body, fault):
        answer = self._answer(model, body, fault)
        usage = answer["usageMetadata"]
        reason = answer["candidates"][0].get("finishReason") if answer.get("candidates") else None
        tokens = {"input_tokens": usage["promptTokenCount"], "output_tokens": usage["candidatesTokenCount"]}
        return answer, {"finish_reason": reason, **tokens}

    def _embed(self, model, body, fault):
        return {"embedding": self._embedding(model, body)}, {"input_tokens": text_tokens(text_of(body))}

    def _embed_batch(self, model, body, fault):
        requests = body.get("requests", [])
        if len(requests) > _MAX_EMBEDDED_TEXTS:
            raise RejectedRequest(
                400, f"at most {_MAX_EMBEDDED_TEXTS} requests can be in one batch, not {len(requests)}"
            )
        answer = {"embeddings": [self._embedding(model, part) for part in requests]}
        return answer, {"input_tokens": text_tokens(text_of(body))}

    def _embedding(self, model, body):
        if not text_of(body):
            raise RejectedRequest(400, "content is empty")
        return {"values": embedding_for(model, text_of(body), body.get("outputDimensionality"))}

    def _answer(self, model, body, fault):
        config = body.get("generationConfig", {})
        schema = config.get("responseJsonSchema") or config.get("responseSchema")
        budget = config.get("maxOutputTokens")
        if budget is not None and not 1 <= budget <= _MAX_OUTPUT_TOKENS:
            raise RejectedRequest(400, f"max_output_tokens must be from 1 to {_MAX_OUTPUT_TOKENS}, not {budget}")
        if {"thinkingBudget", "thinkingLevel"} <= set(config.get("thinkingConfig", {})):
            raise RejectedRequest(400, "You can only set only one of thinking budget and thinking level.")
        version = self.versions.get(model, model)
        counted = self._count_input(model, body)
        if fault.no_media_tokens:
            counted = {"TEXT": counted.get("TEXT", 0)}
        if self.answer is not None:
            value = self.answer(body, schema)
        elif is_marking(schema):
            value = marks_for(text_of(body), self.marks)
        else:
            seed = content_hash(model, {**body, "generationConfig": schema})
            value = answer_for(schema, seed, self.usage.words, self.usage.entries)
        text = value if isinstance(value, str) else json.dumps(value)
        text, reason = apply_fault(text, fault)
        output = text_tokens(text)
        if budget is not None and output > budget and reason == "STOP":
            text, reason, output = text[: budget * 4], "MAX_TOKENS", budget
        thoughts = text_tokens(fault.thoughts or "") + self.usage.thoughts(model, config, self._seed(model, body))
        usage = usage_metadata(self.usage.counted(counted), output, self._cached(body), thoughts)
        if fault.block_reason:
            return {
                "promptFeedback": {"blockReason": fault.block_reason},
                "usageMetadata": usage,
                "modelVersion": version,
            }
        if fault.answer == "no_candidates":
            return {"usageMetadata": usage, "modelVersion": version}
        parts = [{"text": fault.thoughts, "thought": True}] if fault.thoughts else []
        parts += [{"text": text}] if text else []
        candidate = {"content": {"role": "model", "parts": parts}, "finishReason": reason, "index": 0}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": version}

    @staticmethod
    def _seed(model, body):
        """Return a text that is the same for the same request to another server, whose files have other addresses."""
        has_files = any("fileData" in part for part in parts_of(body))
        return text_of(body) if has_files else content_hash(model, body)

    def _count_input(self, model, body):
        resolution = body.get("generationConfig", {}).get("mediaResolution", "").removeprefix("MEDIA_RESOLUTION_")
        counted = Counter(TEXT=text_tokens(text_of(body)))
        for part in parts_of(body):
            if "inlineData" in part:
                data = part["inlineData"]
                content, mime_type = decode_base64(data["data"]), data["mimeType"]
            elif "fileData" in part:
                stored = self.files.by_uri(part["fileData"]["fileUri"])
                if stored is None:
                    raise RejectedRequest(403, "You do not have permission to access the File or it may not exist.")
                content, mime_type = stored.content, stored.mime_type
            else:
                continue
            part_level = part.get("mediaResolution", {}).get("level", "").removeprefix("MEDIA_RESOLUTION_")
            if part_level and model.startswith("gemini-2"):
                raise RejectedRequest(400, f"Media resolution of a part is not supported by {model}.")
            try:
                counted.update(
                    media_tokens(
                        facts_of(content, mime_type), part.get("videoMetadata", {}), model, part_level or resolution
                    )
                )
            except BadMedia as error:
                raise RejectedRequest(400, f"Unable to process input {mime_type.split('/')[0]}: {error}") from error
        return dict(counted)

    def _cached(self, body):
        instruction = json.dumps(body.get("systemInstruction"))
        self._instructions[instruction] += 1
        is_long_enough = len(instruction) >= _MIN_CACHED_CHARS
        return text_tokens(instruction) if is_long_enough and self._instructions[instruction] > 1 else 0

    def _count(self, model, body):
        entry = self.ledger.begin("countTokens", model, content_hash(model, body), "")
        fault = self._fault(entry)
        if fault.status is not None:
            return self._error(entry, fault.status, fault.message, fault=fault.label)
        try:
            total = sum(self._count_input(model, body.get("generateContentRequest", body)).values())
        except RejectedRequest as rejected:
            return self._error(entry, rejected.status, rejected.message)
        self.ledger.end(entry, 200, input_tokens=total)
        return JSONResponse({"totalTokens": total})

    async def start_upload(self, request):
        entry = self.ledger.begin("upload", "", "", "")
        fault = self._fault(entry)
        if fault.status is not None:
            return self._error(entry, fault.status, fault.message, fault=fault.label, retry_delay=fault.retry_delay)
        description = with_camel_case_keys(json.loads(await request.body() or b"{}")).get("file", {})
        mime_type = request.headers.get("x-goog-upload-header-content-type") or description.get("mimeType", "")
        stored = self.files.start(mime_type, description.get("name"))
        self.ledger.end(entry, 200)
        url = f"{self.files.base_url}/upload/v1/continue/{stored.name}"
        return JSONResponse({}, headers={"X-Goog-Upload-URL": url, "X-Goog-Upload-Status": "active"})

    async def receive_upload(self, request):
        stored = self.files.files[request.path_params["name"]]
        stored.content += await request.body()
        if "finalize" not in request.headers.get("x-goog-upload-command", ""):
            return JSONResponse({}, headers={"X-Goog-Upload-Status": "active"})
        stored.finished_at = time.monotonic()
        return JSONResponse({"file": self.files.describe(stored)}, headers={"X-Goog-Upload-Status": "final"})

    async def list_files(self, request):
        return JSONResponse({"files": [self.files.describe(stored) for stored in self.files.files.values()]})

    async def get_ledger(self, request):
        calls = self.ledger.calls()
        return JSONResponse(
            {
                "calls": len(calls),
                "answered": len(self.ledger.answered()),
                "repeated": self.ledger.repeated(),
                "max_in_flight": self.ledger.max_in_flight(),
                "by_status": dict(Counter(str(entry.status) for entry in calls)),
            }
        )

    async def set_faults(self, request):
        try:
            self.faults = read_faults(await request.body())
        except ValueError as error:
            return JSONResponse(error_body(400, str(error)), status_code=400)
        return JSONResponse({"faults": len(self.faults)})

    async def reset(self, request):
        self.clear()
        return JSONResponse({})

    def clear(self):
        """Drop all requests and uploads; settings are unchanged."""
        self.ledger.clear()
        self.files.clear()
        self.batches.jobs.clear()
        self._try_counts.clear()
        self._instructions.clear()
        for fault in self.faults:
            fault.hits = 0

    async def issue_token(self, request):
        """Issue the access token of a made-up service account, to test Vertex AI."""
        return JSONResponse({"access_token": _TOKEN, "expires_in": 3600, "token_type": "Bearer"})
