"""Parse and check a model's answers, with at most one second try for each kind of fault."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import jsonschema

from promptreel.providers.answer_json import AnswerNotJson, read_answer_json
from promptreel.providers.base import ModelAnswer, ModelRequest, Provider, Usage
from promptreel.providers.call_policy import CallPolicy, CallSubject, CallTally, Verdict
from promptreel.providers.evidence_format import split_answer
from promptreel.schemas.errors import ModelError
from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.ids import canonical_json
from promptreel.schemas.media_times import read_time_texts
from promptreel.schemas.validation import validator_of

_MESSAGE_CHARS: Final = 300
# The second try after an answer cut at the token limit has this multiple of the budget.
LARGER_BUDGET: Final = 4
# The limits of tables: 64-bit numbers, and nesting far beyond the 12 levels of a prompt's schema.
_INTEGERS: Final = range(-(2**63), 2**63)
_MAX_DEPTH: Final = 100


@dataclass(frozen=True, slots=True)
class CheckedAnswer:
    """An answer that fits its schema.

    Attributes:
        metadata: the parsed answer, without its evidence.
        text: the answer as the model wrote it.
        warning: a warning for readers of the answer.
        repair: codes of `promptreel.providers.answer_json.REPAIRS`, joined by commas; None for strict JSON.
        model_version: see `ModelAnswer`.
        evidence: the evidence in the answer as the model wrote it, which may be malformed; None without any.
    """

    metadata: dict[str, Any]
    text: str
    usage: Usage
    warning: str | None = None
    repair: str | None = None
    model_version: str | None = None
    evidence: Any = None

    def origin(self) -> dict[str, str | None]:
        """Return what a cached result says about its answer."""
        return {"model_version": self.model_version, "answer_repair": self.repair}


class AnswerFailed(ModelError):
    """The model returned no usable answer; `answer` is its last text, None without one."""

    def __init__(self, code: str, message: str, *, retryable: bool, answer: str | None) -> None:
        super().__init__(code, message, retryable=retryable)
        self.answer = answer


async def generate_checked(
    provider: Provider, policy: CallPolicy, request: ModelRequest, subject: CallSubject, tally: CallTally
) -> CheckedAnswer:
    """Call a model and check its answer.

    Answers that earlier attempts at the run received for the operation come first: a valid answer is used, and a final
    failure is raised again, both without a call.

    Each kind of fault has one second try. An answer that is not JSON or does not fit the schema is requested again with a
    note of the fault; an answer cut at the token limit, with a larger budget and the same prompt; an answer that is empty
    or shows that the model did not see the media, with the same request.

    Raises:
        AnswerFailed: the second try failed too, or the failure is final.
        ModelError, Halted: from the call policy.
    """
    tries = _Tries(request)
    if provider.is_called:
        earlier = await policy.earlier_answers(subject)
        for call_id, answer in earlier:
            with suppress(AnswerFailed):
                checked = check_answer(answer, request)
                tally.call_ids += (call_id,)
                return checked
        tries = _replay(provider, request, [answer for _, answer in reversed(earlier)])
    prepared = await policy.prepare(request, subject)
    while True:
        check = _AnswerCheck(request)
        if provider.is_called:
            await policy.call(tries.current, prepared, subject, tally, check)
        else:
            check(await provider.call(tries.current, prepared))
        if isinstance(check.result, CheckedAnswer):
            return check.result
        if not tries.advance(check.result):
            raise check.result


class _AnswerCheck:
    """Checks an answer before its call record ends; `result` is then the checked answer or its failure."""

    result: CheckedAnswer | AnswerFailed

    def __init__(self, request: ModelRequest) -> None:
        self._request = request

    def __call__(self, answer: ModelAnswer) -> Verdict:
        try:
            self.result = check_answer(answer, self._request)
            return Verdict(repair=self.result.repair)
        except AnswerFailed as failure:
            self.result = failure
            return Verdict((failure.code, failure.message))


class _Tries:
    """The requests of one operation: the original, then at most one second try for each kind of fault."""

    def __init__(self, request: ModelRequest) -> None:
        self.current = self._original = request
        self._tried: set[str] = set()

    def advance(self, failure: AnswerFailed) -> bool:
        """Make the second try for a failure current; return False if it has none or was tried already."""
        # Answers that are not JSON and answers that do not fit the schema share one repair.
        kind = "repair" if FAILURE_CODES[failure.code].second_try == "repair" else failure.code
        request = None if kind in self._tried else _second_try(self._original, failure)
        if request is None:
            return False
        self._tried.add(kind)
        self.current = request
        return True


def _replay(provider: Provider, request: ModelRequest, answers: Sequence[ModelAnswer]) -> _Tries:
    """Return the state of an operation after its recorded answers, oldest first; a retryable failure resets it.

    An answer that was truncated under a smaller budget than the next request has says nothing about that request.

    Raises:
        AnswerFailed: the answers ended in a final failure.
    """
    tries = _Tries(request)
    for answer in answers:
        if _is_below_budget(answer, provider.output_budget(tries.current)):
            continue
        try:
            check_answer(answer, request)
        except AnswerFailed as failure:
            if not tries.advance(failure):
                if not failure.retryable:
                    raise
                tries = _Tries(request)
    return tries


def _is_below_budget(answer: ModelAnswer, budget: int | None) -> bool:
    """Whether an answer was truncated under a smaller budget. A record of an earlier version does not name its budget."""
    is_truncated = answer.failure is not None and FAILURE_CODES[answer.failure[0]].second_try == "larger_budget"
    limit = answer.max_output_tokens
    return is_truncated and limit is not None and budget is not None and limit < budget


def check_answer(answer: ModelAnswer, request: ModelRequest) -> CheckedAnswer:
    """Check one answer against its request.

    Raises:
        AnswerFailed: has the code of the first fault.
    """
    if answer.failure is not None:
        code, message = answer.failure
        raise AnswerFailed(
            code, message, retryable=FAILURE_CODES[code].retryable == "always", answer=answer.text or None
        )
    if not answer.text.strip():
        raise AnswerFailed("model_empty", "the model returned an empty answer", retryable=True, answer=None)
    if request.media is not None and answer.usage.media_reported and answer.usage.media_tokens == 0:
        raise AnswerFailed(
            "media_not_seen",
            "the model did not see the media: the usage of the call counts no picture or sound tokens",
            retryable=True,
            answer=answer.text,
        )
    value, repair = _read_object(answer.text)
    value, evidence = split_answer(value, request)
    metadata = _storable_object(value, answer.text)
    json_schema = request.answer_schema or request.json_schema
    metadata = read_time_texts(metadata, json_schema)
    error = jsonschema.exceptions.best_match(_validator(canonical_json(json_schema)).iter_errors(metadata))
    if error is not None:
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path).lstrip(".")
        message = f"the answer does not fit the schema at {path or 'its root'}: {error.message[:_MESSAGE_CHARS]}"
        raise AnswerFailed("schema_invalid", message, retryable=True, answer=answer.text)
    if request.problem_of is not None and (problem := request.problem_of(metadata)) is not None:
        raise AnswerFailed("schema_invalid", f"the answer is not valid: {problem}", retryable=True, answer=answer.text)
    warning = _with_repair(answer.warning, repair)
    evidence = _storable_or_none(evidence)
    return CheckedAnswer(metadata, answer.text, answer.usage, warning, repair, answer.model_version, evidence)


def _with_repair(warning: str | None, repair: str | None) -> str | None:
    if repair is None:
        return warning
    repaired = f"the answer was not strict JSON and was repaired: {repair.replace(',', ', ')}"
    return f"{warning}; {repaired}" if warning else repaired


def parse_answer(text: str) -> tuple[dict[str, Any], str | None]:
    """Parse a JSON object and return it with the codes of its repairs; see `read_answer_json`.

    Raises:
        AnswerFailed: `answer_not_json`; `schema_invalid` if it is JSON but not an object, or holds a value that no table
            can store.
    """
    value, repair = _read_object(text)
    return _storable_object(value, text), repair


def _storable_or_none(value: Any) -> Any:
    """Return a JSON value that files can store; None if it holds one that they cannot."""
    try:
        return _storable(value)
    except _NotStorable:
        return None


def _read_object(text: str) -> tuple[dict[str, Any], str | None]:
    try:
        value, repair = read_answer_json(text)
    except AnswerNotJson as error:
        raise AnswerFailed(
            "answer_not_json", f"the answer is not JSON: {str(error)[:_MESSAGE_CHARS]}", retryable=True, answer=text
        ) from error
    if not isinstance(value, dict):
        raise AnswerFailed(
            "schema_invalid", f"the answer is a JSON {type(value).__name__}, not an object", retryable=True, answer=text
        )
    return value, repair


def _storable_object(value: dict[str, Any], text: str) -> dict[str, Any]:
    try:
        return dict(_storable(value))
    except _NotStorable as error:
        raise AnswerFailed("schema_invalid", f"the answer {error}", retryable=True, answer=text) from error


def _second_try(request: ModelRequest, failure: AnswerFailed) -> ModelRequest | None:
    second_try = FAILURE_CODES[failure.code].second_try
    if second_try == "larger_budget":
        return replace(request, output_token_factor=LARGER_BUDGET)
    if second_try == "repair":
        note = (
            f"An earlier answer could not be used: {failure.message}. Answer with one JSON object that fits the schema."
        )
        return replace(request, text=f"{request.text}\n\n{note}")
    return request if second_try == "same" else None


@functools.lru_cache(maxsize=64)
def _validator(schema_text: str) -> jsonschema.protocols.Validator:
    return validator_of(json.loads(schema_text))


class _NotStorable(Exception):
    """A value that no table can store."""


def _storable(value: Any, depth: int = 0) -> Any:
    """Return a value that files can store: half a surrogate pair, which JSON can escape, becomes U+FFFD.

    Raises:
        _NotStorable: a number needs more than 64 bits, or the value is nested too deeply.
    """
    if depth > _MAX_DEPTH:
        raise _NotStorable(f"is nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_storable(part, depth + 1) for part in value]
    if isinstance(value, Mapping):
        return {_storable(key): _storable(part, depth + 1) for key, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise _NotStorable("holds a number beyond the range of 64-bit floating point")
    if isinstance(value, int) and value not in _INTEGERS:
        raise _NotStorable("holds an integer beyond 64 bits")
    return value
