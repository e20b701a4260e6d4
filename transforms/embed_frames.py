"""EmbedFrames: image embeddings of selected frames of each item's segments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np

from promptreel.media.analysis import frames_of_span
from promptreel.providers.clip import BATCH, ClipEmbedder, find_weights
from promptreel.providers.pictures import choose_frames, find_repeats, summarize_picture
from promptreel.providers.text_embedding import pack_vectors
from promptreel.schemas.ids import digest
from promptreel.schemas.media import SampledFrame
from promptreel.tables.layout import analysis_folder
from promptreel.tables.operation_cache import OperationCache
from promptreel.tables.progress import ProgressBoard
from promptreel.tables.stop_signal import StopSignal
from promptreel.tables.storage import Storage
from promptreel.transforms.context import RunContext
from promptreel.transforms.elements import ItemPlan, OutcomeBatch
from promptreel.transforms.item_dofn import ItemDoFn
from promptreel.transforms.local_operation import run_local_operation
from promptreel.transforms.not_run import NotRun
from promptreel.transforms.segment_media import read_analysis

VERSION = 1  # part of every key: increment it when frame selection or embedding changes


class EmbedFrames(beam.PTransform):
    """Map each `ItemPlan` to an `OutcomeBatch`."""

    def __init__(self, context: RunContext) -> None:
        super().__init__()
        self._context = context

    def expand(self, pcoll: beam.PCollection) -> beam.PCollection:
        return pcoll | "Embed" >> beam.ParDo(_EmbedFramesFn(self._context)).with_output_types(OutcomeBatch)


class _EmbedFramesFn(ItemDoFn):
    def process(self, plan: ItemPlan) -> Iterator[OutcomeBatch]:
        batch = embed_frames(plan, self._context, self._storage, self._stop, self._progress)
        self._log.add_batch("image_embedding", batch)
        yield batch


@dataclass(frozen=True, slots=True)
class SelectedFrame:
    """A frame selected to represent a segment. `same_as` is the index of the earlier frame that it repeats, or None."""

    segment_id: str
    frame: SampledFrame
    same_as: int | None


def embed_frames(
    plan: ItemPlan, context: RunContext, storage: Storage, stop: StopSignal, progress: ProgressBoard
) -> OutcomeBatch:
    """Embed the selected frames of one item.

    Without frames or model weights the item gets no outcome, only a warning.
    """
    settings = context.request.settings.image_embedding
    key = plan.analysis_key
    if key is None or not settings.enabled or not plan.tasks:
        return OutcomeBatch(plan.item.video_id)
    if not read_analysis(storage, key)[0].frames:
        return OutcomeBatch(plan.item.video_id, warnings=(NotRun("image_embedding", lacks="pictures"),))
    weights = find_weights(settings.model)
    if not weights.available:
        warning = NotRun("image_embedding", f"{weights.reason}; {weights.fix}")
        return OutcomeBatch(plan.item.video_id, warnings=(warning,))
    embedder = ClipEmbedder(settings.model)

    def embed() -> dict[str, Any] | None:
        selected = select_frames(plan, storage, settings.frames_per_segment)
        new = [part for part in selected if part.same_as is None]
        vectors = []
        for first in range(0, len(new), BATCH):
            if stop.is_set():
                return None
            files = [storage.local_file(f"{analysis_folder(key)}/{p.frame.file}") for p in new[first : first + BATCH]]
            vectors.append(embedder.embed_images(files))
        packed = pack_vectors(np.concatenate(vectors) if vectors else np.zeros((0, embedder.dimension), np.float32))
        frames = [[part.segment_id, part.frame.time_us, part.frame.file, part.same_as] for part in selected]
        return {"model": embedder.name, "frames": frames, "vectors": packed}

    operation_key = context.scoped(
        digest(
            {
                "operation": "image_embedding",
                "version": VERSION,
                "item": key,
                "segments": [[task.planned.span.start_us, task.planned.span.end_us] for task in plan.tasks],
                "ids": [task.segment_id for task in plan.tasks],
                "frames_per_segment": settings.frames_per_segment,
                "model": embedder.fingerprint(),
            }
        )
    )
    return run_local_operation(
        plan, "image_embedding", operation_key, embed, context, OperationCache(storage), progress
    )


def select_frames(plan: ItemPlan, storage: Storage, count: int) -> list[SelectedFrame]:
    """Select up to `count` frames of each segment, in order, and mark those that repeat an earlier frame."""
    assert plan.analysis_key is not None
    analysis, _ = read_analysis(storage, plan.analysis_key)
    folder = analysis_folder(plan.analysis_key)
    found: list[tuple[str, SampledFrame]] = []
    summaries = {}
    for task in plan.tasks:
        frames = frames_of_span(analysis.frames, task.planned.span)
        for frame in frames:
            if frame.file not in summaries:
                summaries[frame.file] = summarize_picture(storage.local_file(f"{folder}/{frame.file}"))
        selected = choose_frames(frames, [summaries[frame.file] for frame in frames], task.planned.span, count)
        found += [(task.segment_id, frame) for frame in selected]
    repeats = find_repeats([summaries[frame.file] for _, frame in found])
    return [
        SelectedFrame(segment_id, frame, number) for (segment_id, frame), number in zip(found, repeats, strict=True)
    ]
