"""EmbedFrames: image embeddings of the chosen frames of each item's segments."""

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
from promptreel.transforms.segment_media import read_analysis

VERSION = 1  # part of every key: raise it when the same frames would be chosen or embedded differently


class EmbedFrames(beam.PTransform):
    """`ItemPlan`s to an `OutcomeBatch` for every one of them."""

    def __init__(self, context: RunContext) -> None:
        super().__init__()
        self._context = context

    def expand(self, pcoll: beam.PCollection) -> beam.PCollection:
        return pcoll | "Embed" >> beam.ParDo(_EmbedFramesFn(self._context)).with_output_types(OutcomeBatch)


class _EmbedFramesFn(ItemDoFn):
    def process(self, plan: ItemPlan) -> Iterator[OutcomeBatch]:
        yield embed_frames(plan, self._context, self._storage, self._stop, self._progress)


@dataclass(frozen=True, slots=True)
class ChosenFrame:
    """A frame that stands for a segment. `same_as` is the number of the earlier one that it repeats; None for a new one."""

    segment_id: str
    frame: SampledFrame
    same_as: int | None


def embed_frames(
    plan: ItemPlan, context: RunContext, storage: Storage, stop: StopSignal, progress: ProgressBoard
) -> OutcomeBatch:
    """Runs one item's image embedding to its outcome. It applies to items with pictures; without weights there is none,
    but a warning."""
    settings = context.request.settings.image_embedding
    key = plan.analysis_key
    if key is None or not settings.enabled or not plan.tasks or not read_analysis(storage, key)[0].frames:
        return OutcomeBatch(plan.item.video_id)
    weights = find_weights(settings.model)
    if not weights.available:
        warning = f"no image_embedding: {weights.reason}; {weights.fix}"
        return OutcomeBatch(plan.item.video_id, warnings=(warning,))
    embedder = ClipEmbedder(settings.model)

    def make() -> dict[str, Any] | None:
        chosen = chosen_frames(plan, storage, settings.frames_per_segment)
        new = [part for part in chosen if part.same_as is None]
        vectors = []
        for first in range(0, len(new), BATCH):
            if stop.is_set():
                return None
            files = [storage.local_file(f"{analysis_folder(key)}/{p.frame.file}") for p in new[first : first + BATCH]]
            vectors.append(embedder.embed_images(files))
        packed = pack_vectors(np.concatenate(vectors) if vectors else np.zeros((0, embedder.dimension), np.float32))
        frames = [[part.segment_id, part.frame.time_us, part.frame.file, part.same_as] for part in chosen]
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
    return run_local_operation(plan, "image_embedding", operation_key, make, context, OperationCache(storage), progress)


def chosen_frames(plan: ItemPlan, storage: Storage, count: int) -> list[ChosenFrame]:
    """The frames that stand for an item's segments, in order, each with the earlier one that it repeats."""
    assert plan.analysis_key is not None
    analysis, _ = read_analysis(storage, plan.analysis_key)
    folder = analysis_folder(plan.analysis_key)
    found: list[tuple[str, SampledFrame]] = []
    looks = {}
    for task in plan.tasks:
        frames = frames_of_span(analysis.frames, task.planned.span)
        for frame in frames:
            if frame.file not in looks:
                looks[frame.file] = summarize_picture(storage.local_file(f"{folder}/{frame.file}"))
        chosen = choose_frames(frames, [looks[frame.file] for frame in frames], task.planned.span, count)
        found += [(task.segment_id, frame) for frame in chosen]
    same = find_repeats([looks[frame.file] for _, frame in found])
    return [ChosenFrame(segment_id, frame, number) for (segment_id, frame), number in zip(found, same, strict=True)]
