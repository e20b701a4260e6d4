"""Let the first of several near-duplicate segments answer for the others, if the user wants that."""

from __future__ import annotations

import itertools
from dataclasses import replace

from promptreel.media.analysis import ANALYSIS_FILE, TIMELINE_FILE, load_analysis
from promptreel.media.near_duplicates import Picture, find_near_duplicates, load_picture
from promptreel.media.timeline import load_timeline
from promptreel.providers.chosen_media import sends_sound
from promptreel.providers.registry import provider_of
from promptreel.schemas.errors import StorageError
from promptreel.schemas.media import SampledFrame
from promptreel.schemas.settings import ModelSettings, RunSettings
from promptreel.tables.layout import analysis_folder
from promptreel.tables.storage import Storage
from promptreel.transforms.context import RunContext
from promptreel.transforms.elements import Failure, ItemPlan, SegmentTask


def dedupes(settings: RunSettings) -> bool:
    """Return whether segments of a run may share calls. A model in this process makes none."""
    return settings.dedupe_segments and provider_of(settings).is_called


def deduped_plan(plan: ItemPlan, context: RunContext, storage: Storage) -> ItemPlan:
    """Return the plan with the near-duplicates among its segments marked; unchanged if the run does not dedupe.

    An item whose pictures cannot be read fails: without them, its calls would fail too.
    """
    if not dedupes(context.request.settings) or plan.analysis_key is None or len(plan.tasks) < 2:
        return plan
    try:
        tasks = _deduped_tasks(plan.tasks, plan.analysis_key, storage, context.request.settings.model)
        return replace(plan, tasks=tuple(tasks))
    except (StorageError, OSError) as error:
        return replace(plan, tasks=(), failure=Failure("storage_failed", f"{plan.item.name}: {error}", True))


def _deduped_tasks(
    tasks: tuple[SegmentTask, ...], key: str, storage: Storage, model: ModelSettings
) -> list[SegmentTask]:
    folder = analysis_folder(key)
    analysis = load_analysis(storage.local_file(f"{folder}/{ANALYSIS_FILE}").read_bytes())
    if analysis.info.media_type != "video":
        return list(tasks)
    timeline = load_timeline(storage.local_file(f"{folder}/{TIMELINE_FILE}"))

    def load(frame: SampledFrame) -> Picture:
        return load_picture(storage.local_file(f"{folder}/{frame.file}"))

    found: list[SegmentTask] = []
    # Segments that a model gave different labels differ, whatever they look like.
    for _, labelled in itertools.groupby(tasks, key=lambda task: task.planned.label):
        same_label = list(labelled)
        spans = [task.planned.span for task in same_label]
        with_sound = sends_sound(model, "video")
        repeats = find_near_duplicates(analysis, timeline, spans, load, with_sound=with_sound)
        found += _marked(same_label, repeats)
    return found


def _marked(tasks: list[SegmentTask], repeats: list[int]) -> list[SegmentTask]:
    """Mark the tasks.

    Args:
        repeats: for each task, the position of the one that answers for it, or its own.
    """
    marked = []
    for number, (task, first) in enumerate(zip(tasks, repeats, strict=True)):
        if first != number:
            marked.append(replace(task, answered_by=tasks[first].segment_id))
            continue
        others = (tasks[other].segment_id for other, at in enumerate(repeats) if at == number and other != number)
        marked.append(replace(task, duplicates=tuple(others)))
    return marked
