"""The table of failure codes is complete, and docs/failures.md is generated from it."""

import ast
from pathlib import Path

import pytest

from promptreel.schemas.failure_codes import FAILURE_CODES
from tests.failures_page import PAGE, STAGES, failures_page

ROOT = Path(__file__).parents[2]
PACKAGES = ("api", "media", "pipelines", "promptreel", "providers", "tables", "transforms")
CODED = {"AnswerFailed", "Failure", "Halted", "MediaError", "ModelError"}


def failures_in_sources():
    """Yield (location, code, retryable) of each failure with a literal code; retryable is None if it is computed."""
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or getattr(call.func, "id", None) not in CODED or not call.args:
                continue
            if isinstance(call.args[0], ast.Constant):
                yield f"{path.relative_to(ROOT)}:{call.lineno}", call.args[0].value, _retryable(call)


def _retryable(call):
    if call.func.id == "Halted":
        return None
    values = [keyword.value for keyword in call.keywords if keyword.arg == "retryable"]
    if call.func.id == "Failure":
        values += call.args[2:]
    if not values:
        return False
    return values[0].value if isinstance(values[0], ast.Constant) else None


def test_codes_in_sources_are_in_the_table():
    unknown = [(location, code) for location, code, _ in failures_in_sources() if code not in FAILURE_CODES]
    assert not unknown


def test_retryable_in_sources_matches_the_table():
    wrong = []
    for location, code, retryable in failures_in_sources():
        if location.startswith("api/search/"):
            continue  # fails a search request, which no run retries
        if retryable is not None and FAILURE_CODES[code].retryable not in (
            "sometimes",
            "always" if retryable else "never",
        ):
            wrong.append((location, code, retryable))
    assert not wrong


@pytest.mark.parametrize(
    ("is_selected", "codes"),
    [
        (lambda code: code.halts_run, {"quota_exhausted", "model_auth", "model_not_found"}),
        (
            lambda code: code.is_paid_answer,
            {
                "model_blocked",
                "model_truncated",
                "model_stopped",
                "answer_not_json",
                "schema_invalid",
                "media_not_seen",
            },
        ),
        (
            lambda code: code.found_by_check,
            {"model_empty", "answer_not_json", "schema_invalid", "media_not_seen"},
        ),
        (lambda code: code.second_try == "repair", {"answer_not_json", "schema_invalid"}),
        (lambda code: code.second_try == "larger_budget", {"model_truncated"}),
        (lambda code: code.second_try == "same", {"model_empty", "media_not_seen", "model_stopped"}),
    ],
    ids=["halts_run", "is_paid_answer", "found_by_check", "repair", "larger_budget", "same"],
)
def test_codes_by_handling(is_selected, codes):
    assert {code.code for code in FAILURE_CODES.values() if is_selected(code)} == codes


def test_code_has_meaning_stage_and_fix():
    for code in FAILURE_CODES.values():
        assert code.meaning, code
        assert code.fix.endswith("."), code
        assert code.stage in STAGES, code


def test_failures_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == failures_page(), "run `python -m tests.failures_page`"
