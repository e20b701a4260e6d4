"""Generated films with known changes of shot, to measure shot detection on.

`plan_films(half)` says what to render and what its labels are; `write_film` renders with numpy and encodes
with ffmpeg. Everything follows from the seeds, so two machines get the same pictures. Nothing here knows the
detector.

The two halves share no picture: TUNE draws hills, rooms, noise and figures; REPORT draws cities, plasma,
mosaics and stages, from other seeds and other ranges of length, speed and transition time. Settings are
chosen on TUNE alone.

What the films hold to trip a detector: flashes of one to three frames, pans (also whip pans), zooms, shake,
big objects that cross the picture, exposure ramps, grain, neighbouring shots of like colours, cuts inside
one location, fades to black and white, a fade-out at the very end, a film of a single restless shot. Encodes
are with and without B-frames, at 24, 25 and 30 frames a second and at a varying rate.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from promptreel.media.ffmpeg import find_ffmpeg

__all__ = ["FilmPlan", "Half", "Label", "plan_films", "write_film"]

WIDTH, HEIGHT = 256, 144
_CANVAS_WIDTH, _CANVAS_HEIGHT = 564, 316  # 2.2 frames each way: room for the camera
_TIMESCALE = 90_000  # ticks a second of the written files

Half = Literal["TUNE", "REPORT"]
_Canvas = NDArray[np.float32]
_Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Label:
    """One true change of shot. `start_us` is the last frame wholly of the old shot and `end_us` the first
    wholly of the new one; for a cut both are the time of the new shot's first frame."""

    kind: Literal["cut", "dissolve", "fade", "wipe"]
    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class _Change:
    """How a shot gives way to the next: `out` + `hold` + `into` frames for a fade, `out` frames for a
    dissolve or wipe."""

    kind: Literal["cut", "dissolve", "fade", "wipe"]
    out: int = 0
    hold: int = 0
    into: int = 0
    level: float = 0.0  # what a fade goes to: 0 black, 255 white
    eased: bool = False
    axis: int = 1  # 1: a wipe runs sideways

    @property
    def frames(self) -> int:
        """Frames that are wholly of neither shot."""
        return self.out + self.hold + self.into


@dataclass(frozen=True, slots=True)
class _Shot:
    """What one shot shows. Positions and speeds are in frame widths and frame widths a second."""

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
    ramp: float  # gain reached over the shot: 1 is none
    grain: float
    frames: int  # frames wholly of this shot


@dataclass(frozen=True, slots=True)
class FilmPlan:
    """One film to be: what it shows, how it is encoded, and its labels."""

    name: str
    half: Half
    rate: int
    varying_rate: bool
    b_frames: int
    shots: tuple[_Shot, ...]
    changes: tuple[_Change, ...]
    fade_in: int
    fade_out: int

    @property
    def frame_count(self) -> int:
        return sum(s.frames for s in self.shots) + sum(c.frames for c in self.changes)

    def time_ticks(self, frame: int) -> int:
        """Presentation time of a frame in `_TIMESCALE` ticks. A varying rate halves for every other 50
        frames and jitters by up to 5 ms, as phones and screen recorders do."""
        if not self.varying_rate:
            return frame * _TIMESCALE // self.rate
        whole, part = divmod(frame, 100)
        slots = whole * 150 + (part if part < 50 else 50 + (part - 50) * 2)
        return slots * _TIMESCALE // self.rate + (frame * 37 % 11 - 5) * _TIMESCALE // 1000 + 5 * _TIMESCALE // 1000

    def time_us(self, frame: int) -> int:
        return round(self.time_ticks(frame) * 1_000_000 / _TIMESCALE)

    @property
    def labels(self) -> tuple[Label, ...]:
        found, frame = [], 0
        for shot, change in zip(self.shots, self.changes, strict=False):
            frame += shot.frames
            new = frame + change.frames
            old = new if change.kind == "cut" else frame - 1
            found.append(Label(change.kind, self.time_us(old), self.time_us(new)))
            frame = new
        return tuple(found)


# ------------------------------------------------------------------------------------------------------ plans


@dataclass(frozen=True, slots=True)
class _Style:
    """The ranges from which one half draws."""

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
    """The films of one half, always the same."""
    return tuple(_plan_film(half, at) for at in range(len(_FILMS)))


def _plan_film(half: Half, at: int) -> FilmPlan:
    name, rate, varying, b_frames, count, gradual, motion, flash = _FILMS[at]
    style = _STYLES[half]
    rng = np.random.default_rng([style.seed, *name.encode()])
    shots: list[_Shot] = []
    for _ in range(count):
        shots.append(_plan_shot(rng, style, rate, shots[-1] if shots else None, motion, flash))
    if count == 1:  # a single long shot that never rests, over each of the families in turn
        move: Any = ("pan", "zoom", "whip", "shake")[at % 4]
        shots = [replace(shots[0], family=style.families[at % 4], move=move, frames=8 * rate)]
    changes = tuple(_plan_change(rng, style, rate, gradual) for _ in shots[1:])
    fade_in, fade_out = (rate // 2, rate) if name == "drama" else (0, 0)
    return FilmPlan(f"{half.lower()}-{name}", half, rate, varying, b_frames, tuple(shots), changes, fade_in, fade_out)


def _plan_shot(rng: _Rng, style: _Style, rate: int, last: _Shot | None, motion: float, flash: float) -> _Shot:
    seconds = float(rng.uniform(*style.shot_s))
    kin = rng.random()  # how near to the shot before: the same place, the same colours, or neither
    family = str(rng.choice(style.families))
    canvas_seed, palette_seed = (int(v) for v in rng.integers(1 << 30, size=2))
    x, y, zoom = float(rng.uniform(0.1, 1.1)), float(rng.uniform(0.1, 1.1)), 1.0
    if last is not None and kin < 0.35:
        family, palette_seed = last.family, last.palette_seed
        if kin < 0.12:  # another view of the same place: half a frame away or close up
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
    return _Shot(
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


def _plan_change(rng: _Rng, style: _Style, rate: int, gradual: tuple[float, float, float]) -> _Change:
    def frames(span: tuple[float, float]) -> int:
        return max(round(float(rng.uniform(*span)) * rate), 3)

    draw = rng.random()
    if draw < gradual[0]:
        return _Change("dissolve", frames(style.dissolve_s), eased=bool(rng.random() < 0.3))
    if draw < gradual[0] + gradual[1]:
        level = 255.0 if rng.random() < 0.25 else 0.0
        return _Change(
            "fade",
            frames(style.fade_s),
            round(float(rng.uniform(*style.hold_s)) * rate),
            frames(style.fade_s),
            level,
        )
    if draw < sum(gradual):
        return _Change("wipe", frames((0.5, 1.0)), axis=int(rng.integers(0, 2)))
    return _Change("cut")


# --------------------------------------------------------------------------------------------------- pictures


def _upsample(coarse: NDArray[Any], height: int, width: int) -> _Canvas:
    """Bilinear enlargement of [h, w] or [h, w, c]."""

    def weights(size: int, cells: int) -> NDArray[np.float32]:
        at = np.linspace(0, cells - 1, size)
        low = np.minimum(at.astype(int), cells - 2)
        matrix = np.zeros((size, cells), np.float32)
        matrix[np.arange(size), low] = 1 - (at - low)
        matrix[np.arange(size), low + 1] = at - low
        return matrix

    rows, cols = weights(height, coarse.shape[0]), weights(width, coarse.shape[1])
    planes = np.atleast_3d(coarse).astype(np.float32)
    out = np.stack([rows @ planes[..., c] @ cols.T for c in range(planes.shape[2])], axis=2)
    return out if coarse.ndim == 3 else out[..., 0]


def _fractal(rng: _Rng, first: int, octaves: int, falloff: float = 0.55) -> _Canvas:
    """Value noise of the canvas' shape, 0..1."""
    total = np.zeros((_CANVAS_HEIGHT, _CANVAS_WIDTH), np.float32)
    weight = 0.0
    for octave in range(octaves):
        cells = first * 2**octave
        total += falloff**octave * _upsample(
            rng.random((max(cells * 9 // 16, 2) + 1, cells + 1)), _CANVAS_HEIGHT, _CANVAS_WIDTH
        )
        weight += falloff**octave
    return total / np.float32(weight)


def _palette(seed: int, count: int) -> NDArray[np.float32]:
    """`count` related colours, float32[count, 3], 0..255."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(40, 200, 3)
    return np.clip(base + rng.normal(0, 45, (count, 3)), 5, 250).astype(np.float32)


def _shade(values: _Canvas, colours: NDArray[np.float32]) -> _Canvas:
    """Colours for values 0..1: float32[h, w, 3]."""
    stops = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(values, stops, colours[:, c]) for c in range(3)], axis=2).astype(np.float32)


def _mesh() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    y, x = np.mgrid[0:_CANVAS_HEIGHT, 0:_CANVAS_WIDTH].astype(np.float32)
    return y / HEIGHT, x / WIDTH


def _hills(rng: _Rng, colours: NDArray[np.float32]) -> _Canvas:
    y, _ = _mesh()
    out = _shade(np.clip(y / 2.2, 0, 1), colours[:2])
    for layer in range(4):
        ridge = (
            0.5
            + 0.4 * layer
            + 0.5 * np.interp(np.arange(_CANVAS_WIDTH), np.linspace(0, _CANVAS_WIDTH, 9), rng.normal(0, 0.5, 9))
        )
        ground = _shade(_fractal(rng, 12, 3), colours[2 + layer % 3 : 4 + layer % 3] * (1 - 0.12 * layer))
        out = np.where((y > ridge[None, :])[..., None], ground, out)
    return out


def _room(rng: _Rng, colours: NDArray[np.float32]) -> _Canvas:
    out = np.broadcast_to(colours[0], (_CANVAS_HEIGHT, _CANVAS_WIDTH, 3)).copy()
    out[int(_CANVAS_HEIGHT * 0.65) :] = colours[1]
    for _ in range(40):
        h, w = int(rng.integers(6, 90)), int(rng.integers(6, 100))
        top, left = int(rng.integers(0, _CANVAS_HEIGHT - h)), int(rng.integers(0, _CANVAS_WIDTH - w))
        out[top : top + h, left : left + w] = colours[int(rng.integers(2, len(colours)))] * rng.uniform(0.5, 1.2)
    return out * (0.75 + 0.5 * _fractal(rng, 3, 1))[..., None]


def _noise(rng: _Rng, colours: NDArray[np.float32]) -> _Canvas:
    return _shade(np.clip(_fractal(rng, int(rng.integers(2, 12)), int(rng.integers(1, 5))) * 2 - 0.5, 0, 1), colours)


def _figure(rng: _Rng, colours: NDArray[np.float32]) -> _Canvas:
    out = _shade(_fractal(rng, 4, 1), colours[:3])
    y, x = _mesh()
    for _ in range(7):
        cx, cy, size = rng.uniform(0, 2.2), rng.uniform(0.2, 2.0), rng.uniform(0.2, 0.45)
        head = ((x - cx) * 1.78 / size) ** 2 + ((y - cy) / size / 1.2) ** 2 < 1
        body = (np.abs(x - cx) * 1.78 < size * 2) & (y > cy + size)
        out = np.where(body[..., None], colours[3] * rng.uniform(0.5, 1.2), out)
        out = np.where(head[..., None], np.array([205, 160, 130], np.float32) * rng.uniform(0.6, 1.1), out)
    return out


def _city(rng: _Rng, colours: NDArray[np.float32]) -> _Canvas:
    y, _ = _mesh()
    out = _shade(np.clip(y / 2.2, 0, 1), colours[:3])
    left = 0
    while left < _CANVAS_WIDTH:
        width, top = int(rng.integers(18, 70)), int(rng.integers(20, _CANVAS_HEIGHT - 120))
        out[top:, left : left + width] = colours[int(rng.integers(3, len(colours)))] * rng.uniform(0.3, 1.0)
        lit = rng.random(((_CANVAS_HEIGHT - top) // 12, max(width // 10, 1))) < 0.4
        for row, col in np.argwhere(lit):
            out[top + row * 12 + 3 : top + row * 12 + 9, left + col * 10 + 2 : left + min(col * 10 + 7, width)] = (
                240,
                220,
                150,
            )
        left += width
    return out


def _plasma(rng: _Rng, colours: NDArray[np.float32]) -> _Canvas:
    y, x = _mesh()
    waves = [
        np.sin(rng.uniform(2, 16) * (x * np.cos(a) + y * np.sin(a)) + rng.uniform(0, 6))
        for a in rng.uniform(0, np.pi, 6)
    ]
    return _shade((np.mean(waves, axis=0) * 0.9 + 0.5).astype(np.float32), colours)


def _mosaic(rng: _Rng, colours: NDArray[np.float32]) -> _Canvas:
    y, x = _mesh()
    count = int(rng.integers(30, 120))
    nearest = np.full(y.shape, np.inf, np.float32)
    out = np.zeros((*y.shape, 3), np.float32)
    for cx, cy in rng.uniform(0, 2.2, (count, 2)):
        away = (x - cx) ** 2 * 3.2 + (y - cy) ** 2
        out = np.where(
            (away < nearest)[..., None],
            colours[int(rng.integers(len(colours)))] * np.float32(rng.uniform(0.5, 1.2)),
            out,
        )
        nearest = np.minimum(nearest, away)
    return out


def _stage(rng: _Rng, colours: NDArray[np.float32]) -> _Canvas:
    y, x = _mesh()
    out = _shade(_fractal(rng, 6, 2), colours[:2]) * 0.15
    for _ in range(10):
        cx, cy, size = rng.uniform(0, 2.2), rng.uniform(0, 2.2), rng.uniform(0.15, 0.5)
        glow = np.exp(-(((x - cx) * 1.78) ** 2 + (y - cy) ** 2) / size**2)
        out = out + glow[..., None] * colours[int(rng.integers(len(colours)))] * np.float32(0.8)
    return out


_FAMILIES: dict[str, Callable[[_Rng, NDArray[np.float32]], _Canvas]] = {
    "hills": _hills,
    "room": _room,
    "noise": _noise,
    "figure": _figure,
    "city": _city,
    "plasma": _plasma,
    "mosaic": _mosaic,
    "stage": _stage,
}


class _Camera:
    """Renders one shot frame by frame; frames before 0 and past the end are the rest of its transitions."""

    def __init__(self, shot: _Shot, rate: int) -> None:
        self.shot, self.rate = shot, rate
        rng = np.random.default_rng(shot.canvas_seed)
        self.canvas = np.clip(_FAMILIES[shot.family](rng, _palette(shot.palette_seed, 6)), 0, 255).astype(np.float32)
        self.rng = np.random.default_rng([shot.canvas_seed, 1])
        self.grain = self.rng.normal(0, 1, (2 * HEIGHT, 2 * WIDTH)).astype(np.float32)
        self.jitter = self.rng.normal(0, 1, (512, 2))
        self.y, self.x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32) / WIDTH

    def view(self, frame: int) -> tuple[float, float, float]:
        """Left, top (frame widths and heights into the canvas) and zoom."""
        shot, t = self.shot, frame / self.rate
        share = np.clip(frame / shot.frames, 0, 1)
        x, y, zoom = shot.x, shot.y, shot.zoom
        dx, dy = np.cos(shot.heading), 0.6 * np.sin(shot.heading)
        if shot.move == "pan":
            x, y = x + dx * shot.speed * t, y + dy * shot.speed * t
        elif shot.move == "eased":
            way = share * share * (3 - 2 * share) * min(shot.speed * 2, 1.0)
            x, y = x + dx * way, y + dy * way
        elif shot.move == "whip":
            x += np.sign(dx) * 0.8 * np.clip((t - 0.5) / 0.3, 0, 1)
        elif shot.move == "zoom":
            zoom *= 1 + share * min(shot.speed * 1.5, 1.0)
        elif shot.move == "shake":
            jx, jy = self.jitter[frame % 512] * shot.speed
            x, y = x + jx + 0.1 * np.sin(t * 3), y + jy
        return x, y, zoom

    def render(self, frame: int) -> _Canvas:
        """float32[144, 256, 3], 0..255."""
        shot, t = self.shot, frame / self.rate
        left, top, zoom = self.view(frame)
        # mirrored at the canvas' edge, so that no camera runs out of picture
        cols = _mirror(((np.arange(WIDTH) - WIDTH / 2) / zoom + WIDTH / 2 + left * WIDTH).astype(int), _CANVAS_WIDTH)
        rows = _mirror(
            ((np.arange(HEIGHT) - HEIGHT / 2) / zoom + HEIGHT / 2 + top * HEIGHT).astype(int), _CANVAS_HEIGHT
        )
        out = self.canvas[rows][:, cols]
        for ox, oy, radius, vx, vy, seed in shot.objects:
            cx, cy = ox + vx * t, oy + vy * t
            box = np.s_[
                max(int((cy - radius) * WIDTH), 0) : max(int((cy + radius) * WIDTH) + 1, 0),
                max(int((cx - radius) * WIDTH), 0) : max(int((cx + radius) * WIDTH) + 1, 0),
            ]
            mask = (self.x[box] - cx) ** 2 + (self.y[box] - cy) ** 2 < radius**2
            out[box][mask] = _palette(seed, 1)[0]
        gain = 1 + (shot.ramp - 1) * float(np.clip(frame / shot.frames, 0, 1))
        out = out * np.float32(gain)
        for when, length in shot.flashes:
            since = frame - round(when * self.rate)
            if 0 <= since < length:
                out = out * np.float32(1.6) + np.float32(110 / (1 + 0.4 * since))
        gy, gx = self.rng.integers(0, HEIGHT), self.rng.integers(0, WIDTH)
        return out + (self.grain[gy : gy + HEIGHT, gx : gx + WIDTH] * np.float32(shot.grain))[..., None]


def _mirror(at: NDArray[Any], size: int) -> NDArray[Any]:
    at = np.mod(at, 2 * size)
    return np.where(at < size, at, 2 * size - 1 - at)


def _frames(plan: FilmPlan) -> Iterator[_Canvas]:
    """The film's pictures in order, float32[144, 256, 3], before fades at its ends."""
    camera, at = _Camera(plan.shots[0], plan.rate), 0
    for number, shot in enumerate(plan.shots):
        while at < shot.frames:
            yield camera.render(at)
            at += 1
        if number == len(plan.changes):
            return
        change, following = plan.changes[number], _Camera(plan.shots[number + 1], plan.rate)
        for step in range(change.frames):
            yield _between(change, step, camera.render(shot.frames + step), following.render(step - change.frames))
        camera, at = following, 0


def _between(change: _Change, step: int, old: _Canvas, new: _Canvas) -> _Canvas:
    if change.kind == "fade":
        if step < change.out:
            return old + (change.level - old) * np.float32((step + 1) / (change.out + 1))
        if step < change.out + change.hold:
            return np.full_like(old, change.level)
        return change.level + (new - change.level) * np.float32(
            (step - change.out - change.hold + 1) / (change.into + 1)
        )
    share = (step + 1) / (change.out + 1)
    if change.kind == "wipe":
        out, edge = old.copy(), round(share * old.shape[change.axis])
        side = np.s_[:edge] if change.axis == 0 else np.s_[:, :edge]
        out[side] = new[side]
        return out
    if change.eased:
        share = share * share * (3 - 2 * share)
    return old + (new - old) * np.float32(share)


def write_film(plan: FilmPlan, folder: Path) -> Path:
    """Renders and encodes one film (H.264 in MP4) into `folder`.

    Raises:
        RuntimeError: when ffmpeg fails, with the end of what it said.
    """
    path = folder / f"{plan.name}.mp4"
    count = plan.frame_count
    command = [
        find_ffmpeg().path,
        "-v",
        "error",
        "-y",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-s",
        f"{WIDTH}x{HEIGHT}",
        "-r",
        str(plan.rate),
        "-i",
        "-",
    ]
    if plan.varying_rate:
        pattern = (
            f"settb=1/{_TIMESCALE},setpts='floor((floor(N/100)*150+if(lt(mod(N,100),50),mod(N,100),50+(mod(N,100)-50)*2))"
            f"*{_TIMESCALE // plan.rate})+(mod(N*37,11)-5)*{_TIMESCALE // 1000}+{5 * _TIMESCALE // 1000}'"
        )
        command += ["-vf", pattern, "-fps_mode", "passthrough", "-enc_time_base", f"1:{_TIMESCALE}"]
    command += [
        "-c:v",
        "libx264",
        "-preset",
        "superfast",
        "-crf",
        "23",
        "-x264-params",
        f"bframes={plan.b_frames}:b-adapt=0",
        "-g",
        "250",
        "-threads",
        "1",
        "-pix_fmt",
        "yuv420p",
        "-video_track_timescale",
        str(_TIMESCALE),
        str(path),
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stderr is not None
    for number, frame in enumerate(_frames(plan)):
        gain = 1.0
        if number < plan.fade_in:
            gain = number / plan.fade_in
        elif number >= count - plan.fade_out:
            gain = (count - 1 - number) / plan.fade_out
        process.stdin.write(np.clip(frame * np.float32(gain), 0, 255).astype(np.uint8).tobytes())
    process.stdin.close()
    said = process.stderr.read().decode(errors="replace")
    if process.wait() != 0:
        raise RuntimeError(f"ffmpeg could not encode {path.name} (exit {process.returncode}): {said[-500:]}")
    return path
