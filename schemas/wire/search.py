"""Search by text, by image, by both, and over several runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from promptreel.schemas.wire.common import NullIsAbsent, StorableText, WireModel
from promptreel.schemas.wire.hits import HitBody

_WEIGHT_SLACK = 0.01


def _is_not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


Query = Annotated[StorableText, StringConstraints(min_length=1, max_length=5000), AfterValidator(_is_not_blank)]
Ids = Annotated[list[Annotated[StorableText, StringConstraints(min_length=1, max_length=255)]], Field(max_length=200)]
FieldNames = Annotated[
    list[Annotated[StorableText, StringConstraints(min_length=1, max_length=1000)]], Field(max_length=200)
]
TopK = Annotated[int, Field(ge=1, le=100)]
Weight = Annotated[float, Field(ge=0, le=1)]


class _ScopedBody(NullIsAbsent):
    """Where is searched.

    Attributes:
        run_ids: runs whose results are searched; without it all finished ones.
        index_ids: indexes that are searched instead of the one in the path.
    """

    run_ids: Ids | None = None
    index_ids: Ids | None = None


class TextSearch(_ScopedBody):
    """A search by meaning and words.

    Attributes:
        search_fields: field paths that are looked at; all without it.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "a crane lifts a box", "top_k": 10}]})

    query: Query
    top_k: TopK = 30
    search_fields: FieldNames | None = None


class ImageSearch(_ScopedBody):
    """A search for frames that resemble a picture.

    Attributes:
        image_data: a JPEG, PNG or WebP as base64.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"image_data": "iVBORw0KGgo=", "top_k": 10}]})

    image_data: str = Field(min_length=1)
    top_k: TopK = 20


class MultimodalSearch(_ScopedBody):
    """A search by text, by a picture, or by both, whose weights add up to 1."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text_query": "a crane lifts a box", "top_k": 10}]})

    text_query: Query | None = None
    image_data: Annotated[str, Field(min_length=1)] | None = None
    text_weight: Weight = 0.5
    image_weight: Weight = 0.5
    top_k: TopK = 20
    search_fields: FieldNames | None = None

    @model_validator(mode="after")
    def _has_query(self) -> MultimodalSearch:
        if self.text_query is None and self.image_data is None:
            raise ValueError("text_query or image_data is required")
        total = self.text_weight + self.image_weight
        if abs(total - 1) > _WEIGHT_SLACK + 1e-9:
            raise ValueError(f"text_weight and image_weight must add up to 1, not {total:g}")
        return self


class MultiRunSearch(NullIsAbsent):
    """A search over several runs, or over all of an index.

    Attributes:
        aggregation: `best` keeps the best hit of each segment, `all` every one, `weighted` lets newer runs weigh more.
        top_k: hits of each run.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "a crane lifts a box", "run_ids": ["run_1"]}]})

    query: Query
    run_ids: Ids | None = None
    index_id: StorableText | None = None
    aggregation: Literal["best", "all", "weighted"] = "best"
    top_k: Annotated[int, Field(ge=1, le=50)] = 5

    @model_validator(mode="after")
    def _names_runs(self) -> MultiRunSearch:
        if not self.run_ids and self.index_id is None:
            raise ValueError("run_ids or index_id is required")
        return self


class PlaygroundSearch(NullIsAbsent):
    """A search over the media that lies in no index."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "a crane lifts a box", "top_k": 10}]})

    query: Query
    top_k: TopK = 30


class MatchedField(WireModel):
    """One value that matched: `people[1].name` of the field `people[].name`; scores are from 0 to 1."""

    field_path: str
    field_display_label: str | None = None
    field_instance_key: str
    field_instance_path: str
    field_instance_display_label: str | None = None
    score: float
    value_preview: str


class SearchResultBody(HitBody):
    """A segment, or a media item as a whole, that was found.

    Attributes:
        result_type: segment or video; a video's segment_id and times are null, and `preview_*` show one of its segments.
        similarity_score: 0 to 1; null where no vector tells.
        reranked_score: what the hits of a text search are ordered by.
    """

    transcript: str | None = None
    field_scores: dict[str, float]
    field_instance_scores: dict[str, float]
    matched_field_instances: list[MatchedField]


class ImageResultBody(SearchResultBody):
    """A segment that was found by a picture, and the time of the frame that matched."""

    matched_image_uri: str | None = None
    matched_image_gcs_uri: str | None = None
    matched_image_timestamp: float | None = None
    matched_image_score: float | None = None
    shot_timestamp: float | None = None


class MultimodalResultBody(ImageResultBody):
    """A segment that was found by text, picture, or both.

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
