"""Estimate the cost of a run without calling a model: items, segments, calls, tokens and reusable results.

Segment counts are exact for analysed items (or with `analyze`) and for fixed windows; otherwise they are bounds derived
from the segment lengths in the settings. Tokens come from `promptreel.providers.token_estimate`; embedding tokens are a
rough guess until the texts exist.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from promptreel.media.analysis import (
    ANALYSIS_FILE,
    MediaAnalysis,
    analysis_key,
    analyze_media,
    load_analysis,
)
from promptreel.media.marks import plan_stretches
from promptreel.media.probe import probe_media
from promptreel.media.source import local_media
from promptreel.pipelines.cached_outcomes import cached_outcome
from promptreel.providers.base import Provider
from promptreel.providers.registry import text_embedder_of
from promptreel.providers.text_embedding import BATCH
from promptreel.providers.tiers import tier_of
from promptreel.providers.token_estimate import (
    CHARS_PER_TOKEN,
    FINDING_TOKENS,
    has_generic_rates,
    has_synthesis,
    input_tokens,
    marking_tokens,
)
from promptreel.schemas.errors import MediaError
from promptreel.schemas.field_paths import LeafField
from promptreel.schemas.media import MediaInfo, MediaType, TimeSpan
from promptreel.schemas.mediatime import US_PER_SECOND, seconds_from_us
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.settings import RunSettings, Tier
from promptreel.tables.layout import analysis_folder
from promptreel.tables.operation_cache import OperationCache
from promptreel.tables.request import RunRequest, TargetItem
from promptreel.tables.storage import Storage
from promptreel.transforms.context import RunContext
from promptreel.transforms.dedupe_segments import deduped_plan, dedupes
from promptreel.transforms.elements import (
    ItemOutcome,
    ItemPlan,
    MediaItem,
)
from promptreel.transforms.embed_texts import batch_keys, texts_of_item
from promptreel.transforms.mark_segments import cached_plan
from promptreel.transforms.read_media import fingerprint, merge_sources
from promptreel.transforms.sample_segments import sampled_plan
from promptreel.transforms.segment_media import check_range, plan_tasks

_EMBEDDED_TOKENS: Final = 2 * FINDING_TOKENS  # each text of a result, and the result as a whole
_SPEECH_TOKENS_PER_SECOND: Final = 4
_LIST_LENGTH: Final = 3  # assumed length of a list in a result


@dataclass(frozen=True)
class ItemEstimate:
    """The estimate of one item.

    Attributes:
        segments: minimum and maximum; equal if the segments are known.
        calls: minimum and maximum number of calls for segments, the synthesis, and batches of texts to embed with a remote
            model.
        reused: number of results (including the synthesis) in the operation cache.
        tokens: maximum input tokens by modality; "embedding" is for the texts to embed.
        error: why the item would fail; None if it is readable.
        knows_duplicates: False if some of its segments may share a call, which only its pictures can tell.
    """

    name: str
    media_type: MediaType | None
    duration_seconds: float | None
    segments: tuple[int, int]
    calls: tuple[int, int]
    reused: int
    tokens: dict[str, int] = field(default_factory=dict)
    error: str | None = None
    knows_duplicates: bool = True


@dataclass(frozen=True)
class RunEstimate:
    """The estimate of a complete run.

    Attributes:
        has_generic_rates: the token rates of the model are unknown.
        tier: service tier of its calls.
    """

    model: str
    items: tuple[ItemEstimate, ...]
    has_generic_rates: bool = False
    tier: Tier = "standard"

    def to_dict(self) -> dict[str, Any]:
        """Convert totals and items to JSON values."""
        tokens: dict[str, int] = {}
        for item in self.items:
            for name, count in item.tokens.items():
                tokens[name] = tokens.get(name, 0) + count
        readable = [item for item in self.items if item.error is None]
        return {
            "model": self.model,
            "tier": self.tier,
            "items": len(self.items),
            "eligible_items": len(readable),
            "media_seconds": round(sum(item.duration_seconds or 0 for item in readable), 3),
            "segments": [sum(item.segments[side] for item in readable) for side in (0, 1)],
            "model_calls": [sum(item.calls[side] for item in readable) for side in (0, 1)],
            "reused_results": sum(item.reused for item in readable),
            "input_tokens": {**tokens, "total": sum(tokens.values())},
            "token_rates": "generic" if self.has_generic_rates else "model",
            "exact": all(item.segments[0] == item.segments[1] and item.knows_duplicates for item in readable),
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
    owner: str | None = None,
) -> RunEstimate:
    """Estimate a run over a target.

    Args:
        analyze: decode items that have not been analysed, for exact figures; the run then reuses the analyses.
        owner: account whose operation cache the run would reuse, see `RunRequest`.
    """
    context = RunContext(storage.root, RunRequest("estimate", prompt, settings, (), "", owner), attempt=1, shards=1)
    items = [_estimate_item(item, storage, context, provider, analyze) for item in _distinct(target)]
    is_generic = provider.is_called and has_generic_rates(settings)
    return RunEstimate(provider.name, tuple(items), is_generic, tier_of(provider, settings))


def _distinct(target: Iterable[TargetItem]) -> list[MediaItem]:
    groups: dict[str, list[Any]] = {}
    for entry in target:
        source = fingerprint(entry)
        groups.setdefault(source.video_id, []).append(source)
    return [merge_sources(sources) for sources in groups.values()]


def _estimate_item(
    item: MediaItem, storage: Storage, context: RunContext, provider: Provider, analyze: bool
) -> ItemEstimate:
    prompt, settings = context.request.prompt, context.request.settings
    if item.failure is not None or item.content_hash is None:
        error = item.failure.message if item.failure is not None else None
        return ItemEstimate(item.name, None, None, (0, 0), (0, 0), 0, error=error)
    key = analysis_key(item.content_hash, settings.sampling)
    try:
        analysis = _analysis(item, key, storage, settings, analyze)
        if analysis is not None:
            check_range(item.name, analysis.info.media_type, analysis.duration_us, settings.segmentation)
            return _exact_estimate(item, key, analysis, OperationCache(storage), context, provider)
        with local_media(item.uri) as path:
            info = probe_media(path, settings.limits)
            if info.duration_us is not None:
                check_range(item.name, info.media_type, info.duration_us, settings.segmentation)
            return _bounded_estimate(item, info, prompt, settings, provider)
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


def _exact_estimate(
    item: MediaItem,
    key: str,
    analysis: MediaAnalysis,
    cache: OperationCache,
    context: RunContext,
    provider: Provider,
) -> ItemEstimate:
    prompt, settings = context.request.prompt, context.request.settings
    if settings.segmentation.definition_of(analysis.info.media_type) is not None:
        plan, missing = cached_plan(ItemPlan(item, key, is_marked=False), analysis, context, cache, provider)
        if plan is None:
            info = replace(analysis.info, duration_us=analysis.duration_us)
            return _bounded_estimate(item, info, prompt, settings, provider, missing)
    else:
        tasks = tuple(plan_tasks(item.video_id, key, analysis, settings, item.content_hash))
        plan = sampled_plan(ItemPlan(item, key, tasks), settings)
    plan = deduped_plan(plan, context, context.storage())
    tasks = plan.tasks
    found = cached_outcome(plan, context, cache, provider)
    unanswered = [segment.task for segment in found.segments if segment.outcome_of("field_extraction") is None]
    uncached = [task for task in unanswered if task.answered_by is None]
    needed_syntheses = int(
        bool(tasks) and plan.sampled_from is None and has_synthesis(prompt, analysis.info.media_type)
    )
    syntheses = needed_syntheses - int(found.synthesis is not None)
    reused = len(tasks) - len(unanswered) + needed_syntheses - syntheses
    model_calls = len(uncached) + syntheses if provider.is_called else 0
    lengths = Counter(seconds_from_us(task.planned.span.duration_us) for task in uncached)
    tokens = _tokens(analysis.info, lengths, syntheses, prompt, settings) if model_calls else {}
    if uncached or syntheses:
        embedded = _embedding_guess(analysis.info, (len(tasks),) * 2, needed_syntheses, prompt, settings, provider)
    else:
        embedded = _embedding_estimate(found, context, cache, settings)
    length = seconds_from_us(analysis.duration_us)
    return ItemEstimate(
        item.name,
        analysis.info.media_type,
        length,
        (len(tasks),) * 2,
        (model_calls + embedded.calls[0], model_calls + embedded.calls[1]),
        reused,
        {**tokens, **embedded.tokens},
    )


@dataclass(frozen=True, slots=True)
class _Embedding:
    """Minimum and maximum calls, and maximum input tokens, to embed the texts of one item."""

    calls: tuple[int, int] = (0, 0)
    tokens: dict[str, int] = field(default_factory=dict)


def _embedder(settings: RunSettings) -> Provider | None:
    """The remote model that embeds texts; None if texts are embedded on this machine or not at all."""
    embedder = text_embedder_of(settings) if settings.text_embedding.enabled else None
    return embedder if embedder is not None and embedder.is_called else None


def _embedding_estimate(
    item: ItemOutcome, context: RunContext, cache: OperationCache, settings: RunSettings
) -> _Embedding:
    """The texts still to be embedded of an item whose results are cached."""
    embedder = _embedder(settings)
    if embedder is None:
        return _Embedding()
    texts = [part.text.text for part in texts_of_item(item, context, cache)]
    missing = [batch for batch, key in batch_keys(texts, embedder, context) if cache.get(key) is None]
    tokens = sum(len(text) for batch in missing for text in batch) // CHARS_PER_TOKEN
    return _Embedding((len(missing),) * 2, {"embedding": tokens} if tokens else {})


def _embedding_guess(
    info: MediaInfo,
    segments: tuple[int, int],
    syntheses: int,
    prompt: Prompt,
    settings: RunSettings,
    provider: Provider,
) -> _Embedding:
    """Guess the embedding of an item without results.

    A provider that is not called may produce no texts, so its minimum is 0 calls.
    """
    if _embedder(settings) is None:
        return _Embedding()
    has_speech = info.audio_index is not None and settings.transcription.enabled
    texts = segments[1] * (_texts_of_result(prompt.leaves) + has_speech)
    if prompt.video_level is not None:
        texts += syntheses * _texts_of_result(prompt.video_level.leaves)
    tokens = (segments[1] + syntheses) * _EMBEDDED_TOKENS
    if has_speech:
        tokens += math.ceil(seconds_from_us(info.duration_us or 0) * _SPEECH_TOKENS_PER_SECOND)
    return _Embedding((int(provider.is_called and segments[0] > 0), math.ceil(texts / BATCH)), {"embedding": tokens})


def _texts_of_result(leaves: Iterable[LeafField]) -> int:
    """Number of texts to embed for one result: each text in it, and the result as a whole."""
    return 1 + sum(int(_LIST_LENGTH ** leaf.path.count("[]")) for leaf in leaves if leaf.type == "string")


def _bounded_estimate(
    item: MediaItem,
    info: MediaInfo,
    prompt: Prompt,
    settings: RunSettings,
    provider: Provider,
    unmarked: Sequence[TimeSpan] | None = None,
) -> ItemEstimate:
    """Estimate an item whose segments are not known.

    Args:
        unmarked: the stretches whose segments a model has yet to mark, if the user defines them; None is all of them.
    """
    seconds = seconds_from_us(info.duration_us or 0)
    minimum, maximum = settings.segmentation.segment_bounds(info.media_type, info.duration_us)
    synthesis = int(has_synthesis(prompt, info.media_type))
    lengths = _lengths_s(settings.segmentation.segment_lengths(info.media_type, info.duration_us))
    if item.sample_segments is not None and item.sample_segments < maximum:
        lengths = Counter({seconds / maximum: item.sample_segments})
        minimum, maximum, synthesis = min(minimum, item.sample_segments), item.sample_segments, 0
    if settings.segmentation.definition_of(info.media_type) is not None and info.duration_us:
        span = settings.segmentation.range_of(info.duration_us)
        unmarked = plan_stretches(span) if unmarked is None else unmarked
    marking = len(unmarked or ())
    least_syntheses = min(synthesis, minimum)  # an item without segments gets none
    least_calls = min(minimum, 1) if dedupes(settings) and info.media_type == "video" else minimum
    model_calls = (
        (marking + least_calls + least_syntheses, marking + maximum + synthesis) if provider.is_called else (0, 0)
    )
    tokens = Counter(_tokens(info, lengths, synthesis, prompt, settings) if provider.is_called else {})
    if marking:
        has_pictures, has_sound = info.video is not None, info.audio_index is not None
        tokens += Counter(
            marking_tokens(
                settings,
                info.media_type,
                info.duration_us,
                has_pictures=has_pictures,
                has_sound=has_sound,
                stretches=unmarked,
            )
        )
    embedded = _embedding_guess(info, (minimum, maximum), synthesis, prompt, settings, provider)
    calls = (model_calls[0] + embedded.calls[0], model_calls[1] + embedded.calls[1])
    return ItemEstimate(
        item.name,
        info.media_type,
        seconds,
        (minimum, maximum),
        calls,
        0,
        {**tokens, **embedded.tokens},
        knows_duplicates=least_calls == minimum,
    )


def _lengths_s(lengths_us: Mapping[float, int]) -> dict[float, int]:
    return {length_us / US_PER_SECOND: count for length_us, count in lengths_us.items()}


def _tokens(
    info: MediaInfo, lengths: Mapping[float, int], syntheses: int, prompt: Prompt, settings: RunSettings
) -> dict[str, int]:
    has_pictures, has_sound = info.video is not None, info.audio_index is not None
    return input_tokens(
        prompt, settings, info.media_type, lengths, syntheses, has_pictures=has_pictures, has_sound=has_sound
    )
