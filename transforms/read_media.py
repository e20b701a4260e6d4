"""ReadMedia: from the target's files to distinct media items."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apache_beam as beam
import fsspec

from schemas.errors import MediaError
from schemas.ids import hash_file, video_id_of_content, video_id_of_unread
from tables.request import TargetItem
from transforms.elements import Failure, MediaItem, SourceFile


class ReadMedia(beam.PTransform):
    """`TargetItem`s to `MediaItem`s; files that hold the same bytes become one item."""

    def expand(self, pcoll: beam.PCollection) -> beam.PCollection:
        return (
            pcoll
            | "Fingerprint" >> beam.Map(fingerprint)
            | "Key by item" >> beam.WithKeys(lambda source: source.video_id).with_output_types(tuple[str, SourceFile])
            | "Group files" >> beam.GroupByKey()
            | "Merge files" >> beam.MapTuple(lambda _, sources: merge_sources(sources))
        )


def fingerprint(target: TargetItem) -> SourceFile:
    """Reads a file once to learn what it is; one that cannot be read keeps its failure."""
    try:
        with local_media(target.uri) as path:
            if path.stat().st_size == 0:
                message = f"{target.uri}: the file is empty; copy it again from its source"
                raise MediaError("media_empty", message)
            content_hash = hash_file(path)
    except MediaError as error:
        failure = Failure(error.code, error.message, error.retryable)
        video_id = target.video_id or video_id_of_unread(target.uri)
        return SourceFile(target.uri, target.name, video_id, None, failure)
    return SourceFile(target.uri, target.name, target.video_id or video_id_of_content(content_hash), content_hash)


def merge_sources(sources: Iterable[SourceFile]) -> MediaItem:
    """The item behind files with the same bytes; the first by URI gives its name."""
    first, *others = sorted(sources, key=lambda source: source.uri)
    other_uris = tuple(source.uri for source in others)
    return MediaItem(first.video_id, first.name, first.uri, other_uris, first.content_hash, first.failure)


@contextmanager
def local_media(uri: str) -> Iterator[Path]:
    """A local path of a media file; what lies elsewhere is fetched for the time of the block.

    Raises:
        MediaError: `media_not_found` where it is missing, no regular file, or may not be read.
    """
    if "://" not in uri:
        yield _readable(Path(uri))
        return
    if uri.startswith("file://"):
        yield _readable(Path(uri.removeprefix("file://")))
        return
    with tempfile.TemporaryDirectory(prefix="promptreel-media-") as folder:
        path = Path(folder) / "media"
        try:
            files, name = fsspec.core.url_to_fs(uri)
            files.get_file(name, str(path))
        except (OSError, ImportError, ValueError) as error:
            raise MediaError("media_not_found", f"{uri}: cannot be fetched ({error})", retryable=True) from error
        yield path


def _readable(path: Path) -> Path:
    if not path.exists():
        raise MediaError("media_not_found", f"{path}: does not exist; check the path")
    if not path.is_file():
        raise MediaError("media_not_found", f"{path}: is no regular file; name a file or a folder of files")
    return path
