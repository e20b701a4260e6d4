"""The elements passed between transforms: small frozen values of ids, times and outcomes, never media bytes."""

from __future__ import annotations

from dataclasses import dataclass

from promptreel.schemas.media import MediaType, PlannedSegment, TimeSpan
from promptreel.schemas.outcomes import Operation, Outcome, SegmentStatus
from promptreel.transforms.not_run import NotRun


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed; `code` is a key of `promptreel.schemas.failure_codes.FAILURE_CODES`.

    A message may quote a file name that is not UTF-8. Characters that a table cannot store become question marks.
    """

    code: str
    message: str
    retryable: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", self.message.encode("utf-8", "replace").decode())


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of the target, fingerprinted."""

    uri: str
    name: str
    video_id: str
    content_hash: str | None
    failure: Failure | None = None
    sample_segments: int | None = None


@dataclass(frozen=True, slots=True)
class MediaItem:
    """One distinct media item; files with the same bytes are the same item.

    Attributes:
        sample_segments: number of its segments in a sample of segments; None for all.
    """

    video_id: str
    name: str
    uri: str
    other_uris: tuple[str, ...]
    content_hash: str | None
    failure: Failure | None = None
    sample_segments: int | None = None


@dataclass(frozen=True, slots=True)
class SegmentTask:
    """One segment, ready for its operations.

    Attributes:
        number: position among all segments of its item, from 0.
        pictures_key: identity of the frames and the sound that a model service receives for it; None if unknown.
        duplicates: ids of the following segments that are near-duplicates of it and take its answer.
        answered_by: id of the segment of which it is such a near-duplicate.
    """

    video_id: str
    segment_id: str
    number: int
    media_type: MediaType
    analysis_key: str
    planned: PlannedSegment
    pictures_key: str | None = None
    duplicates: tuple[str, ...] = ()
    answered_by: str | None = None

    @property
    def answered_ids(self) -> tuple[str, ...]:
        """The segments that its field extraction answers for."""
        return (self.segment_id, *self.duplicates)


@dataclass(frozen=True, slots=True)
class ItemPlan:
    """An item after decoding and segmentation.

    Attributes:
        analysis_key: key of its analysis folder; None if it has no analysis.
        tasks: its segments, ordered by time.
        cancelled: the run was stopped before the item was segmented.
        sampled_from: number of all its segments, if `tasks` is a sample of them; None if `tasks` has all.
        is_marked: False until a model has marked the segments that the user defines.
        warnings: why the item has no segments, if nothing fits that definition.
        attempts, failed_key: calls made to mark the segments, and the operation that failed, of a failure.
    """

    item: MediaItem
    analysis_key: str | None
    tasks: tuple[SegmentTask, ...] = ()
    failure: Failure | None = None
    cancelled: bool = False
    sampled_from: int | None = None
    is_marked: bool = True
    warnings: tuple[NotRun, ...] = ()
    attempts: int = 0
    failed_key: str = ""

    @property
    def distinct_tasks(self) -> tuple[SegmentTask, ...]:
        """The segments without those that take the answer of another."""
        return tuple(task for task in self.tasks if task.answered_by is None)

    @property
    def span(self) -> TimeSpan:
        """From the start of the first segment to the end of the last; there must be one."""
        spans = [task.planned.span for task in self.tasks]
        return TimeSpan(spans[0].start_us, max(span.end_us for span in spans))


@dataclass(frozen=True, slots=True)
class OperationOutcome:
    """How one operation ended.

    Attributes:
        key: the operation-cache key of the result, if the operation succeeded.
        reused: an earlier run computed the result.
        attempts: calls made for it in this attempt of the run.
    """

    operation: Operation
    outcome: Outcome
    key: str
    reused: bool = False
    attempts: int = 0
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class OutcomeBatch:
    """How one operation ended for some or all segments of one item.

    Attributes:
        outcomes: (segment id, outcome), without segments to which the operation does not apply.
        warnings: the requested operations that did not run for the item.
    """

    video_id: str
    outcomes: tuple[tuple[str, OperationOutcome], ...] = ()
    warnings: tuple[NotRun, ...] = ()
    is_finished: bool = True


@dataclass(frozen=True, slots=True)
class SegmentOutcome:
    """A segment and how its operations ended.

    Attributes:
        is_finished: all operations have ended; False only while the run is in progress.
    """

    task: SegmentTask
    outcomes: tuple[OperationOutcome, ...]
    is_finished: bool = True

    @property
    def status(self) -> SegmentStatus:
        """Pending until the fields are extracted, then processing until all operations have ended.

        Then succeeded if every operation did; failed if any failed; otherwise cancelled.
        """
        if not self.is_finished:
            return "pending" if self.outcome_of("field_extraction") is None else "processing"
        found = {outcome.outcome for outcome in self.outcomes}
        if found <= {"succeeded"}:
            return "succeeded"
        return "failed" if "failed" in found else "cancelled"

    def outcome_of(self, operation: Operation) -> OperationOutcome | None:
        """Return the outcome of one operation; None if it was not requested or does not apply."""
        return next((outcome for outcome in self.outcomes if outcome.operation == operation), None)


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """One item and how its operations ended.

    Attributes:
        segments: ordered by time.
        synthesis, text_embedding: None if the operation does not apply.
        warnings: the requested operations that did not run for the item.
        is_finished: all operations have ended; False only while the run is in progress.
    """

    plan: ItemPlan
    segments: tuple[SegmentOutcome, ...]
    synthesis: OperationOutcome | None = None
    text_embedding: OperationOutcome | None = None
    warnings: tuple[NotRun, ...] = ()
    is_finished: bool = True
