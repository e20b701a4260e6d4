"""What a run would cost, without calling a model: items, segments, calls and tokens, and what is finished already.

Segments are exact where an item has been analysed before (or `analyze` is set) and for fixed windows; elsewhere they
are bounds from the settings' lengths. Token rates are the Gemini API's published ones and are estimates for a media
sampled once a second: 258 tokens a frame (66 at low resolution), 32 a second of sound, about 4 characters of text each.
The response schema stands apart, for not every service counts it. What a synthesis reads is guessed before it exists.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from media.analysis import ANALYSIS_FILE, MediaAnalysis, analysis_key, analyze_media, load_analysis
from media.probe import probe_media
from media.source import local_media
from providers.base import Provider
from providers.extraction import PREAMBLE, extraction_key
from providers.synthesis import PREAMBLE as SYNTHESIS_PREAMBLE
from providers.synthesis import SegmentFinding, render_source, synthesis_key
from schemas.errors import MediaError
from schemas.media import MediaInfo, MediaType
from schemas.mediatime import US_PER_SECOND, seconds_from_us
from schemas.prompt import Prompt
from schemas.settings import RunSettings
from tables.layout import analysis_folder
from tables.operation_cache import OperationCache
from tables.request import TargetItem
from tables.storage import Storage
from transforms.elements import MediaItem, SegmentTask
from transforms.read_media import fingerprint, merge_sources
from transforms.segment_media import plan_tasks

TOKENS_PER_FRAME: Final = {None: 258, "low": 66, "medium": 258, "high": 258}
TOKENS_PER_SOUND_SECOND: Final = 32
CHARS_PER_TOKEN: Final = 4
_PLACE_TOKENS: Final = 20  # the line that says where the segment lies
_LABEL_TOKENS: Final = 9  # the line before each frame where frames are sent
_FINDING_TOKENS: Final = 60  # what one segment contributes to a synthesis


@dataclass(frozen=True)
class ItemEstimate:
    """One item's share.

    Attributes:
        segments: least and most; equal where the segments are known.
        calls: segments that would be asked about and the synthesis, least and most.
        reused: results (the synthesis among them) that are in the operation cache.
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
    tasks = plan_tasks(item.video_id, key, analysis, settings)
    kept = _kept_results(tasks, key, OperationCache(storage), prompt, settings, provider)
    unknown = [task for task in tasks if task.segment_id not in kept]
    synthesis = int(_has_synthesis(prompt, analysis.info.media_type))
    synthesis_known = int(
        synthesis and not unknown and _synthesis_is_known(tasks, kept, key, storage, prompt, provider)
    )
    reused = len(kept) + synthesis_known
    calls = len(tasks) + synthesis - reused if provider.is_called else 0
    seconds = [seconds_from_us(task.planned.span.duration_us) for task in unknown]
    tokens = _tokens(analysis.info, seconds, synthesis - synthesis_known, prompt, settings) if calls else {}
    length = seconds_from_us(analysis.duration_us)
    return ItemEstimate(item.name, analysis.info.media_type, length, (len(tasks),) * 2, (calls, calls), reused, tokens)


def _kept_results(
    tasks: Sequence[SegmentTask],
    key: str,
    cache: OperationCache,
    prompt: Prompt,
    settings: RunSettings,
    provider: Provider,
) -> dict[str, Any]:
    """The fields of the segments that are finished already, by segment id."""
    kept = {}
    for task in tasks if settings.reuse_results else ():
        span = task.planned.span
        value = cache.get(extraction_key(provider, prompt, key, (span.start_us, span.end_us)))
        if value is not None:
            kept[task.segment_id] = value["metadata"]
    return kept


def _has_synthesis(prompt: Prompt, media_type: MediaType) -> bool:
    return prompt.video_level is not None and media_type != "image"


def _synthesis_is_known(
    tasks: Sequence[SegmentTask], kept: dict[str, Any], key: str, storage: Storage, prompt: Prompt, provider: Provider
) -> bool:
    spans = {task.segment_id: task.planned.span for task in tasks}
    findings = [SegmentFinding(name, span.start_us, span.end_us, kept[name]) for name, span in spans.items()]
    source = render_source(prompt, findings)
    return OperationCache(storage).get(synthesis_key(provider, prompt, source, key)) is not None


def _bounds(
    item: MediaItem, info: MediaInfo, prompt: Prompt, settings: RunSettings, provider: Provider
) -> ItemEstimate:
    seconds = seconds_from_us(info.duration_us or 0)
    least, most = _segment_bounds(info.media_type, seconds, settings)
    synthesis = int(_has_synthesis(prompt, info.media_type))
    calls = (least + synthesis, most + synthesis) if provider.is_called else (0, 0)
    tokens = _tokens(info, [seconds / most] * most, synthesis, prompt, settings) if provider.is_called else {}
    return ItemEstimate(item.name, info.media_type, seconds, (least, most), calls, 0, tokens)


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


def _tokens(
    info: MediaInfo, seconds: Sequence[float], syntheses: int, prompt: Prompt, settings: RunSettings
) -> dict[str, int]:
    """Input tokens by modality of one call for each segment of so many seconds, and of the syntheses over them."""
    fps, as_frames = settings.sampling.frames_per_second, settings.model.media_input == "frames"
    shown = sum(max(1, math.ceil(length * fps)) for length in seconds) if info.video is not None else 0
    labels = shown * _LABEL_TOKENS if as_frames and info.media_type != "image" else 0
    level = prompt.video_level if syntheses else None
    tokens = {
        "text": len(seconds) * _text_tokens(PREAMBLE + prompt.prompt_text, _PLACE_TOKENS) + labels,
        "schema": len(seconds) * _text_tokens(json.dumps(prompt.json_schema)),
        "image" if as_frames or info.media_type == "image" else "video": (
            shown * TOKENS_PER_FRAME[settings.model.media_resolution]
        ),
        "audio": math.ceil(sum(seconds) * TOKENS_PER_SOUND_SECOND) if info.audio_index is not None else 0,
    }
    if level is not None:
        findings = max(1, len(seconds)) * _FINDING_TOKENS
        tokens["text"] += syntheses * _text_tokens(SYNTHESIS_PREAMBLE + level.instructions_text, findings)
        tokens["schema"] += syntheses * _text_tokens(json.dumps(level.json_schema))
    return {name: count for name, count in tokens.items() if count}


def _text_tokens(text: str, more: int = 0) -> int:
    return math.ceil(len(text) / CHARS_PER_TOKEN) + more
