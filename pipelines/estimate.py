"""What a run would cost, without calling a model: items, segments, calls and tokens, and what is finished already.

Segments are exact where an item has been analysed before (or `analyze` is set) and for fixed windows; elsewhere they
are bounds from the settings' lengths. Token rates are the Gemini API's published ones and are estimates for a media
sampled once a second: 258 tokens a frame (66 at low resolution), 32 a second of sound, about 4 characters of text each.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from media.analysis import ANALYSIS_FILE, MediaAnalysis, analysis_key, analyze_media, load_analysis
from media.probe import probe_media
from providers.base import Provider
from providers.extraction import PREAMBLE, extraction_key
from schemas.errors import MediaError
from schemas.media import MediaInfo, MediaType
from schemas.mediatime import US_PER_SECOND, seconds_from_us
from schemas.prompt import Prompt
from schemas.settings import RunSettings
from tables.layout import analysis_folder
from tables.operation_cache import OperationCache
from tables.request import TargetItem
from tables.storage import Storage
from transforms.elements import MediaItem
from transforms.read_media import fingerprint, local_media, merge_sources
from transforms.segment_media import plan_tasks

TOKENS_PER_FRAME: Final = {None: 258, "low": 66, "medium": 258, "high": 258}
TOKENS_PER_IMAGE: Final = 258
TOKENS_PER_SOUND_SECOND: Final = 32
CHARS_PER_TOKEN: Final = 4
_TEXT_PER_SEGMENT_TOKENS: Final = 30  # the line that says where the segment lies


@dataclass(frozen=True)
class ItemEstimate:
    """One item's share.

    Attributes:
        segments: least and most; equal where the segments are known.
        calls: segments that would be asked about, least and most.
        reused: segments whose result is in the operation cache.
        tokens: input tokens by modality for the calls, at most.
        error: why the item would fail; None where it can be read.
    """

    name: str
    media_type: MediaType | None
    duration_seconds: float | None
    segments: tuple[int, int]
    calls: tuple[int, int]
    reused: int
    tokens: dict[str, int] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class RunEstimate:
    """A whole run, before it."""

    model: str
    items: tuple[ItemEstimate, ...]

    def to_dict(self) -> dict[str, Any]:
        """Totals and items as JSON values."""
        tokens: dict[str, int] = {}
        for item in self.items:
            for name, count in item.tokens.items():
                tokens[name] = tokens.get(name, 0) + count
        readable = [item for item in self.items if item.error is None]
        return {
            "model": self.model,
            "items": len(self.items),
            "eligible_items": len(readable),
            "media_seconds": round(sum(item.duration_seconds or 0 for item in readable), 3),
            "segments": [sum(item.segments[side] for item in readable) for side in (0, 1)],
            "model_calls": [sum(item.calls[side] for item in readable) for side in (0, 1)],
            "reused_results": sum(item.reused for item in readable),
            "input_tokens": {**tokens, "total": sum(tokens.values())},
            "exact": all(item.segments[0] == item.segments[1] for item in readable),
            "details": [asdict(item) for item in self.items],
        }


def estimate_run(
    storage: Storage,
    prompt: Prompt,
    settings: RunSettings,
    provider: Provider,
    target: Sequence[TargetItem],
    *,
    analyze: bool = False,
) -> RunEstimate:
    """Estimates a run over a target.

    Args:
        analyze: decode items that have not been analysed, for exact figures; the run then finds them done.
    """
    items = [_estimate_item(item, storage, prompt, settings, provider, analyze) for item in _distinct(target)]
    return RunEstimate(provider.name, tuple(items))


def _distinct(target: Iterable[TargetItem]) -> list[MediaItem]:
    groups: dict[str, list[Any]] = {}
    for entry in target:
        source = fingerprint(entry)
        groups.setdefault(source.video_id, []).append(source)
    return [merge_sources(sources) for sources in groups.values()]


def _estimate_item(
    item: MediaItem, storage: Storage, prompt: Prompt, settings: RunSettings, provider: Provider, analyze: bool
) -> ItemEstimate:
    if item.failure is not None or item.content_hash is None:
        return ItemEstimate(item.name, None, None, (0, 0), (0, 0), 0, error=item.failure and item.failure.message)
    key = analysis_key(item.content_hash, settings.sampling)
    try:
        analysis = _analysis(item, key, storage, settings, analyze)
        if analysis is not None:
            return _exact(item, key, analysis, storage, prompt, settings, provider)
        with local_media(item.uri) as path:
            return _bounds(item, probe_media(path, settings.limits), prompt, settings, provider)
    except MediaError as error:
        return ItemEstimate(item.name, None, None, (0, 0), (0, 0), 0, error=error.message)


def _analysis(
    item: MediaItem, key: str, storage: Storage, settings: RunSettings, analyze: bool
) -> MediaAnalysis | None:
    name = f"{analysis_folder(key)}/{ANALYSIS_FILE}"
    if storage.exists(name):
        return load_analysis(storage.read_bytes(name))
    if not analyze:
        return None
    with local_media(item.uri) as path, storage.work_folder() as work:
        folder = work / "analysis"
        folder.mkdir()
        analysis = analyze_media(probe_media(path, settings.limits), folder, settings.sampling, settings.limits)
        storage.commit_folder(folder, analysis_folder(key), ANALYSIS_FILE)
        return analysis


def _exact(
    item: MediaItem,
    key: str,
    analysis: MediaAnalysis,
    storage: Storage,
    prompt: Prompt,
    settings: RunSettings,
    provider: Provider,
) -> ItemEstimate:
    cache = OperationCache(storage)
    tasks = plan_tasks(item.video_id, key, analysis, settings)
    spans = [task.planned.span for task in tasks]
    known = [cache.get(extraction_key(provider, prompt, key, (s.start_us, s.end_us))) is not None for s in spans]
    reused = sum(known) if settings.reuse_results else 0
    calls = len(tasks) - reused if provider.is_called else 0
    seconds = seconds_from_us(analysis.duration_us)
    tokens = _tokens(analysis.info, seconds * calls / max(1, len(tasks)), calls, prompt, settings)
    return ItemEstimate(item.name, analysis.info.media_type, seconds, (len(tasks),) * 2, (calls, calls), reused, tokens)


def _bounds(
    item: MediaItem, info: MediaInfo, prompt: Prompt, settings: RunSettings, provider: Provider
) -> ItemEstimate:
    seconds = seconds_from_us(info.duration_us or 0)
    least, most = _segment_bounds(info.media_type, seconds, settings)
    calls = (least, most) if provider.is_called else (0, 0)
    return ItemEstimate(
        item.name, info.media_type, seconds, (least, most), calls, 0, _tokens(info, seconds, calls[1], prompt, settings)
    )


def _segment_bounds(media_type: MediaType, seconds: float, settings: RunSettings) -> tuple[int, int]:
    """Least and most segments; a header without a duration gives one."""
    if media_type == "image":
        return 1, 1
    window_us = settings.segmentation.window_us(media_type)
    if window_us is not None:
        count = max(1, math.ceil(seconds * US_PER_SECOND / window_us))
        return count, count
    lengths = settings.segmentation.bounds_of(media_type)
    least = max(1, math.ceil(seconds * US_PER_SECOND / lengths.max_us))
    return least, max(least, int(seconds * US_PER_SECOND // lengths.min_us))


def _tokens(info: MediaInfo, seconds: float, calls: int, prompt: Prompt, settings: RunSettings) -> dict[str, int]:
    """Input tokens by modality of `calls` calls over `seconds` of media."""
    if not calls:
        return {}
    text = len(PREAMBLE) + len(prompt.prompt_text) + len(json.dumps(prompt.json_schema))
    tokens = {"text": calls * (text // CHARS_PER_TOKEN + _TEXT_PER_SEGMENT_TOKENS)}
    if info.media_type == "image":
        tokens["image"] = calls * TOKENS_PER_IMAGE
    elif info.video is not None:
        frames = seconds * settings.sampling.frames_per_second + calls  # a segment shows at least one frame
        tokens["video"] = math.ceil(frames * TOKENS_PER_FRAME[settings.model.media_resolution])
    if info.audio_index is not None:
        tokens["audio"] = math.ceil(seconds * TOKENS_PER_SOUND_SECOND)
    return tokens
