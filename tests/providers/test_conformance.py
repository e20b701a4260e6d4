"""Our own providers pass the tests that are offered to others."""

from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL
from promptreel.testing.provider_conformance import ProviderConformance, ServiceConformance


class TestGemini(ServiceConformance):
    model = DEFAULT_GEMINI_MODEL
    environment = {"GEMINI_API_KEY": "made-up-key"}

    def completion_body(self, completion):
        reasons = {"complete": "STOP", "truncated": "MAX_TOKENS", "blocked": "SAFETY", "unknown": "BORED"}
        usage = {
            "promptTokenCount": completion.input_tokens,
            "candidatesTokenCount": completion.output_tokens,
            "totalTokenCount": completion.total_tokens,
        }
        body = {"usageMetadata": usage} if completion.has_usage else {}
        if completion.ending == "refused":
            return body | {"promptFeedback": {"blockReason": "OTHER"}}
        if completion.ending == "nothing":
            return body | {"candidates": []}
        content = {"role": "model", "parts": [{"text": completion.text}]}
        return body | {"candidates": [{"content": content, "finishReason": reasons[completion.ending]}]}


class TestOpenAI(ServiceConformance):
    model = "openai:tiny"
    path = "/v1"
    environment = {"OPENAI_API_KEY": "made-up-key"}
    needs_environment = False  # servers at other addresses may need no key

    def completion_body(self, completion):
        reasons = {"truncated": "length", "blocked": "content_filter", "unknown": "bored"}
        usage = {
            "prompt_tokens": completion.input_tokens,
            "completion_tokens": completion.output_tokens,
            "total_tokens": completion.total_tokens,
        }
        refusal = "I cannot answer this." if completion.ending == "refused" else None
        message = {"role": "assistant", "content": completion.text, "refusal": refusal}
        choice = {"index": 0, "message": message, "finish_reason": reasons.get(completion.ending, "stop")}
        body = {"id": "1", "object": "chat.completion", "created": 0, "model": "tiny"}
        choices = [] if completion.ending == "nothing" else [choice]
        return body | {"choices": choices} | ({"usage": usage} if completion.has_usage else {})


class TestSignals(ProviderConformance):
    model = "signals"
    schema = {"type": "object", "properties": {"duration_seconds": {"type": "number"}}}
