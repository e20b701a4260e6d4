"""The counts of a manifest, derived from its rows."""

from __future__ import annotations

from typing import Final

from promptreel.schemas.money import cost_counts
from promptreel.transforms.rows.source import Row

SERVED: Final = "served."  # prefix of the counts of results by the version that answered


def counts_of(table: str, row: Row) -> dict[str, int]:
    """Return one row's contribution to the manifest's counts, named `<table>.<count>`."""
    if table == "media":
        return {
            "media.total": 1,
            f"media.{row['status']}": 1,
            f"media.{row['media_type'] or 'unread'}.{row['status']}": 1,
            **({f"synthesis.{row['synthesis']}": 1} if row.get("synthesis") else {}),
        }
    if table == "segments":
        operations = ("field_extraction", "transcription", "image_embedding")
        outcomes = {f"{name}.{row[name]}": 1 for name in operations if row[name] is not None}
        return {"segments.total": 1, f"segments.{row['status']}": 1, **outcomes}
    if table in ("results", "video_results"):
        version = row.get("model_version")
        served = {} if version is None else {f"{SERVED}{version}": 1}
        return {f"{table}.total": 1, f"{table}.reused": int(row["reused"]), **served}
    if table == "failures":
        return {
            "failures.total": 1,
            f"failures.{row['operation']}": 1,
            f"failures.code.{row['code']}": 1,
            "failures.retryable": int(row["retryable"]),
        }
    if table == "llm_calls":
        return {
            "calls.total": 1,
            f"calls.{row['status']}": 1,
            "tokens.input": row["input_tokens"],
            "tokens.output": row["output_tokens"],
            "tokens.thought": row["thought_tokens"],
            "tokens.cached": row["cached_tokens"],
            "tokens.total": row["total_tokens"],
            **cost_counts(row.get("cost"), row.get("currency"), row["total_tokens"]),
        }
    return {}
