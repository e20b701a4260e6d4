"""Hits in API format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from promptreel.api.db.models import RunRecord, Video
from promptreel.api.runs.thumbnails import Frame, Thumbnails
from promptreel.api.search.image import FrameMatch
from promptreel.api.search.ranking import BlockPosition, Searched
from promptreel.api.search.text import FieldMatch
from promptreel.api.uploads.media_rows import NO_MARKER
from promptreel.schemas.mediatime import seconds_from_us

Hit = dict[str, Any]

PREVIEW_CHARS: Final = 200
NO_MEDIA: Final[dict[str, Any]] = {
    **dict.fromkeys(("segment_uri", "gcs_uri", "thumbnail_uri", "thumbnail_gcs_uri", "thumbnail_data")),
    **dict.fromkeys(("gif_uri", "gif_gcs_uri", "gif_data")),
    "thumbnail_available": False,
    "gif_available": False,
}
NO_PREVIEW: Final[dict[str, Any]] = {
    f"preview_{name}": None
    for name in ("segment_id", "start_time", "end_time", "segment_uri", "thumbnail_uri", "gif_uri")
}


def segment_hit(
    searched: Searched,
    number: int,
    run: RunRecord,
    video: Video,
    similarity: float | None,
    thumbnails: Thumbnails,
    *,
    rank_score: float | None = None,
    matches: Sequence[FieldMatch] = (),
    preview: int | None = None,
) -> Hit:
    """Return a row as a SearchResult.

    Args:
        number: the row in its block.
        similarity: from 0 to 1.
        rank_score: the score that orders the hits, if it is not the similarity.
        matches: matching texts, best first.
        preview: row of the segment that previews a synthesis.
    """
    row = searched.block.row(number)
    preview_row = searched.block.row(preview) if preview is not None else None
    is_segment = row["segment_id"] is not None
    identity = f"segment:{row['segment_id']}:{run.run_id}" if is_segment else f"video:{row['video_id']}:{run.run_id}"
    metadata = json.loads(row["metadata"]) if row["metadata"] is not None else {}
    text = row["metadata_text"] or row["transcript"] or ""
    return {
        "result_type": "segment" if is_segment else "video",
        "result_id": identity,
        "video_id": row["video_id"],
        "video_uri": video.video_uri,
        "video_name": video.title,
        "segment_id": row["segment_id"],
        "start_time": _seconds(row["start_us"]),
        "end_time": _seconds(row["end_us"]),
        **(NO_PREVIEW if preview_row is None else _preview(preview_row, thumbnails, run.run_id)),
        "text_content": text,
        "content_preview": text[:PREVIEW_CHARS],
        "metadata_text": row["metadata_text"] or "",
        "transcript": row["transcript"],
        "similarity_score": _rounded(similarity),
        "reranked_score": _rounded(rank_score),
        **NO_MEDIA,
        **thumbnails.fields(run.run_id, row["video_id"], _frame(row if preview_row is None else preview_row)),
        "media_type": row["media_type"],
        "metadata": metadata,
        "extracted_metadata": metadata,
        **_field_scores(matches),
        **source_fields(run, video),
    }


def source_fields(run: RunRecord, video: Video) -> Hit:
    """Return the fields that identify the source of a hit."""
    return {
        "run_id": run.run_id,
        "source_run_id": run.run_id,
        "prompt_run_id": run.run_id,
        "prompt_id": run.prompt_id,
        "raw_llm_response": None,
        "source_index_id": video.index_id,
        "marker": NO_MARKER,
        "extracted_metadata_markers": {},
    }


def image_fields(frame: FrameMatch | None, hit: Hit, thumbnails: Thumbnails) -> Hit:
    """Return the fields that an image hit has in addition to a text hit."""
    seconds = seconds_from_us(frame.time_us) if frame is not None else None
    uri = None
    if frame is not None:
        uri = thumbnails.fields(hit["run_id"], hit["video_id"], Frame(frame.time_us, frame.file))["thumbnail_uri"]
    return {
        "matched_image_uri": uri,
        "matched_image_gcs_uri": None,
        "matched_image_timestamp": seconds,
        "matched_image_score": _rounded(frame.score) if frame is not None else None,
        "shot_timestamp": seconds,
    }


def fusion_fields(
    fused: float, ranks: Mapping[str, int | None], text_score: float | None, image_score: float | None
) -> Hit:
    """Return the fields that multimodal hits have in addition to image hits."""
    found = [name for name in ("text", "image") if ranks[name] is not None]
    return {
        "fused_score": fused,
        "text_score": _rounded(text_score),
        "image_score": _rounded(image_score),
        "text_rank": ranks["text"],
        "image_rank": ranks["image"],
        "match_type": "both" if len(found) == 2 else f"{found[0]}_only",
    }


def segments_of(searched: Searched, position: BlockPosition) -> range:
    """Return the rows of the segments that belong to the item of a synthesis."""
    video_id = searched.block.rows["video_id"][position[1]].as_py()
    first, _ = searched.block.items[video_id]
    return range(first, position[1])


def _preview(row: Mapping[str, Any], thumbnails: Thumbnails, run_id: str) -> Hit:
    return {
        **NO_PREVIEW,
        "preview_segment_id": row["segment_id"],
        "preview_start_time": _seconds(row["start_us"]),
        "preview_end_time": _seconds(row["end_us"]),
        "preview_thumbnail_uri": thumbnails.fields(run_id, row["video_id"], _frame(row))["thumbnail_uri"],
    }


def _frame(row: Mapping[str, Any]) -> Frame | None:
    return Frame(row["frame_us"], row["frame_file"]) if row["frame_file"] is not None else None


def _field_scores(matches: Sequence[FieldMatch]) -> Hit:
    by_field: dict[str, float] = {}
    for match in matches:
        by_field[match.field] = max(by_field.get(match.field, 0.0), match.score)
    return {
        "field_scores": {name: _rounded(score) for name, score in by_field.items()},
        "field_instance_scores": {match.instance: _rounded(match.score) for match in matches},
        "matched_field_paths": list(by_field),
        "matched_field_instances": [
            {
                "field_path": match.field,
                "field_display_label": _label(match.field),
                "field_instance_key": match.instance,
                "field_instance_path": match.instance,
                "field_instance_display_label": _label(match.instance),
                "score": _rounded(match.score),
                "value_preview": match.preview,
            }
            for match in matches
        ],
    }


def _label(path: str) -> str:
    return path.rsplit(".", 1)[-1].removesuffix("[]").replace("_", " ")


def _seconds(time_us: int | None) -> float | None:
    return None if time_us is None else seconds_from_us(time_us)


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 6)
