"""Calibrate an estimate with the call records of earlier runs in the data folder.

A record says what a call used; the estimate of the same call says what was expected. The ratio of the two corrects the
estimate of a run with the same model and media input, and its variation gives the spread.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from promptreel.providers.schema_fields import prompt_of_fields
from promptreel.providers.usage_estimate import CallKind, CallUsage, marking_usage, segment_usage, synthesis_usage
from promptreel.schemas.errors import RunDamaged, RunNotFound
from promptreel.schemas.media import TimeSpan
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.settings import RunSettings
from promptreel.schemas.spread import Spread
from promptreel.schemas.table_rows import LlmCallRow
from promptreel.tables import layout
from promptreel.tables.call_log import read_calls
from promptreel.tables.request import RunRequest, iter_run_ids, read_request
from promptreel.tables.storage import Storage

# The newest runs are read, until they have enough calls.
MAX_RUNS_READ: Final = 200
MAX_CALLS_READ: Final = 2000
_MIN_ERROR: Final = 0.05  # other media always differ a little
_MAX_ERROR: Final = 0.9
_ERROR_OF_ONE_CALL: Final = 0.5  # without a variation to measure
_STANDARD_ERRORS: Final = 2.0
_BLOCK: Final = re.compile(r"^\[\d", re.MULTILINE)  # the start of each segment in the input of a synthesis


@dataclass(frozen=True, slots=True)
class Ratio:
    """Recorded usage divided by estimated usage over several operations.

    Attributes:
        variation: standard deviation of an operation's ratio, divided by the ratio; None with one operation.
    """

    value: float
    operations: int
    variation: float | None

    def spread(self, operations: float) -> Spread:
        """Return the ratio of other operations with its error."""
        if self.variation is None:
            return Spread.around(self.value, _ERROR_OF_ONE_CALL)
        error = _STANDARD_ERRORS * self.variation * math.sqrt(1 / self.operations + 1 / max(1.0, operations))
        return Spread.around(self.value, min(_MAX_ERROR, max(_MIN_ERROR, error)))


@dataclass(frozen=True, slots=True)
class _Sample:
    """What one operation used in all its calls, and what was estimated."""

    kind: CallKind
    usage: CallUsage
    input: int
    cached: int
    output: int
    thoughts: int


@dataclass(frozen=True, slots=True)
class _KindRatios:
    input: Ratio
    output: Ratio
    thoughts: Ratio
    cached_share: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """The ratios of each kind of call, from the records of earlier runs."""

    calls: int = 0
    runs: int = 0
    ratios: Mapping[CallKind, _KindRatios] | None = None

    def applied(self, usage: CallUsage) -> CallUsage:
        """Return an estimate corrected by the records; unchanged if they have no call of its kind."""
        ratios = (self.ratios or {}).get(usage.kind)
        if ratios is None or usage.calls.high <= 0:
            return usage
        count = usage.calls.expected
        return replace(
            usage,
            input=usage.input * ratios.input.spread(count),
            audio=usage.audio * ratios.input.spread(count),
            schema_tokens=0.0,  # the ratio includes them, if the service counts them
            output=ratios.output.spread(count).scaled(usage.output.expected),
            thoughts=ratios.thoughts.spread(count),
            cached_share=ratios.cached_share,
        )

    def to_dict(self) -> dict[str, Any] | None:
        """Convert to JSON values; None without records."""
        if not self.ratios:
            return None
        return {"calls": self.calls, "runs": self.runs, "kinds": sorted(self.ratios)}


def calibrate(storage: Storage, prompt: Prompt, settings: RunSettings, owner: str | None) -> Calibration:
    """Read the records of earlier runs with the same model and media input.

    If some of them have the same prompt, only those count, because they tell the length of its answers.

    Args:
        owner: account whose runs count, see `RunRequest`.
    """
    same_prompt: list[tuple[str, Sequence[_Sample], int]] = []
    others: list[tuple[str, Sequence[_Sample], int]] = []
    read = 0
    for request in _matching_runs(storage, settings, owner):
        calls = list(_calls_of(storage, request))
        samples = _samples(request, calls)
        if samples:
            found = same_prompt if request.prompt.prompt_id == prompt.prompt_id else others
            found.append((request.run_id, samples, len(calls)))
            read += len(calls)
        if read >= MAX_CALLS_READ:
            break
    used = same_prompt or others
    return Calibration(
        sum(count for _, _, count in used), len(used), _ratios(sample for _, samples, _ in used for sample in samples)
    )


def _matching_runs(storage: Storage, settings: RunSettings, owner: str | None) -> Iterator[RunRequest]:
    for run_id in islice(iter_run_ids(storage), MAX_RUNS_READ):
        try:
            request = read_request(storage, run_id)
        except (RunDamaged, RunNotFound):
            continue
        if request.owner == owner and _mode(request.settings) == _mode(settings):
            yield request


def _mode(settings: RunSettings) -> tuple[Any, ...]:
    """Return the settings that runs must share for their calls to be comparable."""
    model = settings.model
    service = (model.base_url, model.vertex_project)
    sent = (model.media_input, model.frames_per_segment, model.sound is not False, model.media_resolution)
    return model.model, sent, model.thinking_budget, model.thinking_level, service


def _calls_of(storage: Storage, request: RunRequest) -> Iterator[LlmCallRow]:
    for shard in storage.list_names(layout.calls_folder(request.run_id)):
        for call in read_calls(storage, request.run_id, int(shard)).values():
            if call.model == request.settings.model.model and call.input_tokens > 0:
                yield call


def _samples(request: RunRequest, calls: Sequence[LlmCallRow]) -> list[_Sample]:
    by_operation: dict[str, list[LlmCallRow]] = {}
    for call in calls:
        by_operation.setdefault(call.operation_key, []).append(call)
    found = []
    for operation in by_operation.values():
        usage = _estimate_of(request, operation[0])
        if usage is not None:
            found.append(
                _Sample(
                    usage.kind,
                    usage,
                    sum(call.input_tokens for call in operation),
                    sum(call.cached_tokens for call in operation),
                    sum(call.output_tokens for call in operation),
                    sum(call.thought_tokens for call in operation),
                )
            )
    return found


def _estimate_of(request: RunRequest, call: LlmCallRow) -> CallUsage | None:
    """Return the estimate of a recorded call; None if the record does not describe its request."""
    try:
        sent = json.loads(call.request)
        if call.purpose == "video_level_synthesis" and request.prompt.video_level is not None:
            segments = len(_BLOCK.findall(sent["text"]))
            return synthesis_usage(request.prompt, request.settings, Spread.exactly(segments), 0.0, 1)
        media = sent["media"]
        if media is None:
            return None
        span, media_type = TimeSpan(media["start_us"], media["end_us"]), media["media_type"]
        has_pictures, has_sound = media["frames"] > 0, media["has_audio"]
        if call.purpose == "segmentation" and request.settings.segmentation.definition_of(media_type) is not None:
            return marking_usage(request.settings, media_type, [span], has_pictures=has_pictures, has_sound=has_sound)
        if call.purpose != "metadata_extraction":
            return None
        lengths = {seconds_from_us(span.duration_us): 1}
        names = tuple(sent.get("fields", ()))
        return segment_usage(
            prompt_of_fields(request.prompt, names) if names else request.prompt,
            request.settings,
            media_type,
            (lengths, lengths, lengths),
            has_pictures=has_pictures,
            has_sound=has_sound,
        )
    except (ValueError, KeyError, TypeError):
        return None


def _ratios(samples: Iterable[_Sample]) -> dict[CallKind, _KindRatios]:
    by_kind: dict[CallKind, list[_Sample]] = {}
    for sample in samples:
        by_kind.setdefault(sample.kind, []).append(sample)
    return {
        kind: _KindRatios(
            _ratio([(sample.input, sample.usage.input.expected) for sample in found]),
            _ratio([(sample.output, sample.usage.output.expected) for sample in found]),
            _ratio([(sample.thoughts, 1.0) for sample in found]),
            sum(sample.cached for sample in found) / sum(sample.input for sample in found),
        )
        for kind, found in by_kind.items()
    }


def _ratio(pairs: Sequence[tuple[float, float]]) -> Ratio:
    """Return the ratio of recorded and estimated usage.

    Args:
        pairs: (recorded, estimated) of each operation.
    """
    estimated = sum(expected for _, expected in pairs)
    value = sum(recorded for recorded, _ in pairs) / estimated if estimated else 1.0
    if len(pairs) < 2 or not value:
        return Ratio(value, len(pairs), 0.0 if not value else None)
    deviations = [(recorded - value * expected) ** 2 for recorded, expected in pairs]
    deviation = math.sqrt(sum(deviations) / (len(pairs) - 1))
    return Ratio(value, len(pairs), deviation / (value * estimated / len(pairs)))
