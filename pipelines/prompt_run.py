"""The recipe of a prompt run: one prompt over one target, to committed tables.

ReadMedia ─> SegmentMedia ─> ExtractFields ─> SynthesizeMedia ─> WriteTables ─> CommitManifest
                  └──────────── items ────────────┘
"""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam

from tables.request import TargetItem
from transforms.commit_manifest import CommitManifest
from transforms.context import RunContext
from transforms.extract_fields import ExtractFields
from transforms.read_media import ReadMedia
from transforms.segment_media import ITEMS, SEGMENTS, SegmentMedia
from transforms.synthesize_media import SynthesizeMedia
from transforms.write_tables import WriteTables


class PromptRun(beam.PTransform):
    """The target's items to the committed `Manifest`."""

    def __init__(self, context: RunContext, target: Sequence[TargetItem]) -> None:
        super().__init__()
        self._context = context
        self._target = list(target)

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection:
        context = self._context
        media = pbegin | "Target" >> beam.Create(self._target) | "ReadMedia" >> ReadMedia()
        segmented = media | "SegmentMedia" >> SegmentMedia(context)
        segments = segmented[SEGMENTS] | "ExtractFields" >> ExtractFields(context)
        items = {"items": segmented[ITEMS], "segments": segments} | "SynthesizeMedia" >> SynthesizeMedia(context)
        shards = items | "WriteTables" >> WriteTables(context)
        return shards | "CommitManifest" >> CommitManifest(context)
