"""The table of failure codes is complete, and docs/failures.md is what it says."""

import ast
from pathlib import Path

import pytest

from promptreel.schemas.failure_codes import FAILURE_CODES
from tests.failures_page import PAGE, STAGES, failures_page

ROOT = Path(__file__).parents[2]
PACKAGES = ("api", "media", "pipelines", "promptreel", "providers", "tables", "transforms")
CODED = {"AnswerFailed", "Failure", "Halted", "MediaError", "ModelError"}


def failures_in_sources():
    """(where, code, whether it is retryable or None where that is computed) of every failure with a literal code."""
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or getattr(call.func, "id", None) not in CODED or not call.args:
                continue
            if isinstance(call.args[0], ast.Constant):
                yield f"{path.relative_to(ROOT)}:{call.lineno}", call.args[0].value, _retryable(call)


def _retryable(call):
    if call.func.id == "Halted":
        return None
    said = [keyword.value for keyword in call.keywords if keyword.arg == "retryable"]
    if call.func.id == "Failure":
        said += call.args[2:]
    if not said:
        return False
    return said[0].value if isinstance(said[0], ast.Constant) else None


def test_every_code_that_the_sources_use_is_in_the_table():
    unknown = [(where, code) for where, code, _ in failures_in_sources() if code not in FAILURE_CODES]
    assert not unknown


def test_failures_are_retryable_as_the_table_says():
    wrong = []
    for where, code, retryable in failures_in_sources():
        if where.startswith("api/search/"):
            continue  # ends a search request; no run can retry it
        if retryable is not None and FAILURE_CODES[code].retryable not in (
            "sometimes",
            "always" if retryable else "never",
        ):
            wrong.append((where, code, retryable))
    assert not wrong


@pytest.mark.parametrize(
    ("is_chosen", "codes"),
    [
        (lambda code: code.halts_run, {"quota_exhausted", "model_auth", "model_not_found"}),
        (lambda code: code.is_paid_answer, {"model_blocked", "model_truncated", "model_stopped"}),
        (lambda code: code.second_try == "repair", {"answer_not_json", "schema_invalid"}),
        (lambda code: code.second_try == "larger_budget", {"model_truncated"}),
        (lambda code: code.second_try == "same", {"model_empty", "media_not_seen", "model_stopped"}),
    ],
    ids=["halts_run", "is_paid_answer", "repair", "larger_budget", "same"],
)
def test_how_failures_of_calls_are_handled(is_chosen, codes):
    assert {code.code for code in FAILURE_CODES.values() if is_chosen(code)} == codes


def test_every_code_has_a_meaning_a_stage_and_a_fix():
    for code in FAILURE_CODES.values():
        assert code.meaning, code
        assert code.fix.endswith("."), code
        assert code.stage in STAGES, code


def test_the_page_of_failure_codes_is_made_from_the_table():
    assert PAGE.read_text(encoding="utf-8") == failures_page(), "run `python -m tests.failures_page`"
