"""Generated films with known shot changes, to measure shot detection.

`plan_films(half)` returns the films to render, with labels; `benchmarks.film_files` renders them with numpy and encodes
them with ffmpeg. Films depend on seeds only, so they are the same on every machine. This module does not depend on the
detector.

The two halves share no pictures: TUNE has hills, rooms, noise and figures; REPORT has cities, plasma, mosaics and
stages, with other seeds and other ranges of length, speed and transition time. Detector settings are tuned on TUNE only.

The films contain what misleads detectors: flashes of one to three frames, pans (including whip pans), zooms, shake,
large objects that cross the picture, exposure ramps, grain, consecutive shots with similar colours, cuts within one
location, fades to black and white, a fade-out at the end, and a single shot in constant motion. The encodings have
B-frames or none, at 24, 25 and 30 frames per second and at a variable rate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from benchmarks.film_pictures import Rng

TIMESCALE = 90_000  # ticks per second in the written files

Half = Literal["TUNE", "REPORT"]


@dataclass(frozen=True, slots=True)
class Label:
    """One true shot change, from the last frame that only shows the old shot to the first that only shows the new one.

    For a cut, both times are that of the new shot's first frame.
    """

    kind: Literal["cut", "dissolve", "fade", "wipe"]
    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class Change:
    """A transition between two shots: `out` + `hold` + `into` frames for a fade, `out` frames for a dissolve or wipe."""

    kind: Literal["cut", "dissolve", "fade", "wipe"]
    out: int = 0
    hold: int = 0
    into: int = 0
    level: float = 0.0  # target of a fade: 0 black, 255 white
    eased: bool = False
    axis: int = 1  # 1: a horizontal wipe

    @property
    def frames(self) -> int:
        """Number of frames that show both shots or neither."""
        return self.out + self.hold + self.into


@dataclass(frozen=True, slots=True)
class Shot:
    """The content of one shot. Positions are in frame widths, speeds in frame widths per second."""

    family: str
    canvas_seed: int
    palette_seed: int
    x: float
    y: float
    zoom: float
    move: Literal["still", "pan", "eased", "whip", "zoom", "shake"]
    speed: float
    heading: float
    objects: tuple[tuple[float, float, float, float, float, int], ...]  # x, y, radius, speed x, speed y, seed
    flashes: tuple[tuple[float, int], ...]  # time in seconds, frames
    ramp: float  # gain at the end of the shot; 1 for none
    grain: float
    frames: int  # frames outside transitions


@dataclass(frozen=True, slots=True)
class FilmPlan:
    """One film to render: content, encoding and labels."""

    name: str
    half: Half
    rate: int
    varying_rate: bool
    b_frames: int
    shots: tuple[Shot, ...]
    changes: tuple[Change, ...]
    fade_in: int
    fade_out: int

    @property
    def frame_count(self) -> int:
        return sum(s.frames for s in self.shots) + sum(c.frames for c in self.changes)

    def time_ticks(self, frame: int) -> int:
        """Return a frame's presentation time in `TIMESCALE` ticks.

        A variable rate halves for every other 50 frames and jitters by up to 5 ms, as in phone and screen recordings.
        """
        if not self.varying_rate:
            return frame * TIMESCALE // self.rate
        periods, rest = divmod(frame, 100)
        slots = periods * 150 + (rest if rest < 50 else 50 + (rest - 50) * 2)
        return slots * TIMESCALE // self.rate + (frame * 37 % 11 - 5) * TIMESCALE // 1000 + 5 * TIMESCALE // 1000

    def time_us(self, frame: int) -> int:
        return round(self.time_ticks(frame) * 1_000_000 / TIMESCALE)

    @property
    def labels(self) -> tuple[Label, ...]:
        labels, frame = [], 0
        for shot, change in zip(self.shots, self.changes, strict=False):
            frame += shot.frames
            new = frame + change.frames
            old = new if change.kind == "cut" else frame - 1
            labels.append(Label(change.kind, self.time_us(old), self.time_us(new)))
            frame = new
        return tuple(labels)


@dataclass(frozen=True, slots=True)
class _Style:
    """The parameter ranges of one half."""

    seed: int
    families: tuple[str, ...]
    shot_s: tuple[float, float]
    pan: tuple[float, float]
    shake: tuple[float, float]
    dissolve_s: tuple[float, float]
    fade_s: tuple[float, float]
    hold_s: tuple[float, float]
    grain: tuple[float, float]
    ramps: tuple[float, ...]


_STYLES: dict[Half, _Style] = {
    "TUNE": _Style(
        11,
        ("hills", "room", "noise", "figure"),
        (1.1, 3.2),
        (0.08, 0.7),
        (0.004, 0.03),
        (0.35, 1.7),
        (0.25, 0.8),
        (0.0, 0.5),
        (0, 7),
        (1.0, 1.0, 0.4, 0.6, 1.4, 2.0),
    ),
    "REPORT": _Style(
        7042,
        ("city", "plasma", "mosaic", "stage"),
        (1.0, 3.6),
        (0.05, 0.8),
        (0.003, 0.035),
        (0.4, 1.5),
        (0.2, 1.0),
        (0.0, 0.7),
        (0, 9),
        (1.0, 1.0, 1.0, 0.55, 1.6),
    ),
}

# name, rate, varying, B-frames, shots, chance of (dissolve, fade, wipe), chance of motion, chance of flash
_FILMS: tuple[tuple[str, int, bool, int, int, tuple[float, float, float], float, float], ...] = (
    ("calm", 24, False, 3, 15, (0.3, 0.05, 0.0), 0.35, 0.1),
    ("action", 25, False, 0, 17, (0.12, 0.0, 0.04), 0.95, 0.15),
    ("party", 30, False, 3, 15, (0.12, 0.08, 0.0), 0.5, 0.9),
    ("drama", 25, False, 2, 15, (0.2, 0.3, 0.0), 0.5, 0.1),
    ("phone", 30, True, 2, 14, (0.2, 0.07, 0.0), 0.7, 0.2),
    ("drift", 25, False, 2, 12, (0.35, 0.1, 0.0), 0.8, 0.0),
    *((f"restless{n}", 30, False, 0, 1, (0.0, 0.0, 0.0), 1.0, 0.5) for n in range(4)),
)


def plan_films(half: Half) -> tuple[FilmPlan, ...]:
    """Return the films of one half; the result is deterministic."""
    return tuple(_plan_film(half, index) for index in range(len(_FILMS)))


def _plan_film(half: Half, index: int) -> FilmPlan:
    name, rate, varying, b_frames, count, gradual, motion, flash = _FILMS[index]
    style = _STYLES[half]
    rng = np.random.default_rng([style.seed, *name.encode()])
    shots: list[Shot] = []
    for _ in range(count):
        shots.append(_plan_shot(rng, style, rate, shots[-1] if shots else None, motion, flash))
    if count == 1:  # a single long shot in constant motion, one per family
        move: Any = ("pan", "zoom", "whip", "shake")[index % 4]
        shots = [replace(shots[0], family=style.families[index % 4], move=move, frames=8 * rate)]
    changes = tuple(_plan_change(rng, style, rate, gradual) for _ in shots[1:])
    fade_in, fade_out = (rate // 2, rate) if name == "drama" else (0, 0)
    return FilmPlan(f"{half.lower()}-{name}", half, rate, varying, b_frames, tuple(shots), changes, fade_in, fade_out)


def _plan_shot(rng: Rng, style: _Style, rate: int, last: Shot | None, motion: float, flash: float) -> Shot:
    seconds = float(rng.uniform(*style.shot_s))
    similarity = rng.random()  # to the previous shot: the same location, the same colours, or neither
    family = str(rng.choice(style.families))
    canvas_seed, palette_seed = (int(v) for v in rng.integers(1 << 30, size=2))
    x, y, zoom = float(rng.uniform(0.1, 1.1)), float(rng.uniform(0.1, 1.1)), 1.0
    if last is not None and similarity < 0.35:
        family, palette_seed = last.family, last.palette_seed
        if similarity < 0.12:  # another view of the same location: half a frame away, or a close-up
            canvas_seed = last.canvas_seed
            x, y, zoom = (last.x + 0.6) % 1.2, (last.y + 0.5) % 1.2, (1.0 if last.zoom > 1 else 1.7)
    move: Any = "still"
    if rng.random() < motion:
        move = str(rng.choice(["pan", "eased", "whip", "zoom", "shake", "pan"]))
    speed = float(rng.uniform(*(style.shake if move == "shake" else style.pan)))
    objects = []
    for _ in range(int(rng.integers(0, 4))):
        big = rng.random() < 0.15
        radius = float(rng.uniform(0.25, 0.4) if big else rng.uniform(0.03, 0.12))
        objects.append(
            (
                float(rng.uniform(-0.3, 1.3)),
                float(rng.uniform(0.1, 0.5)),
                radius,
                float(rng.uniform(-0.6, 0.6)),
                float(rng.uniform(-0.15, 0.15)),
                int(rng.integers(1 << 30)),
            )
        )
    flashes = []
    if rng.random() < flash:
        flashes = [
            (float(rng.uniform(0.1, 0.95)) * seconds, int(rng.integers(1, 4))) for _ in range(int(rng.integers(1, 3)))
        ]
    ramp = float(rng.choice(style.ramps))
    return Shot(
        family,
        canvas_seed,
        palette_seed,
        x,
        y,
        zoom,
        move,
        speed,
        float(rng.uniform(0, 2 * np.pi)),
        tuple(objects),
        tuple(flashes),
        ramp,
        float(rng.uniform(*style.grain)),
        max(round(seconds * rate), 8),
    )


def _plan_change(rng: Rng, style: _Style, rate: int, gradual: tuple[float, float, float]) -> Change:
    def frames(span: tuple[float, float]) -> int:
        return max(round(float(rng.uniform(*span)) * rate), 3)

    draw = rng.random()
    if draw < gradual[0]:
        return Change("dissolve", frames(style.dissolve_s), eased=bool(rng.random() < 0.3))
    if draw < gradual[0] + gradual[1]:
        level = 255.0 if rng.random() < 0.25 else 0.0
        return Change(
            "fade",
            frames(style.fade_s),
            round(float(rng.uniform(*style.hold_s)) * rate),
            frames(style.fade_s),
            level,
        )
    if draw < sum(gradual):
        return Change("wipe", frames((0.5, 1.0)), axis=int(rng.integers(0, 2)))
    return Change("cut")
