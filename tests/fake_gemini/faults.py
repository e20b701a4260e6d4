"""Scripted faults: the requests that they match, and their effects.

In JSON, a list of rules; the first rule that matches a request applies:

    [{"text": "Segment 0:10", "status": 503},
     {"first": 3, "status": 429, "retry_delay": 0.2},
     {"every": 10, "finish_reason": "SAFETY"},
     {"probability": 0.3, "seed": 7, "status": 500}]
"""

import json
import random
import re
from dataclasses import dataclass, field, fields


@dataclass
class Fault:
    """One rule. All matching fields that are set must match.

    Matching:
        first: only the first n matching requests.
        tries: only the first n tries of the same content.
        every: every n-th request to the server.
        nth: only the n-th request to the server, counted from 1.
        after: only requests after the n-th.
        from_s, until_s: only requests in this part of the time since the first request, in seconds: an outage.
        probability, seed: a share of the requests, the same for the same seed and request number.
        text: a pattern to search for in the request's texts.
        model: a pattern to search for in the model's name.
        tier: only requests of this service tier; "batch" for those that a batch job executes.
        method: by default "generateContent"; "embedContent" and "batchEmbedContents" support the effects on the call but
            not those on the answer; "countTokens" and "upload" (its start) support only `status`, and
            "batchGenerateContent", "getBatch", "listBatches", "cancelBatch" and "download" also `delay` and `applies`.
    Effect:
        status: HTTP error with Google's error body; `retry_delay` (seconds) sets RetryInfo, `retry_after` (seconds, or any
            text) the header, `quota_id` a QuotaFailure with `quota_value` as its limit, `reason` an ErrorInfo; `status_name`
            replaces the name of the status.
        finish_reason: the candidate's finish reason; `text_answer` replaces the text ("" for none).
        block_reason: prompt feedback instead of a candidate.
        answer: replaces the answer: "malformed", "wrong_schema", "empty", "no_candidates", "truncated", or a form of
            tests/fake_gemini/wrong_shapes.py ("fenced", "twice", "trailing_comma", ...).
        thoughts: a text sent before the answer as a thought, and counted as one.
        no_media_tokens: the usage reports only text.
        applies: an error of a call whose effect the service applied: the job exists.
        delay: seconds added before the answer; `hold` answers only after `FakeGemini.release`; `hang` never answers;
            `reset` breaks the connection; `html` answers with the HTML page of a proxy (`status`, by default 502).
    """

    first: int | None = None
    tries: int | None = None
    every: int | None = None
    nth: int | None = None
    after: int | None = None
    from_s: float | None = None
    until_s: float | None = None
    probability: float | None = None
    seed: int = 0
    text: str | None = None
    model: str | None = None
    tier: str | None = None
    method: str = "generateContent"
    status: int | None = None
    message: str | None = None
    retry_delay: float | None = None
    retry_after: float | str | None = None
    quota_id: str | None = None
    quota_value: str | None = None
    status_name: str | None = None
    reason: str | None = None
    finish_reason: str | None = None
    text_answer: str | None = None
    block_reason: str | None = None
    answer: str | None = None
    thoughts: str | None = None
    no_media_tokens: bool = False
    applies: bool = False
    delay: float = 0.0
    hold: bool = False
    hang: bool = False
    reset: bool = False
    html: bool = False
    hits: int = field(default=0, repr=False)

    def matches(self, entry, try_number, elapsed_s=0.0):
        """Return whether the rule matches a request.

        Args:
            entry: the request's entry in the ledger.
            try_number: number of this try of the same content, from 1.
            elapsed_s: seconds since the first request.
        """
        number = entry.number
        if self.method != entry.method:
            return False
        if self.first is not None and self.hits >= self.first:
            return False
        if self.tries is not None and try_number > self.tries:
            return False
        if self.every is not None and number % self.every:
            return False
        if self.nth is not None and number != self.nth:
            return False
        if self.after is not None and number <= self.after:
            return False
        if not (self.from_s or 0.0) <= elapsed_s < (self.until_s or float("inf")):
            return False
        if self.text is not None and not re.search(self.text, entry.text):
            return False
        if self.model is not None and not re.search(self.model, entry.model):
            return False
        if self.tier is not None and self.tier != entry.tier:
            return False
        return self.probability is None or random.Random(f"{self.seed}:{number}").random() < self.probability

    @property
    def label(self):
        """A short description for the ledger."""
        effects = [f"{part.name}={getattr(self, part.name)}" for part in fields(self) if part.name in _EFFECTS]
        return ", ".join(text for text in effects if not text.endswith(("=None", "=False", "=0.0")))


_EFFECTS = {
    "status", "finish_reason", "block_reason", "answer", "thoughts", "no_media_tokens", "delay", "hang", "reset", "html",
}  # fmt: skip


def read_faults(text):
    """Parse rules from JSON.

    Raises:
        ValueError: a rule has an unknown field, or the text is not a list of rules.
    """
    known = [part.name for part in fields(Fault) if part.name != "hits"]
    rules = json.loads(text)
    if not isinstance(rules, list):
        raise ValueError("fault rules must be a JSON list")
    for rule in rules:
        if not isinstance(rule, dict) or set(rule) - set(known):
            raise ValueError(f"fault rule {rule!r}: its fields must be among {', '.join(known)}")
    return [Fault(**rule) for rule in rules]


_STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def error_body(
    status, message=None, *, retry_delay=None, quota_id=None, quota_value=None, reason=None, status_name=None
):
    """Return an error body like the service's, with google.rpc details."""
    details = []
    if reason:
        details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason})
    if quota_id:
        violation = {"quotaId": quota_id, "quotaMetric": "generativelanguage.googleapis.com/generate_content_requests"}
        violation |= {} if quota_value is None else {"quotaValue": quota_value}
        details.append({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]})
    if retry_delay is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{retry_delay:.3f}s"})
    name = status_name or _STATUS_NAMES.get(status, "UNKNOWN")
    return {"error": {"code": status, "message": message or f"scripted {name}", "status": name, "details": details}}
