"""Score runs against labels, field by field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from promptreel.schemas.errors import InvalidInput
from promptreel.schemas.field_paths import LeafField, values_at
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.tables.reader import CommittedRun
from promptreel.tables.request import read_request
from promptreel.tables.scoring.labels import ITEM_COLUMNS, Label, field_columns
from promptreel.tables.scoring.matching import LabelledAnswer, Level, MatchedLabels, match_labels
from promptreel.tables.scoring.measures import Comparison, Measure, compare, measure_of, summarize
from promptreel.tables.storage import Storage

DEFAULT_TOLERANCE: Final = 0.05


@dataclass(frozen=True, slots=True)
class ScoredValue:
    """One label of one field, compared with the answer of a run.

    Attributes:
        row: row of the label in the file, from 1.
        answer: the answer's value; None without an answer.
    """

    row: int
    position: LabelledAnswer
    expected: Any
    answer: Any
    comparison: Comparison

    def to_dict(self) -> dict[str, Any]:
        start_us = self.position.start_us
        return {
            "row": self.row,
            "video_id": self.position.video_id,
            "segment_id": self.position.segment_id,
            "start_time": None if start_us is None else seconds_from_us(start_us),
            "expected": self.expected,
            "answer": self.answer,
            "score": self.comparison.score,
        }


@dataclass(frozen=True)
class FieldScore:
    """The score of one field.

    Attributes:
        labels: number of labels with a value for the field.
        unanswered: those for which an answer was expected and the run has none.
        figures: see `summarize`; `score` is from 0 to 1.
    """

    field: str
    level: Level
    measure: Measure
    labels: int
    unanswered: int
    figures: Mapping[str, float | None]
    values: tuple[ScoredValue, ...]

    def to_dict(self, *, with_values: bool = False) -> dict[str, Any]:
        return {
            "field": self.field,
            "level": self.level,
            "measure": self.measure,
            "labels": self.labels,
            "unanswered": self.unanswered,
            **self.figures,
            **({"values": [value.to_dict() for value in self.values]} if with_values else {}),
        }


@dataclass(frozen=True)
class RunScore:
    """The scores of one run.

    Attributes:
        fields: in the order of the prompt's schema, segments before syntheses.
        unmatched: number of labels that the run has no segment or item for, by the reason.
    """

    run: CommittedRun
    model: str
    fields: tuple[FieldScore, ...]
    unmatched: Mapping[str, int]

    @property
    def score(self) -> float | None:
        """The mean of the scores of the fields; None without any."""
        scores = [part.figures["score"] for part in self.fields]
        known = [score for score in scores if score is not None]
        return sum(known) / len(known) if known else None

    def to_dict(self, *, with_values: bool = False) -> dict[str, Any]:
        return {
            "run_id": self.run.run_id,
            "name": self.run.labels.name,
            "tags": dict(self.run.labels.tags),
            "prompt": self.run.prompt.name,
            "prompt_version": self.run.prompt_version,
            "prompt_content_id": self.run.prompt.prompt_id,
            "model": self.model,
            "score": self.score,
            "unmatched_labels": dict(self.unmatched),
            "fields": [part.to_dict(with_values=with_values) for part in self.fields],
        }


@dataclass(frozen=True)
class Scores:
    """The scores of several runs on the labels that all of them cover.

    Attributes:
        labels: number of rows in the file.
        common: number of rows that every run has a segment or item for; only these are scored.
    """

    labels: int
    common: int
    runs: tuple[RunScore, ...]

    def to_dict(self, *, with_values: bool = False) -> dict[str, Any]:
        runs = [run.to_dict(with_values=with_values) for run in self.runs]
        return {"labels": self.labels, "scored_labels": self.common, "runs": runs}


def score_runs(
    storage: Storage,
    runs: Sequence[CommittedRun],
    labels: Sequence[Label],
    measures: Mapping[str, Measure] | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
) -> Scores:
    """Score runs on the labels that all of them cover, so that their scores are comparable.

    Args:
        measures: measures of fields by path; other fields get the measure of their type.
        tolerance: largest relative error of a number that counts as correct.

    Raises:
        InvalidInput: a column or a measure names a field that no run has, a label is ambiguous or of the wrong type, or
            no label fits all runs.
        RunDamaged: a table of a run is missing or unreadable.
    """
    chosen = measures or {}
    _check_fields(runs, labels, chosen)
    matched = [match_labels(storage, run, labels) for run in runs]
    common = set.intersection(*(set(part.answers) for part in matched)) if matched else set()
    if not common:
        raise InvalidInput(f"no label fits {'every run' if len(runs) > 1 else 'the run'}: {_reasons(runs, matched)}")
    shared = [label for label in labels if label.row in common]
    return Scores(
        len(labels),
        len(common),
        tuple(
            _score_run(storage, run, shared, part, chosen, tolerance) for run, part in zip(runs, matched, strict=True)
        ),
    )


def _score_run(
    storage: Storage,
    run: CommittedRun,
    labels: Sequence[Label],
    matched: MatchedLabels,
    measures: Mapping[str, Measure],
    tolerance: float,
) -> RunScore:
    found = []
    for level, leaves in _leaves(run).items():
        of_level = [
            (label, matched.answers[label.row]) for label in labels if matched.answers[label.row].level == level
        ]
        for leaf in leaves:
            measure = measures.get(leaf.path) or measure_of(leaf)
            values = tuple(_scored_values(leaf, measure, of_level, tolerance))
            if values:
                found.append(_field_score(leaf, level, measure, values))
    unmatched = {reason: len(rows) for reason, rows in matched.unmatched.items()}
    return RunScore(run, read_request(storage, run.run_id).settings.model.model, tuple(found), unmatched)


def _scored_values(
    leaf: LeafField, measure: Measure, labels: Sequence[tuple[Label, LabelledAnswer]], tolerance: float
) -> list[ScoredValue]:
    values = []
    for label, position in labels:
        is_labelled, expected = label.expected(leaf)
        if is_labelled:
            answer = _value(position.metadata, leaf)
            comparison = compare(measure, expected, answer, tolerance)
            values.append(ScoredValue(label.row, position, expected, answer, comparison))
    return values


def _field_score(leaf: LeafField, level: Level, measure: Measure, values: tuple[ScoredValue, ...]) -> FieldScore:
    unanswered = sum(value.answer in (None, []) and value.expected not in (None, []) for value in values)
    figures = summarize(measure, [value.comparison for value in values])
    return FieldScore(leaf.path, level, measure, len(values), unanswered, figures, values)


def _value(metadata: Mapping[str, Any] | None, leaf: LeafField) -> Any:
    """The value of a field in an answer: a list for a list field, otherwise one value; None without an answer."""
    if metadata is None:
        return None
    if leaf.type == "json" and not leaf.list_depth:
        value: Any = metadata
        for key in leaf.path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        return value
    found = values_at(metadata, leaf.path)
    return found if leaf.list_depth else (found[0] if found else None)


def _leaves(run: CommittedRun) -> dict[Level, Sequence[LeafField]]:
    level = run.prompt.video_level
    return {"segment": run.prompt.leaves, "item": () if level is None else level.leaves}


def _check_fields(runs: Sequence[CommittedRun], labels: Sequence[Label], measures: Mapping[str, Measure]) -> None:
    """Check that each column and measure names a field.

    Raises:
        InvalidInput: a name fits no field of any run.
    """
    known = list(dict.fromkeys(leaf.path for run in runs for leaves in _leaves(run).values() for leaf in leaves))
    objects = {part for path in known for part in (path.partition(".")[0].removesuffix("[]"),)}
    shown = ", ".join(known) or "none"
    for name in field_columns(list(labels)):
        if name not in known and name not in objects and name not in ITEM_COLUMNS:
            raise InvalidInput(f"labels: the column {name!r} is not a field of the prompt; its fields are {shown}")
    for name in measures:
        if name not in known:
            raise InvalidInput(f"measure: {name!r} is not a field of the prompt; its fields are {shown}")


def _reasons(runs: Sequence[CommittedRun], matched: Sequence[MatchedLabels]) -> str:
    parts = []
    for run, part in zip(runs, matched, strict=True):
        for reason, rows in part.unmatched.items():
            parts.append(f"{run.run_id}: {reason} (row {rows[0]}{f' and {len(rows) - 1} more' if rows[1:] else ''})")
    return "; ".join(parts) or "the runs cover different labels"
