"""Build response bodies: the text with a scripted fault applied, usage metadata, and a broken response."""

import json

from starlette.responses import Response

from tests.fake_gemini.wrong_shapes import WRONG_SHAPES


class BrokenResponse(Response):
    """Declares more bytes than it sends, so that the server closes the connection."""

    async def __call__(self, scope, receive, send):
        headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"candidates": [', "more_body": True})


def apply_fault(text, fault):
    """Return (text, finish reason) of an answer with a scripted fault applied."""
    reason = fault.finish_reason or "STOP"
    if fault.text_answer is not None:
        return fault.text_answer, reason
    if fault.answer == "malformed":
        return text[: len(text) // 2] + " oops", reason
    if fault.answer == "wrong_schema":
        return json.dumps({"unexpected": [1]}), reason
    if fault.answer in WRONG_SHAPES:
        return WRONG_SHAPES[fault.answer](text), reason
    if fault.answer == "empty":
        return "", reason
    if fault.answer == "truncated":
        return text[: max(1, len(text) // 2)], "MAX_TOKENS"
    if reason not in ("STOP", "MAX_TOKENS"):
        return "", reason
    return text, reason


def usage_metadata(counted, output, cached, thoughts=0):
    """Return the usage of a call.

    Args:
        counted: input tokens by modality.
        output, cached, thoughts: token counts.
    """
    details = [{"modality": name, "tokenCount": count} for name, count in counted.items() if count]
    total = sum(counted.values())
    usage = {
        "promptTokenCount": total,
        "candidatesTokenCount": output,
        "totalTokenCount": total + output + thoughts,
        "promptTokensDetails": details,
    }
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts
    return usage | ({"cachedContentTokenCount": cached} if cached else {})
