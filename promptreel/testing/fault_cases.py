"""The faults of a model service, and what every provider makes of them: the one table of the conformance tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

# How an answer ended. "refused": the service answered the request without generating anything, because of its content;
# "blocked": it stopped the answer; "unknown": for a reason that no provider knows; "nothing": without any answer.
Ending = Literal["complete", "truncated", "blocked", "refused", "unknown", "nothing"]

RETRY_AFTER_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer of the service, to be written in its own format.

    Attributes:
        text: what the model wrote; None stands for the valid answer to the request.
        input_tokens, output_tokens: not always numbers, because services report wrong usage.
        has_usage: False if the service reports no usage.
        has_total: False if the service reports no total of both counts.
    """

    text: str | None = None
    ending: Ending = "complete"
    input_tokens: Any = 10
    output_tokens: Any = 4
    has_usage: bool = True
    has_total: bool = True

    @property
    def total_tokens(self) -> Any:
        """The total to report, as right or wrong as the two counts; None if there is none."""
        if not self.has_total:
            return None
        counts = [count for count in (self.input_tokens, self.output_tokens) if count is not None]
        return sum(counts) if counts else None


@dataclass(frozen=True, slots=True)
class Reply:
    """The HTTP response to one request.

    Attributes:
        status: other than 200, the error body is sent, with Retry-After if it is 429.
        kind: "html" is the page of a proxy, "reset" breaks the connection, "hang" never answers, "cut" ends in the middle
            of the body, "raw" sends `body` as it is.
    """

    status: int = 200
    kind: Literal["json", "html", "reset", "hang", "cut", "raw"] = "json"
    completion: Completion = Completion()
    body: Any = None


@dataclass(frozen=True, slots=True)
class FaultCase:
    """Replies to the requests of one operation, in order (the last one repeats), and their expected outcome.

    Attributes:
        code: of the failure; None if the operation succeeds.
        sent: number of requests.
        paid: number of answers with tokens.
    """

    replies: tuple[Reply, ...]
    code: str | None
    sent: int
    paid: int


def _always(reply: Reply, code: str | None, sent: int, paid: int) -> FaultCase:
    return FaultCase((reply,), code, sent, paid)


def _once(reply: Reply, paid: int) -> FaultCase:
    return FaultCase((reply, Reply()), None, 2, paid)


def _text(text: str, ending: Ending = "complete") -> Reply:
    return Reply(completion=Completion(text, ending))


def _usage(input_tokens: Any, output_tokens: Any) -> Reply:
    return Reply(completion=Completion(input_tokens=input_tokens, output_tokens=output_tokens))


CASES: Final[Mapping[str, FaultCase]] = {
    "no fault": _always(Reply(), None, 1, 1),
    "400": _always(Reply(400), "model_bad_request", 1, 0),
    "401": _always(Reply(401), "model_auth", 1, 0),
    "403": _always(Reply(403), "model_auth", 1, 0),
    "404": _always(Reply(404), "model_not_found", 1, 0),
    "408": _always(Reply(408), "model_timeout", 3, 0),
    "413": _always(Reply(413), "model_bad_request", 1, 0),
    "429 once": _once(Reply(429), 1),
    "429": _always(Reply(429), "rate_limited", 12, 0),
    "500 once": _once(Reply(500), 1),
    "500": _always(Reply(500), "model_unavailable", 3, 0),
    "502 with HTML": _always(Reply(502, "html"), "model_unavailable", 3, 0),
    "503": _always(Reply(503), "model_unavailable", 3, 0),
    "504": _always(Reply(504), "model_timeout", 3, 0),
    "529": _always(Reply(529), "model_unavailable", 3, 0),
    "200 with HTML": _always(Reply(200, "html"), "model_unavailable", 3, 0),
    "reset once": _once(Reply(kind="reset"), 1),
    "reset": _always(Reply(kind="reset"), "model_unavailable", 3, 0),
    "cut body": _always(Reply(kind="cut"), "model_unavailable", 3, 0),
    "no answer": _always(Reply(kind="hang"), "model_timeout", 3, 0),
    "malformed once": _once(_text('{"n": 1'), 2),
    "malformed": _always(_text('{"n": 1'), "answer_not_json", 2, 2),
    "wrong schema once": _once(_text('{"n": "one"}'), 2),
    "wrong schema": _always(_text('{"n": "one"}'), "schema_invalid", 2, 2),
    "fenced": _always(_text('```json\n{"n": 1}\n```'), None, 1, 1),
    "truncated once": _once(_text('{"n":', "truncated"), 2),
    "truncated": _always(_text('{"n":', "truncated"), "model_truncated", 2, 2),
    "empty once": _once(_text(""), 2),
    "empty": _always(_text(""), "model_empty", 2, 2),
    "nothing": _always(_text("", "nothing"), "model_empty", 2, 2),
    "blocked": _always(_text("", "blocked"), "model_blocked", 1, 1),
    "refused": _always(_text("", "refused"), "model_blocked", 1, 1),
    "unknown ending": _always(_text("", "unknown"), "model_stopped", 2, 2),
    "no usage": _always(Reply(completion=Completion(has_usage=False)), None, 1, 0),
    "null usage": _always(_usage(None, None), None, 1, 0),
    "negative usage": _always(_usage(-5, -5), None, 1, 0),
    "no total": _always(Reply(completion=Completion(has_total=False)), None, 1, 1),
    "half the usage": _always(_usage(10, None), None, 1, 1),
}
