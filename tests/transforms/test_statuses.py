"""The status of a run, its items and segments, and the API's counters and bodies, agree for any outcomes."""

from collections import Counter
from datetime import UTC, datetime
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from promptreel.api.runs.finish import summary_of_counts
from promptreel.api.runs.media_status import _status_from
from promptreel.api.runs.results import video_result
from promptreel.api.runs.statuses import FINAL
from promptreel.schemas.arrow import row_of
from promptreel.schemas.media import Boundary, PlannedSegment
from promptreel.transforms.commit_manifest import run_status
from promptreel.transforms.elements import (
    Failure,
    ItemOutcome,
    ItemPlan,
    MediaItem,
    OperationOutcome,
    SegmentOutcome,
    SegmentTask,
)
from promptreel.transforms.rows.counts import counts_of
from promptreel.transforms.rows.failure_rows import item_failure_rows, segment_failure_rows
from promptreel.transforms.rows.media_row import media_row
from promptreel.transforms.rows.segment_rows import segment_row

LOCAL = ("transcription", "image_embedding")
ENDS = st.sampled_from(["succeeded", "failed", "cancelled"])
FAILURE = Failure("model_overloaded", "no answer", True)
PLURALS = {"video": "videos", "audio": "audios", "image": "images"}


def outcome(operation, end):
    return OperationOutcome(operation, end, f"{operation} key", failure=FAILURE if end == "failed" else None)


@st.composite
def segments(draw, video_id, media_type):
    found = []
    for number in range(draw(st.integers(1, 3))):
        planned = PlannedSegment(Boundary(number, "start", 1.0), Boundary(number + 1, "end", 1.0))
        task = SegmentTask(video_id, f"{video_id}-{number}", number, media_type, "key", planned)
        operations = ["field_extraction", *(name for name in LOCAL if draw(st.booleans()))]
        found.append(SegmentOutcome(task, tuple(outcome(name, draw(ENDS)) for name in operations)))
    return tuple(found)


@st.composite
def items(draw, number, has_level):
    """An item as the pipeline can produce it: unread, cancelled, or with segments and perhaps a synthesis."""
    video_id = f"v{number}"
    media_type = draw(st.sampled_from(list(PLURALS)))
    media = MediaItem(video_id, f"{number}.mp4", f"file:///{number}.mp4", (), "hash")
    kind = draw(st.sampled_from(["read", "read", "read", "unread", "cancelled"]))
    if kind != "read":
        plan = ItemPlan(media, None, failure=FAILURE if kind == "unread" else None, cancelled=kind == "cancelled")
        return media_type, ItemOutcome(plan, ())
    parts = draw(segments(video_id, media_type))
    plan = ItemPlan(media, "key", tuple(part.task for part in parts))
    can_synthesize = has_level and media_type != "image" and any("succeeded" in ends_of(part) for part in parts)
    synthesis = outcome("synthesis", draw(ENDS)) if can_synthesize else None
    text = outcome("text_embedding", draw(ENDS)) if draw(st.booleans()) else None
    return media_type, ItemOutcome(plan, parts, synthesis, text)


def ends_of(segment):
    return {part.outcome for part in segment.outcomes}


@st.composite
def runs(draw):
    """(whether the prompt has a video level, items with their media types, whether the run was stopped)."""
    has_level = draw(st.booleans())
    found = [draw(items(number, has_level)) for number in range(draw(st.integers(1, 5)))]
    return has_level, found, draw(st.booleans())


# ---------------------------------------------------------------------------------------------- the oracle


def all_ends(item):
    """(operation, end) of every operation of an item."""
    outcomes = [part for segment in item.segments for part in segment.outcomes]
    outcomes += [part for part in (item.synthesis, item.text_embedding) if part is not None]
    return [(part.operation, part.outcome) for part in outcomes]


def has_answer(item):
    return bool({("field_extraction", "succeeded"), ("synthesis", "succeeded")} & set(all_ends(item)))


def expected_item(item):
    if item.plan.failure is not None:
        return "failed"
    ends = {end for _, end in all_ends(item)}
    if item.plan.cancelled or "cancelled" in ends:
        return "cancelled"
    if not has_answer(item):
        return "failed"
    return "completed" if ends == {"succeeded"} else "partial"


def expected_run(found, stopped):
    words = [expected_item(item) for _, item in found]
    if stopped and "cancelled" in words:
        return "cancelled"
    if set(words) == {"completed"}:
        return "completed"
    return "completed_with_failures" if any(has_answer(item) for _, item in found) else "failed"


# --------------------------------------------------------------------------------------------- the product


def rows_of(media_type, item):
    """The rows of an item in the tables that the API's bodies and counters derive from."""
    info = SimpleNamespace(
        media_type=media_type, video=None, audio_track=None, audio=(), container="c", size_bytes=1, start_us=0
    )
    analysis = SimpleNamespace(
        info=info, duration_us=1, decoded_us=1, warnings=(), activity=SimpleNamespace(detector="none", spans=()),
        truncated=False, decode_errors=0, concealed_frames=0, damaged_share=0.0,
    )  # fmt: skip
    source = SimpleNamespace(run_id="run_a", last_answers={})
    media = row_of(media_row(item, analysis if item.plan.analysis_key else None, "run_a"))
    found = {"media": [media], "segments": [], "results": [], "failures": [], "video_results": []}
    for segment in item.segments:
        found["segments"].append(row_of(segment_row(segment, "run_a")))
        found["failures"] += segment_failure_rows(item, segment, source)
        if segment.outcome_of("field_extraction").outcome == "succeeded":
            found["results"].append({"reused": False})
    found["failures"] += item_failure_rows(item, source)
    if item.synthesis is not None and item.synthesis.outcome == "succeeded":
        found["video_results"].append(
            {
                "reused": False, "executed_at": "t", "metadata": "{}", "metadata_text": "", "warning": None,
                "omitted_segment_ids": (), "template_fields": (), "source_fingerprint": "f",
                "rendered_prompt_chars": 1, "llm_call_ids": (), "operation_key": "synthesis key",
            }
        )  # fmt: skip
    return found


class Tables:
    """The tables of one item, like `RunTables`."""

    def __init__(self, rows):
        self._rows = rows
        self.manifest = SimpleNamespace(is_interim=False, number=1, committed_at="t")

    def rows(self, table, video_id, *span):
        return iter(self._rows[table])


def counts_over(tables):
    counts = Counter()
    for rows in tables:
        for table, found in rows.items():
            for row in found:
                counts.update(counts_of(table, row))
    return counts


def run_record(has_level, status):
    prompt = {"json_schema": {}, "video_level": {"json_schema": {}} if has_level else None}
    return SimpleNamespace(
        run_id="run_a", prompt_id="p", index_id=None, prompt=prompt, status=status, settings={},
        created_at=datetime(2026, 1, 1, tzinfo=UTC), started_at=None, completed_at=None,
    )  # fmt: skip


@settings(max_examples=1000, deadline=None)
@given(runs())
def test_statuses_counters_and_bodies_agree_for_any_outcomes(run):
    has_level, found, stopped = run
    rows = [rows_of(media_type, item) for media_type, item in found]
    counts = counts_over(rows)
    for (_, item), tables in zip(found, rows, strict=True):
        assert tables["media"][0]["status"] == expected_item(item)
    status = run_status(counts, stopped=stopped)
    assert status == expected_run(found, stopped)
    assert status in FINAL
    check_counters(found, counts)
    check_bodies(has_level, found, rows, status)


def check_counters(found, counts):
    totals = {f"total_{plural}": [kind for kind, _ in found].count(name) for name, plural in PLURALS.items()}
    summary = summary_of_counts(counts, totals)
    for plural in PLURALS.values():
        ended = sum(summary[f"{word}_{plural}"] for word in ("completed", "failed", "partial", "cancelled"))
        assert ended == totals[f"total_{plural}"], plural
    words = Counter(expected_item(item) for _, item in found)
    for word in ("completed", "failed", "partial", "cancelled"):
        assert sum(summary[f"{word}_{plural}"] for plural in PLURALS.values()) == words[word]
    every = [segment for _, item in found for segment in item.segments]
    assert summary["total_segments"] == len(every)
    assert summary["completed_segments"] == sum(ends_of(segment) == {"succeeded"} for segment in every)


def check_bodies(has_level, found, rows, status):
    record = run_record(has_level, status)
    for (_, item), of_item in zip(found, rows, strict=True):
        tables, video_id = Tables(of_item), item.plan.item.video_id
        body = _status_from(tables, record, video_id, with_segments=True)
        assert body["status"] == status
        names = ("pending", "processing", "successful", "failed")
        assert body["total_segments"] == sum(body[f"{name}_segments"] for name in names) == len(item.segments)
        shown = Counter(segment["status"] for segment in body["segments"])
        assert shown == Counter({name: body[f"{name}_segments"] for name in names if body[f"{name}_segments"]})
        result, level = video_result(tables, record, video_id, None), body["video_level"]
        if not has_level or of_item["media"][0]["media_type"] == "image":
            assert (result, level) == (None, None)
            continue
        end = item.synthesis.outcome if item.synthesis is not None else None
        assert (result is not None) == (end in ("succeeded", "failed"))
        if result is not None:
            assert level["status"] == result["status"]
        assert level["result_available"] == (end == "succeeded")
        assert level["status"] not in ("pending", "processing")
