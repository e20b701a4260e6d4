"""ReadMedia: fingerprint the target's files and merge copies into distinct media items."""

from __future__ import annotations

from collections.abc import Iterable

import apache_beam as beam

from promptreel.media.source import local_media
from promptreel.schemas.errors import MediaError
from promptreel.schemas.ids import hash_file, video_id_of_content, video_id_of_unread
from promptreel.schemas.uris import public_uri
from promptreel.tables.request import TargetItem
from promptreel.transforms.elements import Failure, MediaItem, SourceFile


class ReadMedia(beam.PTransform):
    """Map `TargetItem`s to `MediaItem`s; files with the same bytes become one item."""

    def expand(self, pcoll: beam.PCollection) -> beam.PCollection:
        return (
            pcoll
            | "Fingerprint" >> beam.Map(fingerprint)
            | "Key by item" >> beam.WithKeys(lambda source: source.video_id).with_output_types(tuple[str, SourceFile])
            | "Group files" >> beam.GroupByKey()
            | "Merge files" >> beam.MapTuple(lambda _, sources: merge_sources(sources))
        )


def fingerprint(target: TargetItem) -> SourceFile:
    """Hash a file's content. A file that cannot be read is returned with its failure."""
    try:
        with local_media(target.uri) as path:
            if path.stat().st_size == 0:
                message = f"{public_uri(target.uri)}: the file is empty; copy it from its source again"
                raise MediaError("media_empty", message)
            content_hash = hash_file(path)
    except MediaError as error:
        failure = Failure(error.code, error.message, error.retryable)
        video_id = target.video_id or video_id_of_unread(target.uri)
        return SourceFile(target.uri, target.name, video_id, None, failure, target.sample_segments)
    video_id = target.video_id or video_id_of_content(content_hash)
    return SourceFile(target.uri, target.name, video_id, content_hash, sample_segments=target.sample_segments)


def merge_sources(sources: Iterable[SourceFile]) -> MediaItem:
    """Merge files with the same bytes into one item, named after the first by URI. Their shares of a sample add up."""
    first, *others = sorted(sources, key=lambda source: source.uri)
    other_uris = tuple(source.uri for source in others)
    shares = [source.sample_segments for source in (first, *others) if source.sample_segments is not None]
    sample = sum(shares) if shares else None
    return MediaItem(first.video_id, first.name, first.uri, other_uris, first.content_hash, first.failure, sample)
