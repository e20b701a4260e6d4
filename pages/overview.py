"""The overview of a run: what it ran, how it ended, what it cost, and what failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from promptreel.pages.answers import shorten
from promptreel.pages.moments import shown_duration, shown_moment
from promptreel.pages.run_tables import CommittedTables
from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.money import format_amount, format_money, money_of
from promptreel.tables.request import RunRequest
from promptreel.tables.run_status import run_status

_EXAMPLES_PER_CODE: Final = 10
_MAX_MESSAGE_CHARS: Final = 400
_MAX_WARNINGS: Final = 50
_MAX_VERSIONS: Final = 10
_MAX_COST_LINES: Final = 100


@dataclass(frozen=True, slots=True)
class FailedOperation:
    """One failure, with its position in the item in microseconds if it has one."""

    name: str
    operation: str
    message: str
    start_us: int | None
    end_us: int | None


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """The failures of a run with one code, and the first of them."""

    code: str
    meaning: str
    fix: str
    count: int
    retryable: int
    examples: tuple[FailedOperation, ...]


@dataclass(frozen=True, slots=True)
class CostLine:
    """The model calls of one purpose to one model."""

    purpose: str
    model: str
    calls: int
    errors: int
    input_tokens: int
    output_tokens: int
    cost: str


@dataclass(frozen=True, slots=True)
class RunOverview:
    """A run at a glance.

    Attributes:
        status: of the newest manifest, or "running" or "interrupted".
        served: the models that answered, with the versions that their services report.
        duration: from the creation of the run to the commit that is shown.
        facts: (label, value) pairs of the counters.
        left_out_warnings: warnings of the run beyond those shown.
    """

    run_id: str
    title: str
    tags: str
    status: str
    is_interim: bool
    error_message: str | None
    prompt: str
    model: str
    served: tuple[str, ...]
    created_at: str
    committed_at: str
    duration: str | None
    facts: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    left_out_warnings: int
    failures: tuple[FailureGroup, ...]
    costs: tuple[CostLine, ...]


def run_overview(tables: CommittedTables, request: RunRequest) -> RunOverview:
    """Build the overview of a committed state.

    Raises:
        RunDamaged: a part of a table is missing or truncated.
        StateExpired: the run is in progress, and a newer state has replaced this one.
    """
    run, manifest = tables.run, tables.run.manifest
    prompt = run.prompt.name if run.prompt_version is None else f"{run.prompt.name} v{run.prompt_version}"
    warnings = [shorten(warning, _MAX_MESSAGE_CHARS) for warning in manifest.warnings]
    return RunOverview(
        run_id=run.run_id,
        title=run.labels.name or run.prompt.name,
        tags=run.labels.tags_text,
        status=run_status(tables.storage, run.run_id, manifest),
        is_interim=manifest.is_interim,
        error_message=manifest.error_message and shorten(manifest.error_message, _MAX_MESSAGE_CHARS),
        prompt=prompt,
        model=request.settings.model.model,
        served=_served(tables),
        created_at=shown_moment(request.created_at),
        committed_at=shown_moment(manifest.committed_at),
        duration=shown_duration(request.created_at, manifest.committed_at),
        facts=tuple(_facts(tables, manifest.counts)),
        warnings=tuple(warnings[:_MAX_WARNINGS]),
        left_out_warnings=max(0, len(warnings) - _MAX_WARNINGS),
        failures=tuple(_failures(tables)),
        costs=tuple(_costs(tables)),
    )


def _facts(tables: CommittedTables, counts: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = tables.run.manifest.rows_of
    facts = [
        ("items", _outcomes(counts, "media", rows("media"), ("completed", "partial", "failed", "cancelled"))),
        (
            "segments",
            _outcomes(
                counts, "segments", rows("segments"), ("succeeded", "failed", "cancelled", "pending", "processing")
            ),
        ),
        ("results", f"{rows('results'):,} for segments, {rows('video_results'):,} for items"),
        ("failures", f"{rows('failures'):,}"),
    ]
    if reused := counts.get("results.reused", 0) + counts.get("video_results.reused", 0):
        facts.append(("reused results", f"{reused:,}"))
    if counts.get("calls.total"):
        output = counts.get("tokens.output", 0) + counts.get("tokens.thought", 0)
        facts.append(
            ("model calls", _outcomes(counts, "calls", counts["calls.total"], ("success", "error", "interrupted")))
        )
        facts.append(("tokens", f"{counts.get('tokens.input', 0):,} in, {output:,} out"))
    facts.append(("cost", format_money(money_of(counts)) or "none"))
    return facts


def _outcomes(counts: Mapping[str, Any], group: str, total: int, names: tuple[str, ...]) -> str:
    parts = [f"{counts[f'{group}.{name}']:,} {name}" for name in names if counts.get(f"{group}.{name}")]
    return f"{total:,}" + (f" ({', '.join(parts)})" if parts else "")


def _served(tables: CommittedTables) -> tuple[str, ...]:
    sql = f"""
        SELECT model, model_version, count(*) AS answers FROM results
        GROUP BY ALL ORDER BY answers DESC, model, model_version LIMIT {_MAX_VERSIONS}"""
    rows = tables.rows(sql, ["results"])
    return tuple(
        row["model"] if row["model_version"] in (None, row["model"]) else f"{row['model']} ({row['model_version']})"
        for row in rows
    )


def _failures(tables: CommittedTables) -> list[FailureGroup]:
    counted = tables.rows(
        "SELECT code, count(*) AS total, count(*) FILTER (retryable) AS retryable FROM failures "
        "GROUP BY code ORDER BY total DESC, code",
        ["failures"],
    )
    examples = tables.rows(
        f"""SELECT code, name, operation, message, start_us, end_us FROM failures
        QUALIFY row_number() OVER (PARTITION BY code ORDER BY name, start_us, operation) <= {_EXAMPLES_PER_CODE}
        ORDER BY name, start_us, operation""",
        ["failures"],
    )
    return [_group(row, [one for one in examples if one["code"] == row["code"]]) for row in counted]


def _group(row: Mapping[str, Any], examples: list[dict[str, Any]]) -> FailureGroup:
    known = FAILURE_CODES.get(row["code"])
    return FailureGroup(
        code=row["code"],
        meaning=known.meaning if known else "a code of another version of promptreel",
        fix=known.fix if known else "Read the messages.",
        count=row["total"],
        retryable=row["retryable"],
        examples=tuple(
            FailedOperation(
                one["name"],
                one["operation"],
                shorten(one["message"], _MAX_MESSAGE_CHARS),
                one["start_us"],
                one["end_us"],
            )
            for one in examples
        ),
    )


def _costs(tables: CommittedTables) -> list[CostLine]:
    sql = f"""
        SELECT purpose, model, currency, count(*) AS calls, count(*) FILTER (status <> 'success') AS errors,
            sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens + thought_tokens)::BIGINT AS output_tokens,
            sum(cost) AS cost
        FROM llm_calls GROUP BY purpose, model, currency ORDER BY purpose, model, currency LIMIT {_MAX_COST_LINES}"""
    return [
        CostLine(
            purpose=row["purpose"],
            model=row["model"],
            calls=row["calls"],
            errors=row["errors"],
            input_tokens=row["input_tokens"],
            output_tokens=row["output_tokens"],
            cost=_cost(row),
        )
        for row in tables.rows(sql, ["llm_calls"])
    ]


def _cost(row: Mapping[str, Any]) -> str:
    if row["cost"] is None or row["currency"] is None:
        return "unknown" if row["input_tokens"] or row["output_tokens"] else "none"
    return format_amount(row["cost"], row["currency"])
