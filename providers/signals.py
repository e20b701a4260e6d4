"""The built-in model: fills fields from what was measured. No key, no network, no invention."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from media.analysis import ANALYSIS_FILE, TIMELINE_FILE, MediaAnalysis, load_analysis
from media.timeline import Timeline, load_timeline
from providers.base import ModelAnswer, ModelRequest, Provider, SegmentMedia
from schemas.errors import PromptError
from schemas.field_paths import LeafField, leaf_fields, parse_schema
from schemas.media import TimeSpan
from schemas.mediatime import seconds_from_us
from schemas.prompt import Prompt

VERSION: Final = 1
_COLOURS_NAMED: Final = 3
_LEAST_SHARE: Final = 0.05  # a colour that covers less of the picture is not called dominant


@dataclass(frozen=True)
class Measurement:
    """One field that can be measured.

    Attributes:
        type, list_depth: what its leaf in a schema must be.
        meaning: one line for people, with the unit.
        measure: its value over a span, None where the item has no such thing.
    """

    type: str
    list_depth: int
    meaning: str
    measure: Callable[[MediaAnalysis, Timeline, TimeSpan], Any]


class SignalsProvider(Provider):
    """Measures instead of asking."""

    name = "signals"
    is_called = False

    def fingerprint(self) -> Mapping[str, Any]:
        return {"provider": "signals", "version": VERSION}

    def check_prompt(self, prompt: Prompt) -> None:
        _check_fields("json_schema", prompt.leaves)
        if prompt.video_level is not None:
            _check_fields("video_level.json_schema", prompt.video_level.leaves)

    async def ask(self, request: ModelRequest, prepared: Any) -> ModelAnswer:
        assert request.media is not None, "signals measures media: a request without it is a defect"
        values = await asyncio.to_thread(_measure_schema, request.json_schema, request.media)
        return ModelAnswer(text=json.dumps(values), finish_reason="STOP")


def _check_fields(where: str, leaves: tuple[LeafField, ...]) -> None:
    unfit = [_unfit(leaf) for leaf in leaves if _unfit(leaf)]
    if unfit or not leaves:
        known = "; ".join(f"{name} ({_type_name(m)}): {m.meaning}" for name, m in MEASUREMENTS.items())
        raise PromptError(
            f"the built-in model 'signals' only measures, it cannot fill {', '.join(filter(None, unfit)) or 'no field'} "
            f"of {where}. It can fill: {known}. Ask for these, or choose a model with --model"
        )


def _unfit(leaf: LeafField) -> str | None:
    known = MEASUREMENTS.get(leaf.name)
    if known is None:
        return f"'{leaf.path}'"
    same_type = leaf.type == known.type or (leaf.type, known.type) == ("number", "integer")
    if leaf.list_depth != known.list_depth or not same_type or "[]" in leaf.path:
        return f"'{leaf.path}' (it is measured as {_type_name(known)})"
    return None


def _type_name(measurement: Measurement) -> str:
    return f"array of {measurement.type}" if measurement.list_depth else measurement.type


def _measure_schema(json_schema: Mapping[str, Any], media: SegmentMedia) -> dict[str, Any]:
    analysis, timeline = _load_item(media.folder)
    values: dict[str, Any] = {}
    for leaf in leaf_fields(parse_schema(json_schema)):
        value = MEASUREMENTS[leaf.name].measure(analysis, timeline, media.span)
        if value is not None:
            *parents, last = leaf.path.split(".")
            place = values
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = value
    return values


@functools.lru_cache(maxsize=4)  # segments of one item come one after another
def _load_item(folder: Path) -> tuple[MediaAnalysis, Timeline]:
    return load_analysis((folder / ANALYSIS_FILE).read_bytes()), load_timeline(folder / TIMELINE_FILE)


def _duration(analysis: MediaAnalysis, timeline: Timeline, span: TimeSpan) -> float:
    return seconds_from_us(span.duration_us)


def _cut_times(analysis: MediaAnalysis, timeline: Timeline, span: TimeSpan) -> list[float] | None:
    if analysis.info.media_type != "video":
        return None
    return [seconds_from_us(t.at_us) for t in analysis.transitions if span.start_us < t.at_us < span.end_us]


def _shot_count(analysis: MediaAnalysis, timeline: Timeline, span: TimeSpan) -> int | None:
    cuts = _cut_times(analysis, timeline, span)
    return None if cuts is None else len(cuts) + 1


def _brightness(analysis: MediaAnalysis, timeline: Timeline, span: TimeSpan) -> float | None:
    return _mean(timeline.brightness[timeline.picture_bins(span)])


def _motion(analysis: MediaAnalysis, timeline: Timeline, span: TimeSpan) -> float | None:
    if analysis.info.media_type != "video":
        return None
    return _mean(timeline.motion[timeline.picture_bins(span)])


def _dominant_colors(analysis: MediaAnalysis, timeline: Timeline, span: TimeSpan) -> list[str] | None:
    shares = timeline.colours[timeline.picture_bins(span)].astype(np.float64)
    if len(shares) == 0:
        return None
    mean = shares.mean(axis=0) / 255
    order = np.argsort(-mean, kind="stable")[:_COLOURS_NAMED]
    return [_hex_of_bin(int(index)) for index in order if mean[index] >= _LEAST_SHARE]


def _hex_of_bin(index: int) -> str:
    """The middle of a colour bin: 4 levels of 64 for each channel, red slowest."""
    return "#" + "".join(f"{level * 64 + 32:02x}" for level in (index >> 4, (index >> 2) & 3, index & 3))


def _loudness(analysis: MediaAnalysis, timeline: Timeline, span: TimeSpan) -> float | None:
    levels = timeline.loudness_dbfs[timeline.sound_bins(span)].astype(np.float64)
    if len(levels) == 0:
        return None
    return round(float(10 * np.log10(np.mean(10 ** (levels / 10)))), 2)  # mean of power, not of decibels


def _peak_loudness(analysis: MediaAnalysis, timeline: Timeline, span: TimeSpan) -> float | None:
    levels = timeline.loudness_dbfs[timeline.sound_bins(span)]
    return round(float(levels.max()), 2) if len(levels) else None


def _speech_share(analysis: MediaAnalysis, timeline: Timeline, span: TimeSpan) -> float | None:
    return _heard_share(analysis, span) if analysis.activity.detector == "silero" else None


def _sound_share(analysis: MediaAnalysis, timeline: Timeline, span: TimeSpan) -> float | None:
    return _heard_share(analysis, span) if analysis.activity.detector == "level" else None


def _heard_share(analysis: MediaAnalysis, span: TimeSpan) -> float | None:
    if span.duration_us == 0:
        return None
    heard = sum(
        max(0, min(part.end_us, span.end_us) - max(part.start_us, span.start_us)) for part in analysis.activity.spans
    )
    return round(heard / span.duration_us, 4)


def _mean(values: Any) -> float | None:
    return round(float(values.mean()), 4) if len(values) else None


MEASUREMENTS: Final[dict[str, Measurement]] = {
    "duration_seconds": Measurement("number", 0, "length in seconds", _duration),
    "shot_count": Measurement("integer", 0, "shots that the segment touches (video)", _shot_count),
    "cut_times": Measurement("number", 1, "shot changes inside it, seconds from the item's start (video)", _cut_times),
    "brightness": Measurement("number", 0, "mean luma, 0 to 1 (pictures)", _brightness),
    "motion": Measurement("number", 0, "mean change of luma in a second, 0 to about 10 (video)", _motion),
    "dominant_colors": Measurement(
        "string", 1, "up to three coarse colours that cover most of the picture, as #rrggbb", _dominant_colors
    ),
    "loudness_dbfs": Measurement("number", 0, "RMS level in dB relative to full scale (sound)", _loudness),
    "peak_loudness_dbfs": Measurement("number", 0, "loudest tenth of a second, in dB (sound)", _peak_loudness),
    "speech_share": Measurement("number", 0, "share of the time in which speech is heard, 0 to 1", _speech_share),
    "sound_share": Measurement(
        "number", 0, "share of the time in which sound stands above its floor, where no speech is found", _sound_share
    ),
}
