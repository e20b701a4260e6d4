"""A recorded answer that was truncated counts only against requests with an equal or smaller budget."""

import asyncio
from dataclasses import replace

import pytest

from promptreel.providers.answers import AnswerFailed, generate_checked
from promptreel.providers.base import ModelAnswer
from tests.models import REQUEST, SUBJECT, MemorySink, ScriptedModel, policy_for, tally

TRUNCATED = ModelAnswer('{"n": ', "MAX_TOKENS", failure=("model_truncated", "cut"))


class LimitedModel(ScriptedModel):
    """A scripted model with an output budget."""

    def __init__(self, budget, *script):
        super().__init__(*script)
        self.budget = budget

    def output_budget(self, request):
        return self.budget * request.output_token_factor

    def budgets(self):
        return [self.output_budget(request) for request in self.requests]


def records_of(budget):
    """Return the records, newest first, of an operation whose answers are truncated."""

    async def call():
        sink, model = MemorySink(), LimitedModel(budget, TRUNCATED)
        with pytest.raises(AnswerFailed):
            await generate_checked(model, policy_for(model, sink), REQUEST, SUBJECT, tally())
        return [replace(record, status="error") for record in reversed(sink.ended)]

    return asyncio.run(call())


def resumed(budget, records):
    """Return the budgets of the requests that a resume makes, and whether it got an answer."""

    async def call():
        model = LimitedModel(budget, {"n": 1})
        try:
            await generate_checked(model, policy_for(model, MemorySink(records)), REQUEST, SUBJECT, tally())
        except AnswerFailed:
            return model.budgets(), False
        return model.budgets(), True

    return asyncio.run(call())


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (100, ([], False)),  # truncated at 100 and 400, as it would be again
        (50, ([], False)),
        (200, ([800], True)),  # 200 would be truncated too
        (500, ([500], True)),
    ],
)
def test_only_larger_budgets_request_a_truncated_answer_again(budget, expected):
    assert resumed(budget, records_of(100)) == expected


def test_truncated_record_without_a_budget_is_final():
    records = [replace(record, max_output_tokens=None) for record in records_of(100)]
    assert resumed(5000, records) == ([], False)
