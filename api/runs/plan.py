"""Plan a run and validate it before it is stored."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row, bindparam, select
from sqlalchemy.orm import Session

from promptreel.api.config import ApiConfig
from promptreel.api.db.models import MediaIndex, PromptRecord, Video
from promptreel.api.runs.costs import estimated_cost
from promptreel.api.runs.local_models import local_model_settings
from promptreel.api.runs.service_models import check_known_models
from promptreel.api.runs.statuses import MEDIA_TYPES, REQUEST_WARNINGS
from promptreel.api.uploads.local_files import location_of
from promptreel.api.uploads.media_rows import owned_videos
from promptreel.api.uploads.store import limits_of
from promptreel.api.web.auth import Principal
from promptreel.api.web.errors import ApiError, invalid, name_ids, none_found, not_found
from promptreel.providers.model_names import settings_warnings
from promptreel.providers.registry import check_evidence, check_run, default_model, provider_of, with_tier
from promptreel.providers.token_estimate import has_synthesis, input_tokens, marking_tokens, stretches_to_mark
from promptreel.providers.usage_estimate import segment_lengths_s
from promptreel.schemas.errors import InvalidInput
from promptreel.schemas.evidence import EvidenceSettings
from promptreel.schemas.media import MediaType
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.schemas.prompt import Prompt, prompt_from_dict
from promptreel.schemas.prompt_media import settings_for_prompt
from promptreel.schemas.segmentation import SegmentationSettings
from promptreel.schemas.settings import CallSettings, ModelSettings, RunSettings
from promptreel.schemas.wire.prompt_runs import ExecuteRun
from promptreel.schemas.wire.run_targets import IndexTarget, VideosTarget

_PROMPT_BY_ID: Final = select(PromptRecord.__table__).where(PromptRecord.prompt_id == bindparam("prompt_id"))
_INDEX_BY_ID: Final = select(MediaIndex.__table__).where(MediaIndex.index_id == bindparam("index_id"))
_MEDIA: Final = (
    select(Video.__table__)
    .where(Video.account_id == bindparam("account_id"), Video.deletion_id.is_(None))
    .order_by(Video.created_at, Video.video_id)
)
_MEDIA_OF_INDEX: Final = _MEDIA.where(Video.index_id == bindparam("index_id"))
_MEDIA_OF_PLAYGROUND: Final = _MEDIA.where(Video.index_id.is_(None))

TargetMedia = Video | Row[Any]  # one item of a target, with the columns of `Video`


def plan_run(
    session: Session, caller: Principal, body: ExecuteRun, config: ApiConfig
) -> tuple[Prompt, RunSettings, Sequence[TargetMedia]]:
    """Validate a run as far as possible before it starts. Return its prompt, settings and media. Nothing is stored.

    Raises:
        ApiError: 404 if the prompt, index or an item does not exist, 422 if the run is invalid.
    """
    record = session.connection().execute(_PROMPT_BY_ID, {"prompt_id": body.prompt_id}).one_or_none()
    if record is None or record.account_id != caller.account_id:
        raise not_found("prompt", body.prompt_id)
    if not record.is_active:
        raise invalid(f"prompt_id: prompt {body.prompt_id} is deactivated; activate it or choose another", "prompt_id")
    prompt = _checked_prompt(json.dumps(record.definition))
    settings = settings_for_prompt(run_settings(body, config), prompt.media)
    try:
        check_evidence(prompt, settings)
    except InvalidInput as error:
        raise invalid(str(error), "evidence") from error
    try:
        check_run(prompt, settings)
    except InvalidInput as error:
        raise invalid(str(error), "processing_model") from error
    check_known_models(body.processing_model, settings)
    videos = target_videos(session, caller, body, config)
    if len(videos) > config.max_run_items:
        message = f"target: {len(videos)} items exceed the limit of one run ({config.max_run_items}); split the target"
        raise invalid(message, "target")
    return prompt, settings, videos


@functools.lru_cache(maxsize=256)
def _checked_prompt(definition: str) -> Prompt:
    """Parse a stored definition. Cached, because parsing takes longer than all other steps of starting a run."""
    return prompt_from_dict(json.loads(definition))


def run_settings(body: ExecuteRun, config: ApiConfig) -> RunSettings:
    """Return the settings of a run.

    Raises:
        ApiError: 422 if the model is not allowed, or values contradict each other.
    """
    named = body.processing_model or config.default_model or default_model()
    model = config.model_aliases.get(named, named)
    if config.models and model not in config.models:
        allowed = ", ".join([*config.models, *config.model_aliases])
        raise invalid(
            f"processing_model: {named!r} is not allowed on this service; use one of {allowed}", "processing_model"
        )
    try:
        settings = RunSettings(
            segmentation=SegmentationSettings(
                video_strategy=body.video_segmentation_type,
                audio_strategy=body.audio_segmentation_type,
                video_duration_s=body.video_segment_duration if body.video_segmentation_type == "fixed" else None,
                audio_duration_s=body.audio_segment_duration if body.audio_segmentation_type == "fixed" else None,
                hop_s=body.segment_options.hop if body.is_fixed else None,
                start_s=body.segment_options.start_time,
                end_s=body.segment_options.end_time,
                segments_by=body.segment_options.definition,
            ),
            model=ModelSettings(model=model, base_url=config.model_base_url),
            calls=CallSettings(
                max_outage_s=config.max_outage_s,
                max_total_tokens=config.max_run_tokens,
                max_cost=config.max_run_cost,
                run_deadline_s=config.run_deadline_s,
                flex_fallback=config.flex_fallback,
                batch_deadline_s=config.batch_deadline_s,
            ),
            limits=limits_of(config),
            **local_model_settings(
                config, transcription=body.enable_transcription, image_embedding=body.enable_image_embedding
            ),
            dedupe_segments=body.segment_options.dedupe,
            strict_models=config.strict_models,
            commit_interval_s=config.commit_interval_s,
            prices=config.prices,
            evidence=None if body.evidence is None else EvidenceSettings(tuple(dict.fromkeys(body.evidence.fields))),
        )
        return settings if config.tier == "standard" else with_tier(settings, config.tier)
    except InvalidInput as error:
        raise invalid(str(error)) from error


def target_videos(session: Session, caller: Principal, body: ExecuteRun, config: ApiConfig) -> Sequence[TargetMedia]:
    """Return the media of a target, in the order of the request or else of their addition.

    Files of the command line that this service must not read are left out unless the request names them.

    Raises:
        ApiError: 404 if the index or an item does not exist, 422 if an item is not in the index, this service must not
            read a named one, or the target is empty.
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
        if unknown := [video_id for video_id in wanted if video_id not in found]:
            raise none_found("video", unknown)
        if outside := [video_id for video_id in wanted if found[video_id].index_id != index_id]:
            location = f"index {index_id}" if index_id else "the playground; set target.index_id to its index"
            raise invalid(f"target.video_ids: {name_ids(outside)}: not in {location}", "target.video_ids")
        _check_readable([found[video_id] for video_id in wanted], config)
        return [found[video_id] for video_id in wanted]
    statement = _MEDIA_OF_PLAYGROUND if index_id is None else _MEDIA_OF_INDEX
    parameters = {"account_id": caller.account_id, **({} if index_id is None else {"index_id": index_id})}
    rows = session.connection().execute(statement, parameters).all()
    videos = [video for video in rows if location_of(video, config) is not None]
    if not videos:
        location = f"index {index_id}" if isinstance(target, IndexTarget) else "the playground"
        raise invalid(f"target: {location} contains no media; upload or register some first", "target")
    return videos


def _check_readable(videos: Sequence[TargetMedia], config: ApiConfig) -> None:
    if refused := [video.video_id for video in videos if location_of(video, config) is None]:
        message = (
            f"target.video_ids: {name_ids(refused)}: media of the command line that this service may not read "
            "(PROMPTREEL_MEDIA_ROOTS), or that have changed since; upload or register them."
        )
        errors = [{"path": "target.video_ids", "message": message}]
        raise ApiError(422, "media_uri_refused", message, {"errors": errors})


def first_summary(
    prompt: Prompt, settings: RunSettings, videos: Sequence[TargetMedia], request_warnings: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the initial counters of a run. `total_segments` is 0 until the number of segments is known.

    Args:
        request_warnings: parts of the request that have no effect. They stay in the run's warnings.
    """
    by_type = Counter(video.media_type for video in videos)
    timed_items = by_type["video"] + by_type["audio"]
    counts = [settings.segmentation.segment_count(video.media_type, video.duration_us) for video in videos]  # type: ignore[arg-type]
    return {
        **{f"total_{plural}": by_type[kind] for kind, plural in MEDIA_TYPES},
        "total_segments": 0 if None in counts else sum(count or 0 for count in counts),
        "total_video_seconds": round(sum(seconds_from_us(video.duration_us or 0) for video in videos), 3),
        "video_level_enabled": prompt.video_level is not None,
        "video_level_total_items": timed_items if prompt.video_level is not None else 0,
        "estimated_input_tokens": _estimated_tokens(prompt, settings, videos),
        "estimated_cost": estimated_cost(prompt, settings, videos),
        "warnings": [*request_warnings, *model_warnings(settings)],
        REQUEST_WARNINGS: list(request_warnings),
    }


def model_warnings(settings: RunSettings) -> list[str]:
    """Return a warning for each model of a run that has a shutdown date."""
    return settings_warnings(settings)


def _estimated_tokens(
    prompt: Prompt, settings: RunSettings, videos: Sequence[TargetMedia], *, with_most_segments: bool = True
) -> int:
    """Estimate the input tokens of a run that reuses no results, from the registered type and duration of its media."""
    if not provider_of(settings).is_called:
        return 0
    total = 0
    for video in videos:
        kind: MediaType = video.media_type  # type: ignore[assignment]
        fewest, _, most = segment_lengths_s(settings.segmentation, kind, video.duration_us)
        lengths = most if with_most_segments else fewest
        has_pictures, has_sound = kind != "audio", kind != "image"
        syntheses = int(has_synthesis(prompt, kind))
        tokens = input_tokens(
            prompt, settings, kind, lengths, syntheses, has_pictures=has_pictures, has_sound=has_sound
        )
        total += sum(tokens.values())
        stretches = stretches_to_mark(settings.segmentation, kind, video.duration_us)
        marking = marking_tokens(settings, kind, stretches, has_pictures=has_pictures, has_sound=has_sound)
        total += sum(marking.values())
    return total


def check_limits(prompt: Prompt, settings: RunSettings, videos: Sequence[TargetMedia], config: ApiConfig) -> None:
    """Check a run against the limits of segments and tokens, with the fewest segments that its media can have.

    Raises:
        ApiError: 422 if the run exceeds a limit.
    """
    bounds: list[tuple[int, int]] = [settings.segmentation.segment_bounds(v.media_type, v.duration_us) for v in videos]  # type: ignore[arg-type]
    least = sum(fewest for fewest, _ in bounds)
    if least > config.max_run_segments:
        limit = config.max_run_segments
        message = f"target: at least {least} segments exceed the limit of one run ({limit}); split the target"
        raise invalid(message, "target")
    if settings.dedupe_segments:
        return  # only the decoded pictures tell how many calls there are; the run itself stops at its limits
    if config.max_run_tokens is not None:
        tokens = _estimated_tokens(prompt, settings, videos, with_most_segments=False)
        if tokens > config.max_run_tokens:
            message = (
                f"target: at least about {tokens} input tokens exceed the limit of one run ({config.max_run_tokens}); "
                "split the target (POST /prompt-runs/estimate lists the tokens of each item)"
            )
            raise invalid(message, "target")
    if config.max_run_cost is not None:
        cost = estimated_cost(prompt, settings, videos)
        if cost is not None and cost["low"] > config.max_run_cost:
            message = (
                f"target: at least about {cost['low']:.4f} {cost['currency']} exceed the cost limit of one run "
                f"({config.max_run_cost:g}); split the target (POST /prompt-runs/estimate lists the cost of each item)"
            )
            raise invalid(message, "target")
