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

Each film belongs to a group: `general`, or the difficulty that it tests: `dark` (mean luma of about 5 to
30 of 255), `leaders` (black before the first and after the last shot), `sweeps` (objects that cross a still
background) and `lights` (lamps that flicker or dim over a still scene).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.film_pictures import Rng
from benchmarks.film_plans import MIN_LEADER_S, Change, FilmPlan, Group, Half, Lamp, Shot, Sweep


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
    dark: tuple[float, float]
    black: float
    sweep_s: tuple[float, float]
    sweep_width: tuple[float, float]
    close_width: tuple[float, float]
    depth: tuple[float, float]


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
        dark=(5, 28),
        black=10.0,
        sweep_s=(0.5, 2.5),
        sweep_width=(0.2, 0.9),
        close_width=(1.1, 2.0),
        depth=(0.2, 0.7),
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
        dark=(5, 30),
        black=16.0,
        sweep_s=(0.4, 3.0),
        sweep_width=(0.15, 1.1),
        close_width=(1.0, 2.2),
        depth=(0.15, 0.75),
    ),
}


@dataclass(frozen=True, slots=True)
class _Recipe:
    """The parameters from which one film is drawn."""

    name: str
    rate: int
    varying_rate: bool
    b_frames: int
    shots: int
    gradual: tuple[float, float, float]  # chance of a dissolve, fade and wipe
    motion: float  # chance
    flash: float  # chance
    group: Group = "general"
    dark: float = 0.0  # chance
    close: bool = False  # objects pass close to the camera and fill the picture


_FILMS: tuple[_Recipe, ...] = (
    _Recipe("calm", 24, False, 3, 15, (0.3, 0.05, 0.0), 0.35, 0.1),
    _Recipe("action", 25, False, 0, 17, (0.12, 0.0, 0.04), 0.95, 0.15),
    _Recipe("party", 30, False, 3, 15, (0.12, 0.08, 0.0), 0.5, 0.9),
    _Recipe("drama", 25, False, 2, 15, (0.2, 0.3, 0.0), 0.5, 0.1),
    _Recipe("phone", 30, True, 2, 14, (0.2, 0.07, 0.0), 0.7, 0.2),
    _Recipe("drift", 25, False, 2, 12, (0.35, 0.1, 0.0), 0.8, 0.0),
    *(_Recipe(f"restless{n}", 30, False, 0, 1, (0.0, 0.0, 0.0), 1.0, 0.5) for n in range(4)),
    _Recipe("mixed", 25, False, 2, 14, (0.25, 0.2, 0.0), 0.5, 0.1),
    _Recipe("night0", 24, False, 3, 16, (0.1, 0.1, 0.0), 0.4, 0.05, "dark", 1.0),
    _Recipe("night1", 30, True, 2, 16, (0.1, 0.1, 0.0), 0.7, 0.05, "dark", 1.0),
    _Recipe("dusk", 25, False, 0, 12, (0.1, 0.1, 0.0), 0.5, 0.05, "dark", 0.5),
    *(_Recipe(f"leader{n}", 25, False, n % 3, 2, (0.1, 0.0, 0.0), 0.4, 0.0, "leaders", 0.25) for n in range(10)),
    _Recipe("sweep0", 25, False, 2, 8, (0.25, 0.0, 0.0), 0.0, 0.0, "sweeps"),
    _Recipe("sweep1", 30, True, 0, 8, (0.25, 0.0, 0.0), 0.0, 0.0, "sweeps"),
    _Recipe("close0", 25, False, 2, 8, (0.25, 0.0, 0.0), 0.0, 0.0, "sweeps", close=True),
    _Recipe("close1", 24, False, 0, 8, (0.25, 0.0, 0.0), 0.0, 0.0, "sweeps", close=True),
    _Recipe("lights0", 25, False, 2, 8, (0.25, 0.0, 0.0), 0.0, 0.0, "lights"),
    _Recipe("lights1", 30, True, 0, 8, (0.25, 0.0, 0.0), 0.2, 0.0, "lights"),
)


def plan_films(half: Half) -> tuple[FilmPlan, ...]:
    """Return the films of one half; the result is deterministic."""
    return tuple(_plan_film(half, recipe, index) for index, recipe in enumerate(_FILMS))


def _plan_film(half: Half, recipe: _Recipe, index: int) -> FilmPlan:
    style, rate = _STYLES[half], recipe.rate
    rng = np.random.default_rng([style.seed, *recipe.name.encode()])
    shots: list[Shot] = []
    for _ in range(recipe.shots):
        shots.append(_plan_shot(rng, style, rate, shots[-1] if shots else None, recipe.motion, recipe.flash))
    if recipe.shots == 1:  # a single long shot in constant motion, one per family
        move: Any = ("pan", "zoom", "whip", "shake")[index % 4]
        shots = [replace(shots[0], family=style.families[index % 4], move=move, frames=8 * rate)]
    changes = tuple(_plan_change(rng, style, rate, recipe.gradual) for _ in shots[1:])
    # Drawn last, so that the films of `general` do not change.
    shots = [_add_difficulty(rng, style, recipe, shot) for shot in shots]
    fade_in, fade_out = (rate // 2, rate) if recipe.name == "drama" else (0, 0)
    leader = tail = 0
    if recipe.group == "leaders":
        leader, fade_in = _plan_black(rng, rate)
        tail, fade_out = _plan_black(rng, rate)
    return FilmPlan(
        f"{half.lower()}-{recipe.name}",
        half,
        rate,
        recipe.varying_rate,
        recipe.b_frames,
        tuple(shots),
        changes,
        fade_in,
        fade_out,
        recipe.group,
        leader,
        tail,
        float(rng.uniform(0, style.black)) if recipe.group == "leaders" else 0.0,
    )


def _plan_black(rng: Rng, rate: int) -> tuple[int, int]:
    """Return the frames of black at one end of a film, and those of its fade."""
    seconds = rng.uniform(0.04, 0.14) if rng.random() < 0.2 else rng.uniform(0.5, 2.5)
    ramp = rng.uniform(0.3, 1.0) if rng.random() < 0.5 and seconds >= MIN_LEADER_S else 0.0
    return round(float(seconds) * rate), round(float(ramp) * rate)


def _add_difficulty(rng: Rng, style: _Style, recipe: _Recipe, shot: Shot) -> Shot:
    """Add the difficulty that the film's group tests."""
    if recipe.dark and rng.random() < recipe.dark:
        level = float(np.exp(rng.uniform(*np.log(style.dark))))
        shot = replace(shot, level=level, grain=min(shot.grain, 3.0), ramp=1.0)
    if recipe.group in ("sweeps", "lights"):
        shot = replace(shot, ramp=1.0, objects=(), frames=round(shot.frames * 1.6))
    seconds = shot.frames / recipe.rate
    if recipe.group == "sweeps":
        count = 1 if recipe.close else int(rng.integers(1, 3))
        sweeps = tuple(_plan_sweep(rng, style, seconds, recipe.close) for _ in range(count))
        return replace(shot, sweeps=sweeps)
    if recipe.group == "lights":
        kind: Any = str(rng.choice(["flicker", "breathe", "dim"]))
        return replace(
            shot,
            lamp=Lamp(
                kind,
                float(rng.uniform(*style.depth)),
                int(rng.integers(1 << 30)),
                float(rng.uniform(0.3, 0.8)) if rng.random() < 0.6 else 0.0,
                float(rng.uniform(0.1, 0.9)),
                float(rng.uniform(0.0, 0.5)),
                (1.0, float(rng.uniform(0.7, 1.0)), float(rng.uniform(0.4, 1.0))),
            ),
        )
    return shot


def _plan_sweep(rng: Rng, style: _Style, seconds: float, close: bool) -> Sweep:
    top = float(rng.uniform(0.0, 0.2 if close else 0.4))
    width = style.close_width if close else style.sweep_width
    return Sweep(
        float(rng.uniform(0.1, 0.3 if close else 0.6)) * seconds,
        float(rng.uniform(*style.sweep_s)),
        float(rng.uniform(*width)),
        top,
        1.0 if close else float(rng.uniform(top + 0.4, 1.3)),
        float(rng.choice([0.0, 0.1, 0.6] if close else [0.0, 0.05, 0.3])),
        float(rng.choice([1.0, 1.0, 0.6])),
        int(rng.integers(1 << 30)),
        bool(rng.random() < 0.5),
        bool(rng.random() < 0.5),
    )


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
