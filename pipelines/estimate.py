"""Estimate the cost of a run without calling a model: items, segments, calls, tokens and reusable results.

Segment counts are exact for analysed items (or with `analyze`) and for fixed windows; otherwise they are bounds derived
from the segment lengths in the settings. Tokens come from `promptreel.providers.token_estimate`; embedding tokens are a
rough guess until the texts exist.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from promptreel.media.analysis import (
    ANALYSIS_FILE,
    MediaAnalysis,
    analysis_key,
    analyze_media,
    load_analysis,
)
from promptreel.media.probe import probe_media
from promptreel.media.source import local_media
from promptreel.pipelines.cached_results import MergedCache, cached_outcome
from promptreel.pipelines.estimated_money import MoneyBasis, embedding_usage, money_basis, usages_of_item
from promptreel.providers.base import Provider
from promptreel.providers.registry import text_embedder_of
from promptreel.providers.text_embedding import BATCH
from promptreel.providers.token_estimate import (
    CHARS_PER_TOKEN,
    FINDING_TOKENS,
    has_generic_rates,
    has_synthesis,
    input_tokens,
    marking_tokens,
    stretches_to_mark,
)
from promptreel.providers.usage_estimate import CallUsage, sampled_lengths, segment_lengths_s
from promptreel.schemas.errors import MediaError
from promptreel.schemas.field_paths import LeafField
from promptreel.schemas.media import MediaInfo, MediaType, TimeSpan
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.settings import RunSettings
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
from promptreel.transforms.extract_fields import operation_keys
from promptreel.transforms.mark_segments import cached_plan
from promptreel.transforms.read_media import fingerprint, merge_sources
from promptreel.transforms.reuse_fields import EarlierAnswers
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
        usages: the expected usage of its calls, by kind.
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
    usages: tuple[CallUsage, ...] = ()
    knows_duplicates: bool = True


@dataclass(frozen=True)
class RunEstimate:
    """The estimate of a complete run.

    Attributes:
        has_generic_rates: the token rates of the model are unknown.
        money: its prices, service tier and calibration.
    """

    model: str
    items: tuple[ItemEstimate, ...]
    has_generic_rates: bool = False
    money: MoneyBasis = field(default_factory=MoneyBasis)

    def to_dict(self) -> dict[str, Any]:
        """Convert totals and items to JSON values."""
        tokens: dict[str, int] = {}
        for item in self.items:
            for name, count in item.tokens.items():
                tokens[name] = tokens.get(name, 0) + count
        readable = [item for item in self.items if item.error is None]
        return {
            "model": self.model,
            "tier": self.money.tier,
            "items": len(self.items),
            "eligible_items": len(readable),
            "media_seconds": round(sum(item.duration_seconds or 0 for item in readable), 3),
            "segments": [sum(item.segments[side] for item in readable) for side in (0, 1)],
            "model_calls": [sum(item.calls[side] for item in readable) for side in (0, 1)],
            "reused_results": sum(item.reused for item in readable),
            "input_tokens": {**tokens, "total": sum(tokens.values())},
            "token_rates": "generic" if self.has_generic_rates else "model",
            "exact": all(item.segments[0] == item.segments[1] and item.knows_duplicates for item in readable),
            **self.money.to_dict(usage for item in readable for usage in item.usages),
            "calibration": self.money.calibration.to_dict(),
            "details": [self._details(item) for item in self.items],
        }

    def _details(self, item: ItemEstimate) -> dict[str, Any]:
        values = {part.name: getattr(item, part.name) for part in fields(item) if part.name != "usages"}
        return {**values, **self.money.to_dict(item.usages)}


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
    answers = EarlierAnswers(storage, context, provider, operation_keys)
    items = [_estimate_item(item, storage, context, answers, analyze) for item in _distinct(target)]
    is_generic = provider.is_called and has_generic_rates(settings)
    money = money_basis(storage, prompt, settings, provider, owner)
    return RunEstimate(provider.name, tuple(items), is_generic, money)


def _distinct(target: Iterable[TargetItem]) -> list[MediaItem]:
    groups: dict[str, list[Any]] = {}
    for entry in target:
        source = fingerprint(entry)
        groups.setdefault(source.video_id, []).append(source)
    return [merge_sources(sources) for sources in groups.values()]


def _estimate_item(
    item: MediaItem, storage: Storage, context: RunContext, answers: EarlierAnswers, analyze: bool
) -> ItemEstimate:
    prompt, settings, provider = context.request.prompt, context.request.settings, answers.provider
    if item.failure is not None or item.content_hash is None:
        error = item.failure.message if item.failure is not None else None
        return ItemEstimate(item.name, None, None, (0, 0), (0, 0), 0, error=error)
    key = analysis_key(item.content_hash, settings.sampling)
    try:
        analysis = _analysis(item, key, storage, settings, analyze)
        if analysis is not None:
            check_range(item.name, analysis.info.media_type, analysis.duration_us, settings.segmentation)
            return _exact_estimate(item, key, analysis, MergedCache(storage, answers), context, provider)
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
    cache: MergedCache,
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
    tokens, usages = Counter[str](), list[CallUsage]()
    for part, lengths in cache.requests(uncached, prompt) if model_calls else ():
        count = syntheses if part is prompt else 0
        tokens.update(_tokens(analysis.info, lengths, count, part, settings))
        usages += usages_of_item(analysis.info, (lengths,) * 3, count, part, settings, provider, segments=len(tasks))
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
        usages=(
            *usages,
            *embedding_usage(embedded.calls, embedded.tokens, is_guess=bool(uncached or syntheses)),
        ),
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
    segmentation, is_called = settings.segmentation, provider.is_called
    lengths = segment_lengths_s(segmentation, info.media_type, info.duration_us)
    minimum, maximum = segmentation.segment_bounds(info.media_type, info.duration_us)
    synthesis = int(has_synthesis(prompt, info.media_type))
    if item.sample_segments is not None and item.sample_segments < maximum:
        lengths = sampled_lengths(lengths, item.sample_segments)
        minimum, maximum, synthesis = min(minimum, item.sample_segments), item.sample_segments, 0
    if unmarked is None:
        unmarked = stretches_to_mark(segmentation, info.media_type, info.duration_us)
    least_syntheses = min(synthesis, minimum)  # an item without segments gets none
    least_calls = min(minimum, 1) if dedupes(settings) and info.media_type == "video" else minimum
    if least_calls < minimum:
        length = next(iter(lengths[2]))
        lengths = {length: least_calls}, *lengths[1:]
    marked = len(unmarked)
    model_calls = (marked + least_calls + least_syntheses, marked + maximum + synthesis) if is_called else (0, 0)
    embedded = _embedding_guess(info, (minimum, maximum), synthesis, prompt, settings, provider)
    usages = (
        *usages_of_item(info, lengths, synthesis, prompt, settings, provider, unmarked),
        *embedding_usage(embedded.calls, embedded.tokens, is_guess=True),
    )
    tokens = _tokens(info, lengths[2], synthesis, prompt, settings, unmarked) if is_called else {}
    return ItemEstimate(
        item.name,
        info.media_type,
        seconds_from_us(info.duration_us or 0),
        (minimum, maximum),
        (model_calls[0] + embedded.calls[0], model_calls[1] + embedded.calls[1]),
        0,
        {**tokens, **embedded.tokens},
        usages=usages,
        knows_duplicates=least_calls == minimum,
    )


def _tokens(
    info: MediaInfo,
    lengths: Mapping[float, float],
    syntheses: int,
    prompt: Prompt,
    settings: RunSettings,
    unmarked: Sequence[TimeSpan] = (),
) -> dict[str, int]:
    has_pictures, has_sound = info.video is not None, info.audio_index is not None
    tokens = input_tokens(
        prompt, settings, info.media_type, lengths, syntheses, has_pictures=has_pictures, has_sound=has_sound
    )
    marking = marking_tokens(settings, info.media_type, unmarked, has_pictures=has_pictures, has_sound=has_sound)
    return dict(Counter(tokens) + Counter(marking))
