"""SegmentMedia: decode each item once, store its analysis, and plan its segments."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import apache_beam as beam

from promptreel.media.analysis import (
    ANALYSIS_FILE,
    MediaAnalysis,
    analysis_key,
    analyze_media,
    frames_of_span,
    load_analysis,
    pictures_key,
)
from promptreel.media.planner import plan_segments
from promptreel.media.probe import probe_media
from promptreel.media.source import local_media
from promptreel.schemas.errors import MediaError, StorageError
from promptreel.schemas.ids import hash_file, segment_id_of
from promptreel.schemas.media import MediaType, PlannedSegment
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.schemas.segmentation import SegmentationSettings
from promptreel.schemas.settings import MediaLimits, RunSettings
from promptreel.schemas.uris import is_remote, public_uri
from promptreel.schemas.windows import MIN_LENGTH_US
from promptreel.tables.layout import analysis_folder
from promptreel.tables.progress import ProgressBoard
from promptreel.tables.stop_signal import StopSignal
from promptreel.tables.storage import Storage
from promptreel.transforms.context import RunContext
from promptreel.transforms.dedupe_segments import deduped_plan
from promptreel.transforms.elements import Failure, ItemPlan, MediaItem, SegmentTask
from promptreel.transforms.item_dofn import ItemDoFn
from promptreel.transforms.outcome_log import OutcomeLog
from promptreel.transforms.sample_segments import sampled_plan
from promptreel.transforms.unfinished import unfinished_plan

ITEMS: Final = "items"
SEGMENTS: Final = "segments"


class SegmentMedia(beam.PTransform):
    """Turn `MediaItem`s into two outputs: "items", an `ItemPlan` per item, and "segments", their distinct `SegmentTask`s."""

    def __init__(self, context: RunContext) -> None:
        super().__init__()
        self._context = context

    def expand(self, pcoll: beam.PCollection) -> Any:
        return pcoll | beam.ParDo(_SegmentMediaFn(self._context)).with_outputs(ITEMS, main=SEGMENTS)


class _SegmentMediaFn(ItemDoFn):
    def process(self, item: MediaItem) -> Iterator[Any]:
        plan = segment_media(item, self._storage, self._context.request.settings, self._stop, self._progress)
        plan = unfinished_plan(self._context, plan)
        plan = deduped_plan(plan, self._context, self._storage)
        if plan.is_marked:
            count_plan(plan, self._progress, self._log)
        yield from plan.distinct_tasks  # first, so that model calls start while the item's other operations compute
        yield beam.pvalue.TaggedOutput(ITEMS, plan)


def count_plan(plan: ItemPlan, progress: ProgressBoard, log: OutcomeLog) -> None:
    """Count an item with its segments, and log its plan."""
    failed = int(plan.failure is not None)
    progress.add(segments_planned=len(plan.tasks), items_read=1 + len(plan.item.other_uris), items_failed=failed)
    log.add_plan(plan)


def segment_media(
    item: MediaItem, storage: Storage, settings: RunSettings, stop: StopSignal, progress: Any
) -> ItemPlan:
    """Plan one item from its stored analysis, decoding the item if it has none and the run is not stopped.

    An item whose segments the user defines gets a plan without segments, to be marked; see `MarkSegments`.

    Never raises; any error becomes the item's failure.
    """
    if item.failure is not None or item.content_hash is None:
        return ItemPlan(item, None, failure=item.failure)
    try:
        key = analysis_key(item.content_hash, settings.sampling)
        analysis = _cached_analysis(storage, key)
        if analysis is not None:
            progress.add(analyses_reused=1)
        elif stop.is_set():
            return ItemPlan(item, None, cancelled=True)
        else:
            analysis = _analyze(item, storage, key, settings, stop)
        check_damage(item.name, analysis, settings.limits)
        check_range(item.name, analysis.info.media_type, analysis.duration_us, settings.segmentation)
        if settings.segmentation.definition_of(analysis.info.media_type) is not None:
            return ItemPlan(item, key, is_marked=False)
        tasks = plan_tasks(item.video_id, key, analysis, settings, item.content_hash)
        return sampled_plan(ItemPlan(item, key, tuple(tasks)), settings)
    except MediaError as error:
        if error.code == "cancelled":
            return ItemPlan(item, None, cancelled=True)
        return ItemPlan(item, None, failure=Failure(error.code, _named(item, error.message), error.retryable))
    except StorageError as error:
        return ItemPlan(item, None, failure=Failure("storage_failed", _named(item, str(error)), True))
    except Exception as error:
        logging.getLogger(__name__).exception("Segmenting %s failed", public_uri(item.uri))
        message = f"{type(error).__name__}: {error}"
        return ItemPlan(item, None, failure=Failure("internal_error", _named(item, message), True))


def check_damage(name: str, analysis: MediaAnalysis, limits: MediaLimits) -> None:
    """Reject an item if too much of it is missing or concealed.

    Raises:
        MediaError: code "media_corrupt".
    """
    if analysis.damaged_share > limits.max_damaged_share:
        found = "; ".join(warning.message for warning in analysis.warnings)
        message = (
            f"{name}: {analysis.damaged_share:.0%} is damaged, more than the limit of {limits.max_damaged_share:.0%}"
        )
        raise MediaError("media_corrupt", f"{message} ({found}); copy the file again, or raise the limit")


def check_range(name: str, media_type: MediaType, duration_us: int, segmentation: SegmentationSettings) -> None:
    """Reject an item of which nothing, or less than half a second, is in the time range to segment.

    Raises:
        MediaError: code "outside_range".
    """
    span = segmentation.range_of(duration_us)
    if media_type != "image" and segmentation.start_s > 0 and span.duration_us < MIN_LENGTH_US:
        message = (
            f"lasts {seconds_from_us(duration_us):g} s, but the range to segment starts at {segmentation.start_s:g} s"
        )
        raise MediaError("outside_range", f"{name}: {message}; start earlier, or leave out the item")


def plan_tasks(
    video_id: str, key: str, analysis: MediaAnalysis, settings: RunSettings, content_hash: str | None = None
) -> list[SegmentTask]:
    """Return the segments of an analysed item, numbered from 0. Their ids derive from the item and the settings."""
    segmentation = settings.segmentation
    media_type = analysis.info.media_type
    planned = plan_segments(media_type, analysis.duration_us, analysis.transitions, analysis.activity, segmentation)
    return tasks_of(video_id, key, analysis, settings, planned, content_hash)


def tasks_of(
    video_id: str,
    key: str,
    analysis: MediaAnalysis,
    settings: RunSettings,
    planned: Sequence[PlannedSegment],
    content_hash: str | None,
) -> list[SegmentTask]:
    """Return the tasks of planned segments, in order."""
    media_type = analysis.info.media_type
    identity = settings.segmentation.identity(media_type)

    def task(number: int, segment: PlannedSegment) -> SegmentTask:
        span = segment.span
        segment_id = segment_id_of(video_id, identity, span.start_us, span.end_us)
        # With "files" the service receives the complete item for every segment.
        frames = analysis.frames if settings.model.media_input == "files" else frames_of_span(analysis.frames, span)
        pictures = None if content_hash is None else pictures_key(content_hash, settings.sampling, frames)
        return SegmentTask(video_id, segment_id, number, media_type, key, segment, pictures)

    return [task(number, segment) for number, segment in enumerate(planned)]


@functools.lru_cache(maxsize=8)
def read_analysis(storage: Storage, key: str) -> tuple[MediaAnalysis, Path]:
    """Load a stored analysis; return it with its local folder, whose other files may exist only on the object store."""
    path = storage.local_file(f"{analysis_folder(key)}/{ANALYSIS_FILE}")
    return load_analysis(path.read_bytes()), path.parent


def _cached_analysis(storage: Storage, key: str) -> MediaAnalysis | None:
    try:
        return load_analysis(storage.read_bytes(f"{analysis_folder(key)}/{ANALYSIS_FILE}"))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _analyze(item: MediaItem, storage: Storage, key: str, settings: RunSettings, stop: StopSignal) -> MediaAnalysis:
    with local_media(item.uri) as path, storage.work_folder() as work:
        if is_remote(item.uri) and hash_file(path) != item.content_hash:
            message = f"{public_uri(item.uri)}: changed while the run read it; retry it once the file is complete"
            raise MediaError("media_not_found", message, retryable=True)
        folder = work / "analysis"
        folder.mkdir()
        info = probe_media(path, settings.limits)
        analysis = analyze_media(info, folder, settings.sampling, settings.limits, stop.is_set)
        storage.commit_folder(folder, analysis_folder(key), ANALYSIS_FILE)
        return analysis


def _named(item: MediaItem, message: str) -> str:
    """Return the message, with the item's name if it lacks it."""
    return message if item.name in message else f"{item.name}: {message}"
