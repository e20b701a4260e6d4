"""The built-in model `signals`: fills fields with measurements. Needs no key and no network."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from promptreel.media.analysis import ANALYSIS_FILE, TIMELINE_FILE, MediaAnalysis, load_analysis
from promptreel.media.timeline import Timeline, load_timeline
from promptreel.providers import on_screen_text
from promptreel.providers.base import ModelAnswer, ModelRequest, Provider, SegmentInput
from promptreel.providers.transcript import text_of
from promptreel.schemas.errors import PromptError, SettingsError
from promptreel.schemas.field_paths import LeafField, leaf_fields, parse_schema
from promptreel.schemas.media import SampledFrame, TimeSpan
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.settings import RunSettings
from promptreel.schemas.speech_rows import Word

VERSION: Final = 1
_MAX_DOMINANT_COLOURS: Final = 3
_MIN_DOMINANT_SHARE: Final = 0.05  # of the picture


@dataclass(frozen=True)
class Material:
    """The input of the measurements: one span of an item.

    Attributes:
        frames: the sampled frames of the span.
        words: the words spoken in the span; None without a transcript.
    """

    analysis: MediaAnalysis
    timeline: Timeline
    span: TimeSpan
    folder: Path
    frames: tuple[SampledFrame, ...]
    words: tuple[Word, ...] | None


@dataclass(frozen=True)
class Measurement:
    """One field that can be measured.

    Attributes:
        type, list_depth: required of the leaf in the schema.
        meaning: one line for users, with the unit.
        measure: returns the value for a span; None if it does not apply to the item.
        parts: leaves of each element, with their types, if the field is a list of objects.
    """

    type: str
    list_depth: int
    meaning: str
    measure: Callable[[Material], Any]
    parts: Mapping[str, str] = field(default_factory=dict)


def build_provider(settings: RunSettings) -> SignalsProvider:
    """Return the built-in provider; an entry point (`promptreel.providers.plugins`).

    Raises:
        SettingsError: the name is not exactly that of the one model.
    """
    if settings.model.model != SignalsProvider.name:
        raise SettingsError(f"model {settings.model.model!r} has a name after the prefix; use {SignalsProvider.name!r}")
    return SignalsProvider()


class SignalsProvider(Provider):
    """Measures the media instead of calling a model."""

    name = "signals"
    is_called = False
    gives_evidence = False

    def fingerprint(self) -> Mapping[str, Any]:
        return {"provider": "signals", "version": VERSION}

    def reads_transcript(self, prompt: Prompt) -> bool:
        return bool(_requested_measurements(prompt) & _SPEECH_FIELDS)

    def material(self, prompt: Prompt) -> Mapping[str, Any]:
        reads_screen = bool(_requested_measurements(prompt) & _ON_SCREEN_FIELDS) and on_screen_text.is_available()
        return {"on_screen_text": on_screen_text.fingerprint() if reads_screen else None}

    def check_prompt(self, prompt: Prompt) -> None:
        _check_fields("json_schema", prompt.leaves)
        if prompt.video_level is not None:
            _check_fields("video_level.json_schema", prompt.video_level.leaves)

    async def call(self, request: ModelRequest, prepared: Any) -> ModelAnswer:
        assert request.media is not None, "signals needs media in the request"
        values, missing = await asyncio.to_thread(_measure_schema, request.json_schema, request.media)
        return ModelAnswer(text=json.dumps(values), finish_reason="STOP", warning="; ".join(missing) or None)


def _requested_measurements(prompt: Prompt) -> set[str]:
    """Return the names of the measurements that a prompt requests."""
    leaves = (*prompt.leaves, *(prompt.video_level.leaves if prompt.video_level is not None else ()))
    return {_measurement_name(leaf) for leaf in leaves}


def _measurement_name(leaf: LeafField) -> str:
    """Return the name of a leaf's measurement: its own name, or the name of the list of objects that contains it."""
    *parents, last = leaf.path.split(".")
    return parents[-1].removesuffix("[]") if parents and parents[-1].endswith("[]") else last


def _check_fields(schema_name: str, leaves: tuple[LeafField, ...]) -> None:
    mismatches = [_mismatch(leaf) for leaf in leaves if _mismatch(leaf)]
    if mismatches or not leaves:
        known = "; ".join(f"{name} ({_type_name(m)}): {m.meaning}" for name, m in MEASUREMENTS.items())
        raise PromptError(
            f"the built-in model 'signals' cannot fill {', '.join(filter(None, mismatches)) or 'any field'} "
            f"of {schema_name}. It can measure: {known}. Request only these fields, or choose another model with "
            "--model NAME; a Gemini model needs GEMINI_API_KEY"
        )


def _mismatch(leaf: LeafField) -> str | None:
    known = MEASUREMENTS.get(_measurement_name(leaf))
    if known is None:
        return f"'{leaf.path}'"
    required = known.parts.get(leaf.name) if known.parts else known.type
    same_type = leaf.type == required or (leaf.type, required) == ("number", "integer")
    in_lists = leaf.path.count("[]")
    if leaf.list_depth != known.list_depth or not same_type or in_lists != int(bool(known.parts)):
        return f"'{leaf.path}' (measured as {_type_name(known)})"
    return None


def _type_name(measurement: Measurement) -> str:
    if measurement.parts:
        return f"array of objects of {', '.join(f'{name} {kind}' for name, kind in measurement.parts.items())}"
    return f"array of {measurement.type}" if measurement.list_depth else measurement.type


def _measure_schema(json_schema: Mapping[str, Any], media: SegmentInput) -> tuple[dict[str, Any], list[str]]:
    """Return the measured values, and what cannot be measured on this machine, with the fix."""
    analysis, timeline = _load_item(media.folder)
    material = Material(analysis, timeline, media.span, media.folder, media.frames, media.words)
    measured: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for leaf in leaf_fields(parse_schema(json_schema)):
        name = _measurement_name(leaf)
        if name not in measured:
            measured[name] = MEASUREMENTS[name].measure(material)
        if measured[name] is not None:
            _store(values, leaf, MEASUREMENTS[name], measured[name])
    return values, _missing(set(measured), material)


def _store(values: dict[str, Any], leaf: LeafField, measurement: Measurement, value: Any) -> None:
    """Store a measured value at the path of its leaf; of a list of objects, only the requested parts."""
    *parents, last = leaf.path.split(".")
    elements = parents.pop().removesuffix("[]") if measurement.parts else None
    node = values
    for parent in parents:
        node = node.setdefault(parent, {})
    if elements is None:
        node[last] = value
        return
    rows = node.setdefault(elements, [{} for _ in value])
    for row, element in zip(rows, value, strict=True):
        row[last] = element[last]


def _missing(names: set[str], material: Material) -> list[str]:
    """Return what cannot be measured because a local model is missing, with the fix."""
    missing = []
    if names & _SPEECH_FIELDS and material.words is None and material.analysis.audio_file is not None:
        missing.append("no transcript: see `promptreel doctor`")
    if names & _ON_SCREEN_FIELDS and material.frames and not on_screen_text.is_available():
        weights = on_screen_text.find_weights()
        missing.append(f"no on-screen text: {weights.reason}; {weights.fix}")
    return missing


@functools.lru_cache(maxsize=4)  # the segments of one item are usually consecutive
def _load_item(folder: Path) -> tuple[MediaAnalysis, Timeline]:
    return load_analysis((folder / ANALYSIS_FILE).read_bytes()), load_timeline(folder / TIMELINE_FILE)


def _duration(m: Material) -> float:
    return seconds_from_us(m.span.duration_us)


def _cut_times(m: Material) -> list[float] | None:
    if m.analysis.info.media_type != "video":
        return None
    return [seconds_from_us(t.at_us) for t in m.analysis.transitions if m.span.start_us < t.at_us < m.span.end_us]


def _shot_count(m: Material) -> int | None:
    cuts = _cut_times(m)
    return None if cuts is None else len(cuts) + 1


def _brightness(m: Material) -> float | None:
    return _mean(m.timeline.brightness[m.timeline.picture_bins(m.span)])


def _motion(m: Material) -> float | None:
    if m.analysis.info.media_type != "video":
        return None
    return _mean(m.timeline.motion[m.timeline.picture_bins(m.span)])


def _dominant_colors(m: Material) -> list[str] | None:
    shares = m.timeline.colours[m.timeline.picture_bins(m.span)].astype(np.float64)
    if len(shares) == 0:
        return None
    mean = shares.mean(axis=0) / 255
    order = np.argsort(-mean, kind="stable")[:_MAX_DOMINANT_COLOURS]
    return [_hex_of_bin(int(index)) for index in order if mean[index] >= _MIN_DOMINANT_SHARE]


def _hex_of_bin(index: int) -> str:
    """Return the middle of a colour bin: 4 levels of 64 per channel, red slowest."""
    return "#" + "".join(f"{level * 64 + 32:02x}" for level in (index >> 4, (index >> 2) & 3, index & 3))


def _loudness(m: Material) -> float | None:
    levels = m.timeline.loudness_dbfs[m.timeline.sound_bins(m.span)].astype(np.float64)
    if len(levels) == 0:
        return None
    return round(float(10 * np.log10(np.mean(10 ** (levels / 10)))), 2)  # mean of power, not of decibels


def _peak_loudness(m: Material) -> float | None:
    levels = m.timeline.loudness_dbfs[m.timeline.sound_bins(m.span)]
    return round(float(levels.max()), 2) if len(levels) else None


def _speech_share(m: Material) -> float | None:
    return _active_share(m) if m.analysis.activity.detector == "silero" else None


def _sound_share(m: Material) -> float | None:
    return _active_share(m) if m.analysis.activity.detector == "level" else None


def _active_share(m: Material) -> float | None:
    span = m.span
    if span.duration_us == 0:
        return None
    active_us = sum(
        max(0, min(part.end_us, span.end_us) - max(part.start_us, span.start_us)) for part in m.analysis.activity.spans
    )
    return round(active_us / span.duration_us, 4)


def _transcript(m: Material) -> str | None:
    return None if m.words is None else text_of(m.words)


def _word_count(m: Material) -> int | None:
    return None if m.words is None else len(m.words)


def _on_screen_lines(m: Material) -> list[dict[str, Any]] | None:
    if not m.frames or not on_screen_text.is_available():
        return None
    # A segment's first frame may precede it, because it is still shown at its start; it counts only if it is the only one.
    inside = tuple(frame for frame in m.frames if m.span.start_us <= frame.time_us < m.span.end_us)
    lines = on_screen_text.read_screen(m.folder, inside or m.frames)
    return [
        {"text": line.text, "first_seen": seconds_from_us(line.first_us), "last_seen": seconds_from_us(line.last_us)}
        for line in lines
    ]


def _on_screen_text(m: Material) -> list[str] | None:
    lines = _on_screen_lines(m)
    return None if lines is None else [line["text"] for line in lines]


def _mean(values: Any) -> float | None:
    return round(float(values.mean()), 4) if len(values) else None


MEASUREMENTS: Final[dict[str, Measurement]] = {
    "duration_seconds": Measurement("number", 0, "length in seconds", _duration),
    "shot_count": Measurement(
        "integer", 0, "number of shots in the segment, including partial ones (video)", _shot_count
    ),
    "cut_times": Measurement(
        "number", 1, "shot changes in the segment, in seconds from the start of the item (video)", _cut_times
    ),
    "brightness": Measurement("number", 0, "mean luma, 0 to 1 (video and images)", _brightness),
    "motion": Measurement("number", 0, "mean change of luma per second, 0 to about 10 (video)", _motion),
    "dominant_colors": Measurement(
        "string", 1, "up to three coarse colours that cover most of the picture, as #rrggbb", _dominant_colors
    ),
    "loudness_dbfs": Measurement("number", 0, "RMS level in dB relative to full scale (sound)", _loudness),
    "peak_loudness_dbfs": Measurement(
        "number", 0, "level of the loudest tenth of a second, in dB relative to full scale (sound)", _peak_loudness
    ),
    "speech_share": Measurement("number", 0, "share of the time with speech, 0 to 1", _speech_share),
    "sound_share": Measurement(
        "number",
        0,
        "share of the time with sound above the noise floor, 0 to 1 (without speech detection)",
        _sound_share,
    ),
    "transcript": Measurement("string", 0, "spoken words as text (needs a speech model)", _transcript),
    "word_count": Measurement("integer", 0, "number of spoken words (needs a speech model)", _word_count),
    "on_screen_text": Measurement("string", 1, "distinct lines of on-screen text", _on_screen_text),
    "on_screen_lines": Measurement(
        "object",
        1,
        "distinct lines of on-screen text, with the first and last time of each in seconds from the start of the item",
        _on_screen_lines,
        {"text": "string", "first_seen": "number", "last_seen": "number"},
    ),
}

_SPEECH_FIELDS: Final = frozenset({"transcript", "word_count"})
_ON_SCREEN_FIELDS: Final = frozenset({"on_screen_text", "on_screen_lines"})
