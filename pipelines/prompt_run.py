"""The pipeline of a prompt run: from one prompt and target to committed tables.

ReadMedia ─> SegmentMedia ─┬─> ExtractFields ─┐
                           ├─> Transcribe     ├─> SynthesizeMedia ─> EmbedTexts ─> WriteTables ─> CommitManifest
                           └─> EmbedFrames   ─┘
"""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam

from promptreel.providers.registry import provider_of
from promptreel.tables.request import TargetItem
from promptreel.transforms.commit_manifest import CommitManifest
from promptreel.transforms.context import RunContext
from promptreel.transforms.embed_frames import EmbedFrames
from promptreel.transforms.embed_texts import EmbedTexts
from promptreel.transforms.extract_fields import ExtractFields
from promptreel.transforms.mark_segments import MarkSegments
from promptreel.transforms.read_media import ReadMedia
from promptreel.transforms.segment_media import ITEMS, SEGMENTS, SegmentMedia
from promptreel.transforms.synthesize_media import SynthesizeMedia
from promptreel.transforms.transcribe import OUTCOMES, Transcribe
from promptreel.transforms.write_tables import WriteTables


class PromptRun(beam.PTransform):
    """Process the target's items and commit the `Manifest`."""

    def __init__(self, context: RunContext, target: Sequence[TargetItem]) -> None:
        super().__init__()
        self._context = context
        self._target = list(target)

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection:
        context = self._context
        media = pbegin | "Target" >> beam.Create(self._target) | "ReadMedia" >> ReadMedia()
        segmented = media | "SegmentMedia" >> SegmentMedia(context)
        if context.request.settings.segmentation.segments_by is not None:
            segmented = segmented[ITEMS] | "MarkSegments" >> MarkSegments(context)
        transcribed = segmented[ITEMS] | "Transcribe" >> Transcribe(context)
        frames = segmented[ITEMS] | "EmbedFrames" >> EmbedFrames(context)
        # Only a model that reads the transcript waits for it.
        ready = transcribed[SEGMENTS] if _reads_transcript(context) else segmented[SEGMENTS]
        fields = ready | "ExtractFields" >> ExtractFields(context)
        outcomes = (fields, transcribed[OUTCOMES], frames) | "All outcomes" >> beam.Flatten()
        items = {"items": segmented[ITEMS], "outcomes": outcomes} | "SynthesizeMedia" >> SynthesizeMedia(context)
        shards = items | "EmbedTexts" >> EmbedTexts(context) | "WriteTables" >> WriteTables(context)
        return shards | "CommitManifest" >> CommitManifest(context)


def _reads_transcript(context: RunContext) -> bool:
    return provider_of(context.request.settings).reads_transcript(context.request.prompt)
