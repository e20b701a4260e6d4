"""Hits of searches as pages show them: a frame, where it is, and what matched."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from promptreel.api.site.links import item_path
from promptreel.pages.answers import shorten, shown_answer
from promptreel.schemas.mediatime import us_from_seconds

_MAX_MATCHES: Final = 4
_MAX_TEXT_CHARS: Final = 300
_INDEX: Final = re.compile(r"\[\d+\]")


@dataclass(frozen=True, slots=True)
class ShownMatch:
    """A field of a hit that matched, with its value."""

    field: str
    text: str


@dataclass(frozen=True, slots=True)
class ShownHit:
    """A segment, or a media item with its synthesis, that a search found.

    Attributes:
        path: of its page.
        start_us, end_us: of the segment; None for a media item.
        score: similarity from 0 to 1; None if the search does not rank by similarity.
        matches: best first; without any, `text` is the beginning of the answer.
    """

    path: str
    run_id: str
    name: str
    media_type: str | None
    start_us: int | None
    end_us: int | None
    thumbnail: str | None
    score: float | None
    matches: tuple[ShownMatch, ...]
    text: str


def shown_hit(hit: Mapping[str, Any]) -> ShownHit:
    """Return a hit of the API, of any kind of search, as a page shows it."""
    is_segment = hit["segment_id"] is not None
    segment_id = hit["segment_id"] if is_segment else hit["preview_segment_id"]
    return ShownHit(
        path=item_path(hit["run_id"], hit["video_id"], segment_id),
        run_id=hit["run_id"],
        name=hit["video_name"] or hit["video_id"],
        media_type=hit["media_type"],
        start_us=us_from_seconds(hit["start_time"]) if is_segment else None,
        end_us=us_from_seconds(hit["end_time"]) if is_segment else None,
        thumbnail=hit.get("matched_image_uri") or hit["thumbnail_uri"],
        score=hit["similarity_score"],
        matches=_matches(hit),
        text=shorten(hit["text_content"], _MAX_TEXT_CHARS),
    )


def _matches(hit: Mapping[str, Any]) -> tuple[ShownMatch, ...]:
    """Return the texts that matched, or the values of the fields that conditions name."""
    instances = hit["matched_field_instances"]
    if instances is not None:
        texts = [match for match in instances if match["field_path"] != "metadata_text"] or instances
        found = [ShownMatch(match["field_instance_path"], match["value_preview"]) for match in texts]
    else:
        named = {path.replace("[]", "") for path in hit["matched_field_paths"]}
        answer = shown_answer(json.dumps(hit["metadata"]))
        found = [ShownMatch(value.path, value.text) for value in answer.fields if _INDEX.sub("", value.path) in named]
    return tuple(ShownMatch(match.field, shorten(match.text, _MAX_TEXT_CHARS)) for match in found[:_MAX_MATCHES])
