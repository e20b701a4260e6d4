"""What searches answer with. Fields that a newer service adds are kept as they come."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from schemas.wire.common import Marker, WireModel
from schemas.wire.prompt_runs import MediaUris


class _Hit(WireModel):
    model_config = ConfigDict(extra="allow", protected_namespaces=())


class FieldInstance(_Hit):
    """One value that matched: `people[1].name` of the field `people[].name`."""

    field_path: str
    field_display_label: str | None = None
    field_instance_key: str | None = None
    field_instance_path: str | None = None
    field_instance_display_label: str | None = None
    score: float | None = None
    value_preview: str | None = None


class SearchHit(_Hit, MediaUris):
    """A segment, or a media item as a whole, that was found.

    Attributes:
        result_type: segment or video; a video's segment_id and times are null, and `preview_*` show one of its segments.
        similarity_score: 0 to 1; null for what was found by conditions.
    """

    result_type: str = "segment"
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
    text_content: str = ""
    content_preview: str = ""
    metadata_text: str | None = None
    similarity_score: float | None = None
    reranked_score: float | None = None
    thumbnail_data: str | None = None
    gif_data: str | None = None
    media_type: str | None = None
    metadata: dict[str, Any] | None = None
    extracted_metadata: dict[str, Any] | None = None
    field_scores: dict[str, float] | None = None
    field_instance_scores: dict[str, float] | None = None
    matched_field_paths: list[str] | None = None
    matched_field_instances: list[FieldInstance] | None = None
    run_id: str | None = None
    source_run_id: str | None = None
    prompt_run_id: str | None = None
    prompt_id: str | None = None
    raw_llm_response: str | None = None
    source_index_id: str | None = None
    marker: Marker = Marker()
    extracted_metadata_markers: dict[str, Marker] = Field(default_factory=dict)


class ImageHit(SearchHit):
    """A segment that was found by an image, and the frame that matched."""

    matched_image_uri: str | None = None
    matched_image_gcs_uri: str | None = None
    matched_image_timestamp: float | None = None
    matched_image_score: float | None = None
    shot_timestamp: float | None = None


class MultimodalHit(ImageHit):
    """A segment that was found by text, image, or both.

    Attributes:
        match_type: both, text_only or image_only.
        text_rank, image_rank: its places in the two rankings, from 1; null where it is in one only.
    """

    fused_score: float
    text_score: float | None = None
    image_score: float | None = None
    text_rank: int | None = None
    image_rank: int | None = None
    match_type: str


class SqlCatalog(_Hit):
    """The tables that SQL may name, with their columns, and the limits of a query."""

    tables: list[dict[str, Any]]
    limits: dict[str, Any] = Field(default_factory=dict)


class SqlRows(_Hit):
    """Rows of a query.

    Attributes:
        row_context: for each row the segment that it comes from; null where that cannot be told.
        truncated: whether there were more rows than `applied_result_limit`.
    """

    rows: list[dict[str, Any]]
    row_context: list[dict[str, Any] | None] = Field(default_factory=list)
    truncated: bool = False
    applied_result_limit: int | None = None


class SqlQuery(_Hit):
    """A query that was written from an instruction."""

    query: str
