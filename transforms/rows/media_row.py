"""The row of one item in the table `media`."""

from __future__ import annotations

from collections import Counter

from promptreel.media.analysis import MediaAnalysis
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.schemas.outcomes import Outcome
from promptreel.schemas.table_rows import MediaRow
from promptreel.schemas.uris import public_uri
from promptreel.transforms.elements import ItemOutcome
from promptreel.transforms.rows.statuses import item_status


def media_row(
    item: ItemOutcome, analysis: MediaAnalysis | None, run_id: str, *, has_video_level: bool = False
) -> MediaRow:
    """Build the row of an item; `analysis` is None if the media could not be read."""
    media = item.plan.item
    info = analysis.info if analysis is not None else None
    video = info.video if info is not None else None
    audio = info.audio_track if info is not None else None
    width, height = video.display_size if video is not None else (None, None)
    timed = analysis is not None and info is not None and info.media_type != "image"
    duration_us = analysis.duration_us if analysis is not None and timed else None
    decoded_us = analysis.decoded_us if analysis is not None and timed else None
    warnings = analysis.warnings if analysis is not None else ()
    statuses = Counter(segment.status for segment in item.segments)
    return MediaRow(
        run_id=run_id,
        video_id=media.video_id,
        name=media.name,
        uri=public_uri(media.uri),
        other_uris=tuple(map(public_uri, media.other_uris)),
        status=item_status(item),
        media_type=info.media_type if info is not None else None,
        container=info.container if info is not None else None,
        size_bytes=info.size_bytes if info is not None else None,
        content_hash=media.content_hash,
        duration_us=duration_us,
        duration_seconds=None if duration_us is None else seconds_from_us(duration_us),
        width=width,
        height=height,
        rotation_degrees=video.rotation_degrees if video is not None else None,
        frame_rate=video.frame_rate if video is not None else None,
        video_codec=video.codec if video is not None else None,
        audio_codec=audio.codec if audio is not None else None,
        audio_track_count=len(info.audio) if info is not None else None,
        sound_detector=analysis.activity.detector if analysis is not None else None,
        heard_us=sum(s.duration_us for s in analysis.activity.spans) if analysis is not None else None,
        truncated=analysis.truncated if analysis is not None else None,
        segment_count=len(item.segments),
        succeeded_segments=statuses["succeeded"],
        failed_segments=statuses["failed"],
        cancelled_segments=statuses["cancelled"],
        warnings=(*(warning.message for warning in warnings), *(part.text for part in item.warnings)),
        warning_codes=tuple(dict.fromkeys(warning.code for warning in warnings)),
        decoded_duration_us=decoded_us,
        decoded_duration_seconds=None if decoded_us is None else seconds_from_us(decoded_us),
        decode_errors=analysis.decode_errors if analysis is not None else None,
        concealed_frames=analysis.concealed_frames if analysis is not None else None,
        damaged_share=analysis.damaged_share if analysis is not None else None,
        start_offset_us=info.start_us if info is not None else None,
        synthesis=_synthesis_outcome(item, has_time=bool(timed)) if has_video_level else None,
    )


def _synthesis_outcome(item: ItemOutcome, *, has_time: bool) -> Outcome | None:
    """Return how an item's synthesis ended: without any result to read, like the segments; None if it gets none.

    Args:
        has_time: the item was decoded and is not an image.
    """
    if item.synthesis is not None:
        return item.synthesis.outcome
    if item.plan.cancelled and has_time:  # stopped before a model marked its segments
        return "cancelled"
    extractions = [segment.outcome_of("field_extraction") for segment in item.segments]
    ended = {extraction.outcome if extraction is not None else None for extraction in extractions}
    is_synthesized = item.plan.sampled_from is None and bool(ended) and item.segments[0].task.media_type != "image"
    if not is_synthesized or not ended <= {"failed", "cancelled"}:
        return None
    return "cancelled" if "cancelled" in ended else "failed"
