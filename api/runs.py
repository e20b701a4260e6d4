"""Prompt runs in the database: starting them, showing them, asking them to stop."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, Select, and_, bindparam, insert, or_, select
from sqlalchemy.orm import Session

from promptreel.api.auth import Principal
from promptreel.api.catalog import NO_MARKER, owned_videos
from promptreel.api.clock import now, required_time, wire_time
from promptreel.api.config import ApiConfig
from promptreel.api.database import Database, MediaIndex, PromptRecord, PromptRun, RunItem, Video
from promptreel.api.errors import ApiError, invalid, not_found
from promptreel.api.events import record_event
from promptreel.api.pagination import decode_cursor, encode_cursor, page_body
from promptreel.providers.known_models import retirement_warning
from promptreel.providers.registry import check_run, default_model, provider_of
from promptreel.providers.token_estimate import has_synthesis, input_tokens
from promptreel.schemas.errors import InvalidInput
from promptreel.schemas.ids import new_run_id
from promptreel.schemas.media import MediaType
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.schemas.prompt import Prompt, prompt_from_dict
from promptreel.schemas.segmentation import SegmentationSettings
from promptreel.schemas.settings import (
    CallSettings,
    ImageEmbeddingSettings,
    MediaLimits,
    ModelSettings,
    RunSettings,
    TranscriptionSettings,
    settings_from_dict,
)
from promptreel.schemas.wire.prompt_runs import ExecuteRun, IndexTarget, VideosTarget

FINAL: Final[frozenset[str]] = frozenset({"completed", "completed_with_failures", "failed", "cancelled"})
MEDIA_TYPES: Final = (("video", "videos"), ("audio", "audios"), ("image", "images"))
ITEM_OUTCOMES: Final = ("completed", "failed", "partial", "cancelled")
OPERATIONS: Final = ("field_extraction", "transcription", "image_embedding")


# What is asked for most, made once: to make a statement, and to make objects of its rows, costs several times its execution.
_RUN_BY_ID: Final = select(*(column for column in PromptRun.__table__.columns if column.name != "prompt")).where(
    PromptRun.run_id == bindparam("run_id")
)
_PROMPT_BY_ID: Final = select(PromptRecord.__table__).where(PromptRecord.prompt_id == bindparam("prompt_id"))
_INDEX_BY_ID: Final = select(MediaIndex.__table__).where(MediaIndex.index_id == bindparam("index_id"))
_MEDIA: Final = (
    select(Video.__table__)
    .where(Video.account_id == bindparam("account_id"), Video.deletion_id.is_(None))
    .order_by(Video.created_at, Video.video_id)
)
_MEDIA_OF_INDEX: Final = _MEDIA.where(Video.index_id == bindparam("index_id"))
_MEDIA_OF_PLAYGROUND: Final = _MEDIA.where(Video.index_id.is_(None))
_INSERT_RUN: Final = insert(PromptRun.__table__)  # type: ignore[arg-type]
_INSERT_ITEMS: Final = insert(RunItem.__table__)  # type: ignore[arg-type]

TargetMedia = Video | Row[Any]  # an item of a target: the columns of `Video`


def plan_run(
    session: Session, caller: Principal, body: ExecuteRun, config: ApiConfig
) -> tuple[Prompt, RunSettings, Sequence[TargetMedia]]:
    """Checks everything about a run that can be known before it, and gives what it would be made of.

    Raises:
        ApiError: 404 for what does not exist, 422 for what cannot be run; nothing is stored.
    """
    record = session.connection().execute(_PROMPT_BY_ID, {"prompt_id": body.prompt_id}).one_or_none()
    if record is None or record.account_id != caller.account_id:
        raise not_found("prompt", body.prompt_id)
    if not record.is_active:
        raise invalid(f"prompt_id: prompt {body.prompt_id} is deactivated; activate it or choose another", "prompt_id")
    settings = run_settings(body, config)
    prompt = _checked_prompt(json.dumps(record.definition))
    try:
        check_run(prompt, settings)
    except InvalidInput as error:
        raise invalid(str(error), "processing_model") from error
    videos = target_videos(session, caller, body)
    if len(videos) > config.max_run_items:
        message = f"target: {len(videos)} items are more than one run may have ({config.max_run_items}); divide them"
        raise invalid(message, "target")
    return prompt, settings, videos


@functools.lru_cache(maxsize=256)
def _checked_prompt(definition: str) -> Prompt:
    """A stored definition, which was checked when it came; checking it costs more than all the rest of an execute."""
    return prompt_from_dict(json.loads(definition))


def start_run(session: Session, caller: Principal, body: ExecuteRun, config: ApiConfig) -> PromptRun:
    """Stores a run for the supervisor to execute. What is returned belongs to no session.

    Raises:
        ApiError: see `plan_run`.
    """
    prompt, settings, videos = plan_run(session, caller, body, config)
    _check_limits(prompt, settings, videos, config)
    values = {
        "run_id": new_run_id(),
        "account_id": caller.account_id,
        "key_id": caller.key_id,
        "prompt_id": body.prompt_id,
        "prompt_name": prompt.name,
        "prompt": prompt.to_dict(),
        "settings": settings.to_dict(),
        "target": body.target.model_dump(mode="json", exclude_none=True),
        "index_id": getattr(body.target, "index_id", None),
        "status": "pending",
        "summary": _first_summary(prompt, settings, videos),
        "created_at": now(),
    }
    items = [
        {"run_id": values["run_id"], "video_id": video.video_id, "position": at} for at, video in enumerate(videos)
    ]
    connection = session.connection()
    connection.execute(_INSERT_RUN, values)
    connection.execute(_INSERT_ITEMS, items)
    return PromptRun(**values)


def run_settings(body: ExecuteRun, config: ApiConfig) -> RunSettings:
    """The frozen settings of a run.

    Raises:
        ApiError: 422 where the model is not among those allowed, or values contradict each other.
    """
    named = body.processing_model or config.default_model or default_model()
    model = config.model_aliases.get(named, named)
    if config.models and model not in config.models:
        allowed = ", ".join([*config.models, *config.model_aliases])
        raise invalid(f"processing_model: {named!r} is not configured here; use one of {allowed}", "processing_model")
    try:
        return RunSettings(
            segmentation=SegmentationSettings(
                video_strategy=body.video_segmentation_type,
                audio_strategy=body.audio_segmentation_type,
                video_duration_s=body.video_segment_duration if body.video_segmentation_type == "fixed" else None,
                audio_duration_s=body.audio_segment_duration if body.audio_segmentation_type == "fixed" else None,
            ),
            model=ModelSettings(model=model, base_url=config.model_base_url),
            calls=CallSettings(max_total_tokens=config.max_run_tokens, run_deadline_s=config.run_deadline_s),
            limits=MediaLimits(max_duration_s=config.max_media_seconds),
            transcription=TranscriptionSettings(enabled=body.enable_transcription),
            image_embedding=ImageEmbeddingSettings(enabled=body.enable_image_embedding),
            strict_models=config.strict_models,
        )
    except InvalidInput as error:
        raise invalid(str(error)) from error


def target_videos(session: Session, caller: Principal, body: ExecuteRun) -> Sequence[TargetMedia]:
    """The media of a target, in the order in which they were added (or named).

    Raises:
        ApiError: 404 where an index or item does not exist, 422 where an item lies elsewhere, or nothing is selected.
    """
    target = body.target
    index_id = getattr(target, "index_id", None)
    if index_id is not None:
        index = session.connection().execute(_INDEX_BY_ID, {"index_id": index_id}).one_or_none()
        if index is None or index.account_id != caller.account_id or index.deletion_id is not None:
            raise not_found("index", index_id)
    if isinstance(target, VideosTarget):
        wanted = list(dict.fromkeys(target.video_ids))
        found = owned_videos(session, caller, wanted)
        for video_id in wanted:
            if video_id not in found:
                raise not_found("video", video_id)
            if found[video_id].index_id != index_id:
                place = f"index {index_id}" if index_id else "the playground (name its index in target.index_id)"
                raise invalid(f"target.video_ids: {video_id} does not lie in {place}", "target.video_ids")
        return [found[video_id] for video_id in wanted]
    everything = _MEDIA_OF_PLAYGROUND if index_id is None else _MEDIA_OF_INDEX
    where = {"account_id": caller.account_id, **({} if index_id is None else {"index_id": index_id})}
    videos = session.connection().execute(everything, where).all()
    if not videos:
        place = f"index {index_id}" if isinstance(target, IndexTarget) else "the playground"
        raise invalid(f"target: there is no media in {place}; upload or register some first", "target")
    return videos


def owned_run(session: Session, caller: Principal, run_id: str, *, to_write: bool = False) -> PromptRun:
    """The caller's run of that id.

    Args:
        to_write: waits for whoever writes it, and keeps others from it until the transaction ends.

    Raises:
        ApiError: 404, also where it is another account's.
    """
    run = session.get(PromptRun, run_id, with_for_update=to_write)
    if run is None or run.account_id != caller.account_id:
        raise not_found("run", run_id)
    return run


async def look_up_run(database: Database, caller: Principal, run_id: str) -> Row[Any]:
    """The caller's run of that id without its prompt, for those who ask how it stands again and again.

    Raises:
        ApiError: 404, also where it is another account's.
    """
    found = await database.look_up(_RUN_BY_ID, {"run_id": run_id})
    if found is None or found.account_id != caller.account_id:
        raise not_found("run", run_id)
    return found


def runs_of(caller: Principal) -> Select[PromptRun]:
    """The caller's runs, newest first."""
    mine = select(PromptRun).where(PromptRun.account_id == caller.account_id)
    return mine.order_by(PromptRun.created_at.desc(), PromptRun.run_id.desc())


def runs_page(session: Session, caller: Principal, index_id: str, limit: int, cursor: str | None) -> dict[str, Any]:
    """One page of the runs over an index."""
    scope = ("runs", caller.account_id, index_id)
    place = decode_cursor(cursor, scope, (datetime, str))
    rows = runs_of(caller).where(PromptRun.index_id == index_id)
    if place is not None:
        moment, run_id = place
        rows = rows.where(
            or_(PromptRun.created_at < moment, and_(PromptRun.created_at == moment, PromptRun.run_id < run_id))
        )
    found = session.scalars(rows.limit(limit + 1)).all()
    shown = found[:limit]
    more = len(found) > limit
    next_cursor = encode_cursor(scope, [shown[-1].created_at.isoformat(), shown[-1].run_id]) if more else None
    return page_body([run_body(run) for run in shown], limit, next_cursor)


def request_cancel(session: Session, caller: Principal, run_id: str) -> PromptRun:
    """Asks a run to stop. One that has not begun is cancelled at once; a finished one is left as it is."""
    run = owned_run(session, caller, run_id, to_write=True)
    if run.status in FINAL or run.stop_requested_at is not None:
        return run
    run.stop_requested_at = now()
    run.stop_requested_by = caller.account_id
    if run.status == "pending" and run.lease_owner is None:
        cancel_unstarted(session, run)
    return run


def cancel_unstarted(session: Session, run: PromptRun) -> None:
    """Ends a run that no runner has begun: everything of it counts as cancelled."""
    moment = now()
    run.status = "cancelled"
    run.stop_requested_at = run.stop_requested_at or moment
    run.stop_observed_at = run.stop_completed_at = run.completed_at = moment
    totals = {f"cancelled_{plural}": run.summary.get(f"total_{plural}", 0) for _, plural in MEDIA_TYPES}
    run.summary = {**run.summary, **totals}
    record_event(session, run.account_id, "prompt_run.cancelled", run_id=run.run_id, index_id=run.index_id)


def finish_run(session: Session, run: PromptRun, manifest: Mapping[str, Any]) -> None:
    """Takes over what a run has committed.

    Args:
        manifest: the newest manifest as JSON values.
    """
    counts = manifest["counts"]
    moment = now()
    run.status = manifest["status"]
    run.error_message = manifest["error_message"]
    run.manifest_number = manifest["number"]
    run.completed_at = run.completed_at or moment
    warnings = [*_model_warnings(settings_from_dict(run.settings)), *manifest["warnings"]]
    run.summary = {**run.summary, **summary_of_counts(counts, run.summary), "warnings": warnings}
    if run.stop_requested_at is not None:
        run.stop_observed_at = run.stop_observed_at or moment
        run.stop_completed_at = run.stop_completed_at or moment
    event = "partial_completed" if run.status == "completed_with_failures" else run.status
    record_event(
        session,
        run.account_id,
        f"prompt_run.{event}",
        run_id=run.run_id,
        index_id=run.index_id,
        payload={"status": run.status, "error_message": run.error_message},
    )


def summary_of_counts(counts: Mapping[str, int], before: Mapping[str, Any]) -> dict[str, Any]:
    """The wire's counters from a manifest's counts."""
    summary: dict[str, Any] = {}
    for kind, plural in MEDIA_TYPES:
        for outcome in ITEM_OUTCOMES:
            summary[f"{outcome}_{plural}"] = counts.get(f"media.{kind}.{outcome}", 0)
    _share_unread(summary, counts, before)
    for operation in OPERATIONS:
        failed = counts.get(f"failures.{operation}", 0)
        succeeded = counts.get(f"{operation}.succeeded", 0)
        summary[f"{operation}_failures"] = failed
        summary[f"{operation}_succeeded"] = None if not failed and not succeeded else not failed
    level_done, level_failed = counts.get("video_results.total", 0), counts.get("failures.synthesis", 0)
    reused = counts.get("results.reused", 0) + counts.get("video_results.reused", 0)
    return {
        **summary,
        "total_segments": counts.get("segments.total", 0),
        "completed_segments": counts.get("segments.succeeded", 0),
        "created_new_segments": counts.get("results.reused", 0) < counts.get("segments.total", 0),
        "video_level_completed_items": level_done,
        "video_level_failed_items": level_failed,
        "reused_results": reused,
        "model_calls": counts.get("calls.total", 0),
        "actual_tokens": {
            name.removeprefix("tokens."): count for name, count in counts.items() if name.startswith("tokens.")
        },
    }


def _share_unread(summary: dict[str, Any], counts: Mapping[str, int], before: Mapping[str, Any]) -> None:
    """Items that were not read have no type in the tables; here it is known from their registration."""
    for outcome in ("failed", "cancelled"):
        left = counts.get(f"media.unread.{outcome}", 0)
        for _, plural in MEDIA_TYPES:
            known = sum(summary[f"{word}_{plural}"] for word in ITEM_OUTCOMES)
            share = min(left, max(0, before.get(f"total_{plural}", 0) - known))
            summary[f"{outcome}_{plural}"] += share
            left -= share


def run_body(run: PromptRun | Row[Any]) -> dict[str, Any]:
    """A run as the wire shows it."""
    segmentation = run.settings["segmentation"]
    return {
        **_NOTHING_YET,
        **run.summary,
        "run_id": run.run_id,
        "prompt_id": run.prompt_id,
        "prompt_name": run.prompt_name,
        "prompt_type": "custom",
        "executed_at": required_time(run.created_at),
        "executed_by": run.account_id,
        "status": run.status,
        "run_context": run.target,
        "error_message": run.error_message,
        "video_segmentation_type": segmentation["video_strategy"],
        "audio_segmentation_type": segmentation["audio_strategy"],
        "image_segmentation_type": "image",
        "video_segment_duration": segmentation["video_duration_s"],
        "audio_segment_duration": segmentation["audio_duration_s"],
        "processing_model": run.settings["model"]["model"],
        "enable_transcription": run.settings["transcription"]["enabled"],
        "enable_image_embedding": run.settings["image_embedding"]["enabled"],
        "billing_estimated_mt": 0.0,
        "billing_actual_mt": 0.0,
        "billing_status": None,
        "billing_error": None,
        "stop_state": {
            "requested_at": wire_time(run.stop_requested_at),
            "requested_by": run.stop_requested_by,
            "mode": "graceful" if run.stop_requested_at is not None else None,
            "observed_at": wire_time(run.stop_observed_at),
            "completed_at": wire_time(run.stop_completed_at),
        },
        "marker": NO_MARKER,
        "started_at": wire_time(run.started_at),
        "completed_at": wire_time(run.completed_at),
    }


_NOTHING_YET: Final[dict[str, Any]] = {
    **{f"{word}_{plural}": 0 for word in ("total", *ITEM_OUTCOMES) for _, plural in MEDIA_TYPES},
    **{f"{operation}_failures": 0 for operation in OPERATIONS},
    **{f"{operation}_succeeded": None for operation in OPERATIONS},
    "total_segments": 0,
    "completed_segments": 0,
    "created_new_segments": False,
    "total_video_seconds": 0.0,
    "video_level_enabled": False,
    **{f"video_level_{word}_items": 0 for word in ("total", "completed", "failed", "partial")},
    "warnings": [],
    "reused_results": 0,
    "model_calls": 0,
    "estimated_input_tokens": None,
    "actual_tokens": {},
}


def _first_summary(prompt: Prompt, settings: RunSettings, videos: Sequence[TargetMedia]) -> dict[str, Any]:
    by_type = Counter(video.media_type for video in videos)
    timed = by_type["video"] + by_type["audio"]
    exact = [settings.segmentation.segment_bounds(video.media_type, video.duration_us) for video in videos]  # type: ignore[arg-type]
    is_exact = all(least == most for least, most in exact)
    return {
        **{f"total_{plural}": by_type[kind] for kind, plural in MEDIA_TYPES},
        "total_segments": sum(least for least, _ in exact) if is_exact else 0,
        "total_video_seconds": round(sum(seconds_from_us(video.duration_us or 0) for video in videos), 3),
        "video_level_enabled": prompt.video_level is not None,
        "video_level_total_items": timed if prompt.video_level is not None else 0,
        "estimated_input_tokens": _estimated_tokens(prompt, settings, videos),
        "warnings": _model_warnings(settings),
    }


def _model_warnings(settings: RunSettings) -> list[str]:
    warning = retirement_warning(settings.model)
    return [] if warning is None else [warning]


def _estimated_tokens(
    prompt: Prompt, settings: RunSettings, videos: Sequence[TargetMedia], *, with_most_segments: bool = True
) -> int:
    """Input tokens of a run that finds nothing finished, from what was registered of its media."""
    if not provider_of(settings).is_called:
        return 0
    total = 0
    for video in videos:
        kind: MediaType = video.media_type  # type: ignore[assignment]
        count = settings.segmentation.segment_bounds(kind, video.duration_us)[with_most_segments]
        lengths = {seconds_from_us(video.duration_us or 0) / count: count}
        is_seen, is_heard = kind != "audio", kind != "image"
        due = int(has_synthesis(prompt, kind))
        tokens = input_tokens(prompt, settings, kind, lengths, due, has_pictures=is_seen, has_sound=is_heard)
        total += sum(tokens.values())
    return total


def _check_limits(prompt: Prompt, settings: RunSettings, videos: Sequence[TargetMedia], config: ApiConfig) -> None:
    bounds: list[tuple[int, int]] = [settings.segmentation.segment_bounds(v.media_type, v.duration_us) for v in videos]  # type: ignore[arg-type]
    least = sum(fewest for fewest, _ in bounds)
    if least > config.max_run_segments:
        message = f"target: at least {least} segments, more than one run may have ({config.max_run_segments})"
        raise invalid(message, "target")
    if config.max_run_tokens is not None:
        tokens = _estimated_tokens(prompt, settings, videos, with_most_segments=False)
        if tokens > config.max_run_tokens:
            message = (
                f"target: its calls take in about {tokens} tokens or more, and one run may use {config.max_run_tokens}; "
                "divide the target, or ask POST /prompt-runs/estimate what each item takes"
            )
            raise invalid(message, "target")


def conflict(code: str, message: str, **details: Any) -> ApiError:
    """The state of a resource forbids what was asked for."""
    return ApiError(409, code, message, details or None)
