"""Search by text, by image, by both, and across runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from promptreel.schemas.wire.common import NullIsAbsent, StorableText, WireModel
from promptreel.schemas.wire.hits import HitBody

_WEIGHT_TOLERANCE = 0.01


def _check_not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


Query = Annotated[StorableText, StringConstraints(min_length=1, max_length=5000), AfterValidator(_check_not_blank)]
Ids = Annotated[list[Annotated[StorableText, StringConstraints(min_length=1, max_length=255)]], Field(max_length=200)]
FieldNames = Annotated[
    list[Annotated[StorableText, StringConstraints(min_length=1, max_length=1000)]], Field(max_length=200)
]
TopK = Annotated[int, Field(ge=1, le=100)]
Weight = Annotated[float, Field(ge=0, le=1)]


class _ScopedBody(NullIsAbsent):
    """The scope of a search.

    Attributes:
        run_ids: runs to search; default: all finished runs.
        index_ids: indexes to search instead of the one in the path.
    """

    run_ids: Ids | None = None
    index_ids: Ids | None = None


class TextSearch(_ScopedBody):
    """A semantic and keyword search.

    Attributes:
        search_fields: field paths to search; default: all.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "a crane lifts a box", "top_k": 10}]})

    query: Query
    top_k: TopK = 30
    search_fields: FieldNames | None = None


class ImageSearch(_ScopedBody):
    """A search for frames that are similar to a picture.

    Attributes:
        image_data: a JPEG, PNG or WebP image, encoded as base64.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"image_data": "iVBORw0KGgo=", "top_k": 10}]})

    image_data: str = Field(min_length=1)
    top_k: TopK = 20


class MultimodalSearch(_ScopedBody):
    """A search by text, by picture, or by both; the weights must add up to 1."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text_query": "a crane lifts a box", "top_k": 10}]})

    text_query: Query | None = None
    image_data: Annotated[str, Field(min_length=1)] | None = None
    text_weight: Weight = 0.5
    image_weight: Weight = 0.5
    top_k: TopK = 20
    search_fields: FieldNames | None = None

    @model_validator(mode="after")
    def _check_query(self) -> MultimodalSearch:
        if self.text_query is None and self.image_data is None:
            raise ValueError("text_query or image_data is required")
        total = self.text_weight + self.image_weight
        if abs(total - 1) > _WEIGHT_TOLERANCE + 1e-9:
            raise ValueError(f"text_weight and image_weight add up to {total:g}; they must add up to 1")
        return self


class MultiRunSearch(NullIsAbsent):
    """A search across several runs, or all runs of an index.

    Attributes:
        aggregation: `best` returns the best hit of each segment, `all` returns every hit, `weighted` prefers newer runs.
        top_k: maximum number of hits per run.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "a crane lifts a box", "run_ids": ["run_1"]}]})

    query: Query
    run_ids: Ids | None = None
    index_id: StorableText | None = None
    aggregation: Literal["best", "all", "weighted"] = "best"
    top_k: Annotated[int, Field(ge=1, le=50)] = 5

    @model_validator(mode="after")
    def _check_scope(self) -> MultiRunSearch:
        if not self.run_ids and self.index_id is None:
            raise ValueError("run_ids or index_id is required")
        return self


class PlaygroundSearch(NullIsAbsent):
    """A search of the media that are in no index."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "a crane lifts a box", "top_k": 10}]})

    query: Query
    top_k: TopK = 30


class MatchedField(WireModel):
    """A matching value, such as `people[1].name` of the field `people[].name`, with its score from 0 to 1."""

    field_path: str
    field_display_label: str | None = None
    field_instance_key: str
    field_instance_path: str
    field_instance_display_label: str | None = None
    score: float
    value_preview: str


class SearchResultBody(HitBody):
    """A search hit: a segment or a media item.

    Attributes:
        result_type: segment or video; a video has no segment_id and no times, and its `preview_*` fields describe one of
            its segments.
        similarity_score: vector similarity, 0 to 1; null for a keyword match without a vector.
        reranked_score: sort key of text search hits.
    """

    transcript: str | None = None
    field_scores: dict[str, float]
    field_instance_scores: dict[str, float]
    matched_field_instances: list[MatchedField]


class ImageResultBody(SearchResultBody):
    """An image search hit: a segment, and the time of its matching frame."""

    matched_image_uri: str | None = None
    matched_image_gcs_uri: str | None = None
    matched_image_timestamp: float | None = None
    matched_image_score: float | None = None
    shot_timestamp: float | None = None


class MultimodalResultBody(ImageResultBody):
    """A multimodal search hit: a segment found by text, by picture, or by both.

    Attributes:
        match_type: both, text_only or image_only.
        text_rank, image_rank: rank in the text and image results, from 1; null if not found there.
    """

    fused_score: float
    text_score: float | None = None
    image_score: float | None = None
    text_rank: int | None = None
    image_rank: int | None = None
    match_type: str
