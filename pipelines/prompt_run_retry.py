"""The pipeline of a retry: retry failures of a finished run and commit the next manifest.

It runs the pipeline of a run over the affected items only. Their other segments retain their outcomes from the newest
manifest; other items and shards retain their rows and files.
"""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam

from promptreel.tables.request import TargetItem
from promptreel.transforms.carry_over_outcomes import CarryOverOutcomes
from promptreel.transforms.commit_manifest import CommitManifest
from promptreel.transforms.context import RunContext
from promptreel.transforms.embed_frames import EmbedFrames
from promptreel.transforms.embed_texts import EmbedTexts
from promptreel.transforms.extract_fields import ExtractFields
from promptreel.transforms.mark_segments import MarkSegments
from promptreel.transforms.read_media import ReadMedia
from promptreel.transforms.segment_media import ITEMS, SegmentMedia
from promptreel.transforms.synthesize_media import SynthesizeMedia
from promptreel.transforms.transcribe import OUTCOMES, SEGMENTS, Transcribe
from promptreel.transforms.write_tables import WriteTables


class PromptRunRetry(beam.PTransform):
    """Process the items of `context.retry` and commit the next `Manifest`."""

    def __init__(self, context: RunContext, target: Sequence[TargetItem]) -> None:
        super().__init__()
        self._context = context
        self._target = list(target)

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection:
        context, scope = self._context, self._context.retry
        assert scope is not None
        media = pbegin | "Target" >> beam.Create(self._target) | "ReadMedia" >> ReadMedia()
        affected = media | "Concerned" >> beam.Filter(lambda item: item.video_id in scope.video_ids)
        segmented = affected | "SegmentMedia" >> SegmentMedia(context)
        if context.request.settings.segmentation.segments_by is not None:
            segmented = segmented[ITEMS] | "MarkSegments" >> MarkSegments(context)
        transcribed = segmented[ITEMS] | "Transcribe" >> Transcribe(context)
        frames = segmented[ITEMS] | "EmbedFrames" >> EmbedFrames(context)
        retried, others = transcribed[SEGMENTS] | "In scope" >> beam.Partition(
            lambda task, _: 0 if any(scope.contains(task.video_id, part) for part in task.answered_ids) else 1, 2
        )
        fields = retried | "ExtractFields" >> ExtractFields(context)
        unchanged = others | "CarryOverOutcomes" >> CarryOverOutcomes(context)
        outcomes = (fields, unchanged, transcribed[OUTCOMES], frames) | "All outcomes" >> beam.Flatten()
        items = {"items": segmented[ITEMS], "outcomes": outcomes} | "SynthesizeMedia" >> SynthesizeMedia(context)
        shards = items | "EmbedTexts" >> EmbedTexts(context) | "WriteTables" >> WriteTables(context)
        return shards | "CommitManifest" >> CommitManifest(context)
