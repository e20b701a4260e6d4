"""The fields shared by search hits and filter hits."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from promptreel.schemas.wire.common import Marker
from promptreel.schemas.wire.prompt_runs import MediaUris


class HitBody(MediaUris):
    """A segment or a media item, and its result in a run.

    Attributes:
        preview_segment_id: a segment of the media item to preview, with its times; null for a segment hit.
        matched_field_paths: fields that matched.
    """

    result_type: str
    result_id: str
    video_id: str
    video_uri: str | None = None
    video_name: str | None = None
    segment_id: str | None = None
    start_time: float | None = None
    end_time: float | None = None
    preview_segment_id: str | None = None
    preview_start_time: float | None = None
    preview_end_time: float | None = None
    preview_segment_uri: str | None = None
    preview_thumbnail_uri: str | None = None
    preview_gif_uri: str | None = None
    text_content: str
    content_preview: str
    metadata_text: str
    similarity_score: float | None = None
    reranked_score: float | None = None
    thumbnail_data: str | None = None
    gif_data: str | None = None
    media_type: str | None = None
    metadata: dict[str, Any]
    extracted_metadata: dict[str, Any]
    matched_field_paths: list[str]
    run_id: str
    source_run_id: str
    prompt_run_id: str
    prompt_id: str
    raw_llm_response: str | None = None
    source_index_id: str | None = None
    marker: Marker = Marker()
    extracted_metadata_markers: dict[str, Marker] = Field(default_factory=dict)
