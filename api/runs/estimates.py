"""Estimate a run, from the same plan as the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from promptreel.api.config import ApiConfig
from promptreel.api.db.engine import Database
from promptreel.api.runs.plan import TargetMedia, model_warnings, plan_run, run_settings
from promptreel.api.runs.service_models import look_up_models
from promptreel.api.web.auth import Principal
from promptreel.providers.registry import provider_of
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.settings import RunSettings
from promptreel.schemas.wire.prompt_runs import ExecuteRun
from promptreel.tables.request import TargetItem
from promptreel.tables.storage import Storage


def estimate_request(
    database: Database, storage: Storage, config: ApiConfig, caller: Principal, body: ExecuteRun
) -> dict[str, Any]:
    """Estimate the run that a request would start; see `estimate_body`. Call it in a thread.

    Raises:
        ApiError: see `plan_run`.
    """
    asyncio.run(look_up_models(lambda: run_settings(body, config)))
    with database.read() as session:
        prompt, settings, videos = plan_run(session, caller, body, config)
    estimate = estimate_body(storage, config, caller.account_id, prompt, settings, videos)
    return {**estimate, "warnings": [*body.warnings(), *model_warnings(settings)]}


def estimate_body(
    storage: Storage,
    config: ApiConfig,
    account_id: str,
    prompt: Prompt,
    settings: RunSettings,
    videos: Sequence[TargetMedia],
) -> dict[str, Any]:
    """Estimate a run and render it as JSON values. Nothing is billed, so the counts are in `breakdown`."""
    from promptreel.pipelines.estimate import estimate_run  # imports Beam, which is slow

    target = [TargetItem(video.media_uri, video.title, video.video_id) for video in videos]
    estimated = estimate_run(storage, prompt, settings, provider_of(settings), target, owner=account_id).to_dict()
    cost = estimated["cost"]
    within = {
        "items": estimated["items"] <= config.max_run_items,
        "segments": estimated["segments"][1] <= config.max_run_segments,
        "cost": config.max_run_cost is None or cost is None or cost["low"] <= config.max_run_cost,
        "tokens": config.max_run_tokens is None or estimated["input_tokens"]["total"] <= config.max_run_tokens,
    }
    limits = {
        "max_items": config.max_run_items,
        "max_segments": config.max_run_segments,
        "max_tokens": config.max_run_tokens,
        "max_cost": config.max_run_cost,
        "within": within,
    }
    counts = {
        "eligible_item_count": estimated["eligible_items"],
        "item_count": estimated["items"],
        "segment_count": {"least": estimated["segments"][0], "most": estimated["segments"][1]},
        "model_call_count": {"least": estimated["model_calls"][0], "most": estimated["model_calls"][1]},
        "reused_result_count": estimated["reused_results"],
        "media_seconds": estimated["media_seconds"],
        "input_tokens": estimated["input_tokens"],
        "token_rates": estimated["token_rates"],
        "expected_tokens": estimated["expected_tokens"],
        "cost": cost,
        "calibration": estimated["calibration"],
        "exact": estimated["exact"],
        "model": estimated["model"],
        "limits": limits,
        "items": estimated["details"],
    }
    return {
        "estimated_mt": 0.0,
        "breakdown": {"prompt_run_estimate": counts},
        "sufficient_balance": all(within.values()),
        "current_balance_mt": 0.0,
    }
