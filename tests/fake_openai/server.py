"""The chat completions API over HTTP, with the limits of a server that supports only a part of it."""

import asyncio
import base64
import hashlib
import io
import json
from collections import Counter
from dataclasses import dataclass

from PIL import Image
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fake_gemini.answers import answer_for
from tests.fake_gemini.faults import Fault
from tests.fake_gemini.response_body import BrokenResponse, apply_fault
from tests.fake_gemini.tokens import text_tokens

# OpenAI's finish reasons by those of the fault rules.
_REASONS = {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter"}
_TOKENS_PER_IMAGE = 85


@dataclass(frozen=True)
class Supports:
    """What the server accepts.

    Attributes:
        structures: types of `response_format`; others are rejected, or ignored if `ignores_rest`.
        token_limits: names of the token limit.
        temperature, sound, images: whether requests may have them.
    """

    structures: tuple = ("json_schema", "json_object")
    token_limits: tuple = ("max_completion_tokens", "max_tokens")
    temperature: bool = True
    sound: bool = True
    images: bool = True
    ignores_rest: bool = False


class ChatService:
    """The state behind the route. `bodies` holds the accepted request bodies."""

    def __init__(self, ledger, *, supports=Supports(), faults=(), answer=None, latency_s=0.0, models=None):
        self.ledger, self.supports, self.faults = ledger, supports, list(faults)
        self.answer, self.latency_s, self.models = answer, latency_s, models
        self.bodies = []
        self.keys = []
        self._try_counts = Counter()

    def clear(self):
        """Drop all requests."""
        self.ledger.clear()
        self.bodies.clear()
        self._try_counts.clear()
        for fault in self.faults:
            fault.hits = 0

    def app(self):
        """The ASGI application."""
        return Starlette(routes=[Route("/v1/chat/completions", self.complete, methods=["POST"])])

    async def complete(self, request):
        body = json.loads(await request.body())
        self.keys.append(request.headers.get("authorization"))
        content = hashlib.sha256(json.dumps(body["messages"], sort_keys=True).encode()).hexdigest()
        entry = self.ledger.begin("generateContent", body["model"], content, text_of(body), request.url.path)
        self._try_counts[content] += 1
        fault = next((rule for rule in self.faults if rule.matches(entry, self._try_counts[content])), None)
        if fault is None:
            fault = Fault()
        else:
            fault.hits += 1
        status = 0
        try:
            if fault.hang:
                await asyncio.Event().wait()
            await asyncio.sleep(self.latency_s + fault.delay)
            response = self._response(body, fault)
            status = 0 if isinstance(response, BrokenResponse) else response.status_code
            return response
        finally:
            self.ledger.end(entry, status, fault=fault.label or None)

    def _response(self, body, fault):
        if fault.reset:
            return BrokenResponse()
        if fault.html:
            status = fault.status or 502
            return Response(f"<html><body>{status} from a proxy</body></html>", status, media_type="text/html")
        if fault.status is not None:
            headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            return _error(fault.status, fault.message or "scripted", fault.reason, headers)
        if self.models is not None and body["model"] not in self.models:
            return _error(404, f"The model `{body['model']}` does not exist", "model_not_found")
        if (problem := self._problem(body)) is not None:
            return _error(400, problem, "unsupported_parameter")
        self.bodies.append(body)
        return self._completion(body, fault)

    def _problem(self, body):
        """Return why the server rejects a body; None if it accepts it."""
        supports = self.supports
        structure = body.get("response_format", {}).get("type")
        if structure is not None and structure not in supports.structures and not supports.ignores_rest:
            return f"response_format type '{structure}' is unavailable now"
        for name in ("max_tokens", "max_completion_tokens"):
            if name in body and name not in supports.token_limits:
                other = supports.token_limits[0]
                return f"Unsupported parameter: '{name}' is not supported with this model. Use '{other}' instead."
        if "temperature" in body and not supports.temperature:
            return "Unsupported value: 'temperature' does not support 0 with this model."
        kinds = {part["type"] for part in parts_of(body)}
        if "input_audio" in kinds and not supports.sound:
            return "This model does not support input_audio"
        if "image_url" in kinds and not supports.images:
            return "This model does not support image input"
        return None

    def _completion(self, body, fault):
        structure = body.get("response_format", {})
        is_schema = structure.get("type") == "json_schema" and "json_schema" in self.supports.structures
        schema = structure["json_schema"]["schema"] if is_schema else prompt_schema(body)
        if self.answer is not None:
            value = self.answer(body, schema)
        elif schema is None:
            value = "I see a street."  # an ignored response_format, and no schema to read
        else:
            value = answer_for(schema, text_of(body))
        text = value if isinstance(value, str) else json.dumps(value)
        text, reason = apply_fault(text, fault)
        budget = body.get("max_completion_tokens") or body.get("max_tokens")
        output = text_tokens(text)
        if budget is not None and output > budget and reason == "STOP":
            text, reason, output = text[: budget * 4], "MAX_TOKENS", budget
        pictures = sum(_is_picture(part) for part in parts_of(body))
        input_tokens = text_tokens(text_of(body)) + pictures * _TOKENS_PER_IMAGE
        thoughts = text_tokens(fault.thoughts or "")
        answer = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": f"{body['model']}-2026",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text or None, "refusal": fault.block_reason},
                    "finish_reason": _REASONS.get(reason, reason.lower()),
                }
            ],
            "usage": {
                "prompt_tokens": input_tokens,
                "completion_tokens": output + thoughts,
                "total_tokens": input_tokens + output + thoughts,
                "prompt_tokens_details": {"cached_tokens": 3},
                "completion_tokens_details": {"reasoning_tokens": thoughts},
            },
        }
        if fault.answer == "no_candidates":
            answer["choices"] = []
        return Response(json.dumps(answer), media_type="application/json")


def _error(status, message, code=None, headers=None):
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return JSONResponse({"error": error}, status_code=status, headers=headers)


def parts_of(body):
    """Return the parts of all messages."""
    contents = [message["content"] for message in body["messages"]]
    return [part for content in contents if isinstance(content, list) for part in content]


def text_of(body):
    """Return all texts of a body, joined."""
    texts = [message["content"] for message in body["messages"] if isinstance(message["content"], str)]
    return "\n".join(texts + [part["text"] for part in parts_of(body) if part["type"] == "text"])


def prompt_schema(body):
    """Return the schema that the system message contains; None without one."""
    _, found, text = body["messages"][0]["content"].partition("(JSON Schema):\n")
    return json.loads(text) if found else None


def _is_picture(part):
    """Return whether a part is a picture, after decoding it."""
    if part["type"] != "image_url":
        return False
    header, _, content = part["image_url"]["url"].partition(",")
    assert header == "data:image/jpeg;base64"
    Image.open(io.BytesIO(base64.b64decode(content))).load()
    return True
