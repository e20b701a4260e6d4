"""A scripted model for tests: a provider with a list of texts, answers and errors to return."""

import asyncio
import json

from promptreel.providers.base import ModelAnswer, ModelRequest, Provider, Usage
from promptreel.providers.call_policy import CallPolicy, CallSubject, CallTally
from promptreel.schemas.settings import CallSettings

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
REQUEST = ModelRequest("metadata_extraction", "instruction", "text", SCHEMA)
SUBJECT = CallSubject("run_a", "vid_a", "seg_a", "key_a")


class ScriptedModel(Provider):
    """Returns the entries of a script; the last one repeats."""

    name = "scripted"

    def __init__(self, *script, latency_s=0.0):
        self.script = list(script)
        self.latency_s = latency_s
        self.requests = []

    def fingerprint(self):
        return {"provider": "scripted"}

    async def call(self, request, prepared):
        self.requests.append(request)
        await asyncio.sleep(self.latency_s)
        entry = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(entry, Exception):
            raise entry
        if isinstance(entry, ModelAnswer):
            return entry
        text = entry if isinstance(entry, str) else json.dumps(entry)
        return ModelAnswer(text, "STOP", Usage(input_tokens=10, output_tokens=2, total_tokens=12))


class MemorySink:
    """Stores call records in lists; `earlier` are the records of an earlier attempt."""

    def __init__(self, earlier=()):
        self.begun, self.ended, self.earlier = [], [], earlier

    def begin(self, call):
        self.begun.append(call)

    def end(self, call):
        self.ended.append(call)

    async def answers(self, video_id, segment_id, operation_key):
        return [call for call in self.earlier if call.operation_key == operation_key]


def policy_for(model, sink=None, **options):
    """Return a call policy for a scripted model; needs a running event loop."""
    settings = options.pop("settings", CallSettings())
    return CallPolicy(model, settings, sink or MemorySink(), **options)


def tally():
    return CallTally()
