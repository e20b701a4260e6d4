"""One page of one item of a run: the whole timeline, and some of its segments with what was found in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from promptreel.api.runs.results import SegmentView, segment_views
from promptreel.api.runs.run_tables import RunTables
from promptreel.api.runs.thumbnails import Thumbnails, frames_of_segments
from promptreel.api.site.item_outline import ItemOutline, item_outline
from promptreel.api.site.links import item_path
from promptreel.api.web.errors import ApiError, not_found
from promptreel.pages.answers import html_bytes
from promptreel.pages.item_timeline import LinkedBlock
from promptreel.pages.items import ShownSynthesis, shown_synthesis
from promptreel.pages.run_tables import without_run_warnings
from promptreel.pages.segments import (
    MAX_TRANSCRIPT_CHARS,
    SegmentCard,
    ShownFailure,
    segment_card,
    shown_failures,
    shown_notes,
)
from promptreel.pages.timeline import lane_count

SEGMENTS_PER_PAGE: Final = 25
_MAX_WORDS: Final = 2_000  # of a page; words are large as HTML, because each can be highlighted
_MAX_SEGMENT_BYTES: Final = 320_000  # of a page; with timeline, film strip and synthesis it stays below 500 kB
_MARKUP_BYTES: Final = 70  # around one text
_PARTS_OF_SEGMENT: Final = 20
_AFTER_ALL_US: Final = 2**62  # later than every segment
_LEFT_OUT: Final = "left out here, because the page would be too large; the API and SQL have all of it"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ItemQuery:
    """Which part of an item is shown; `number` is that of the page, from 1."""

    run_id: str
    video_id: str
    number: int = 1

    @property
    def path(self) -> str:
        return item_path(self.run_id, self.video_id)

    def url(self, **changes: Any) -> str:
        """Return the URL of another page of the item."""
        number = changes.get("number", self.number)
        return self.path + (f"?page={number}" if number != 1 else "")

    def segment_url(self, position: int, segment_id: str) -> str:
        """Return the URL of a segment, whose number in the item is `position`, from 1."""
        page = (position - 1) // SEGMENTS_PER_PAGE + 1
        anchor = f"#s-{quote(segment_id, safe='')}"
        return anchor if page == self.number else self.url(number=page) + anchor


@dataclass(frozen=True, slots=True)
class ShownWord:
    """A spoken word, with its times in seconds of the item."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class ShownSegment:
    """A segment on the page of its item.

    Attributes:
        number: in the item, from 1.
        words: empty if the transcript is shown as one text.
    """

    number: int
    segment_id: str
    card: SegmentCard
    thumbnail: str | None
    words: tuple[ShownWord, ...]


@dataclass(frozen=True, slots=True)
class ShownItem:
    """An item of a run, and one page of its segments.

    Attributes:
        timeline: blocks of all segments.
        lanes: lanes of the timeline.
    """

    query: ItemQuery
    name: str
    media_type: str | None
    status: str
    duration_us: int | None
    size: str | None
    segment_count: int
    failed_segments: int
    warnings: tuple[str, ...]
    failures: tuple[ShownFailure, ...]
    synthesis: ShownSynthesis | None
    timeline: tuple[LinkedBlock, ...]
    lanes: int
    segments: tuple[ShownSegment, ...]
    pages: int


def shown_item(tables: RunTables, query: ItemQuery, thumbnails: Thumbnails, segment_id: str | None = None) -> ShownItem:
    """Read one page of an item.

    Args:
        segment_id: show the page that contains this segment.

    Raises:
        ApiError: 404 if the tables do not have the item or the segment.
        RunDamaged, StateExpired: the tables cannot be read.
    """
    media = next(tables.rows("media", query.video_id), None)
    if media is None:
        raise not_found("video", query.video_id)
    is_image = media["media_type"] == "image"
    outline = item_outline(tables, query.video_id, media["duration_us"] or 0, is_image)
    count = outline.segments.num_rows
    if segment_id is not None:
        query = ItemQuery(query.run_id, query.video_id, _page_of(outline, segment_id))
    offset = (query.number - 1) * SEGMENTS_PER_PAGE
    shown = outline.slice(offset, SEGMENTS_PER_PAGE)
    if not shown and query.number > 1:
        raise ApiError(404, "resource_page_not_found", f"The item has {_pages(count)} pages, not {query.number}.")
    synthesis = next(tables.rows("video_results", query.video_id), None)
    untimed = tables.rows("failures", query.video_id, _AFTER_ALL_US)  # reads no segments of a video, which have times
    failures = [row for row in untimed if row["segment_id"] is None]
    [media] = without_run_warnings(tables.manifest, [media])
    return ShownItem(
        query=query,
        name=media["name"],
        media_type=media["media_type"],
        status=media["status"],
        duration_us=media["duration_us"],
        size=f"{media['width']} × {media['height']}" if media["width"] and media["height"] else None,
        segment_count=count,
        failed_segments=media["failed_segments"],
        warnings=shown_notes(media["warnings"]),
        failures=shown_failures(failures),
        synthesis=None if synthesis is None else shown_synthesis(synthesis),
        timeline=outline.timeline,
        lanes=lane_count(block.lane for block in outline.timeline),
        segments=tuple(_segments(tables, query, shown, offset, thumbnails)),
        pages=_pages(count),
    )


def _pages(segments: int) -> int:
    return max(1, -(-segments // SEGMENTS_PER_PAGE))


def _page_of(outline: ItemOutline, segment_id: str) -> int:
    position = outline.position_of(segment_id)
    if position is None:
        raise not_found("segment", segment_id)
    return position // SEGMENTS_PER_PAGE + 1


def _segments(
    tables: RunTables, query: ItemQuery, shown: Sequence[Row], offset: int, thumbnails: Thumbnails
) -> list[ShownSegment]:
    if not shown:
        return []
    wanted = {row["segment_id"] for row in shown}
    span = (shown[0]["start_us"], shown[-1]["start_us"])
    rows = [row for row in tables.rows("segments", query.video_id, *span) if row["segment_id"] in wanted]
    rows = without_run_warnings(tables.manifest, rows)
    frames = frames_of_segments(tables, query.video_id, rows)
    found, words_left, bytes_left = [], _MAX_WORDS, _MAX_SEGMENT_BYTES
    for number, view in enumerate(segment_views(tables, query.video_id, rows, frames), offset + 1):
        words, card = _words(view.transcript), _card(view)
        words = words if len(words) <= words_left else ()
        words_left -= len(words)
        bytes_left -= _html_bytes(card, words)
        if bytes_left < 0:
            words, card = (
                (),
                dataclasses.replace(card, answer=None, transcript=None, evidence=(), failures=(), notes=(_LEFT_OUT,)),
            )
        uri = thumbnails.fields(query.run_id, query.video_id, view.frame)["thumbnail_uri"]
        found.append(ShownSegment(number, view.segment["segment_id"], card, uri, words))
    return found


def _html_bytes(card: SegmentCard, words: Sequence[ShownWord]) -> int:
    """Return the approximate size of a segment on the page."""
    texts = [card.label or "", card.transcript or "", *card.notes, *(failure.message for failure in card.failures)]
    fields = card.answer.fields if card.answer is not None else ()
    texts += [text for field in fields for text in (field.path, field.text)]
    texts += [text for evidence in card.evidence for text in (evidence.field, evidence.quote or "")]
    texts += [word.text for word in words]
    return sum(map(html_bytes, texts)) + _MARKUP_BYTES * (len(texts) + _PARTS_OF_SEGMENT)


def _card(view: SegmentView) -> SegmentCard:
    transcript = view.transcript
    if transcript is not None:
        transcript = {**transcript, "text": transcript["text"][: MAX_TRANSCRIPT_CHARS + 1]}
    failures = list(view.failures.values())
    return segment_card(view.segment, view.result, transcript, failures, view.evidence, None)


def _words(transcript: Mapping[str, Any] | None) -> tuple[ShownWord, ...]:
    words = transcript["words"] if transcript is not None else ()
    return tuple(ShownWord(word["start_us"] / 1e6, word["end_us"] / 1e6, word["text"].strip()) for word in words)
