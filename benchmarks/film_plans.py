"""What a generated film consists of: shots, changes, and the labels that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TIMESCALE = 90_000  # ticks per second in the written files
MIN_LEADER_S = 0.5  # black of at least this duration at an end of a film is a shot

Half = Literal["TUNE", "REPORT"]
Group = Literal["general", "dark", "leaders", "sweeps", "lights"]
GROUPS: tuple[Group, ...] = ("general", "dark", "leaders", "sweeps", "lights")


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
class Sweep:
    """A rectangle that crosses the picture once. Lengths are in frame widths, except for `top` and `bottom`."""

    start_s: float
    seconds: float  # from the first to the last frame in which it is visible
    width: float
    top: float  # in frame heights
    bottom: float
    blur: float  # width over which the leading and the trailing edge fade
    opacity: float
    seed: int
    rightwards: bool
    textured: bool


@dataclass(frozen=True, slots=True)
class Lamp:
    """A light whose strength varies."""

    kind: Literal["flicker", "breathe", "dim"]  # jumps every few frames; drifts irregularly; dims or brightens once
    depth: float  # maximum share of the light that is lost
    seed: int
    radius: float  # in frame widths; 0 lights the complete picture evenly
    x: float
    y: float
    tint: tuple[float, float, float]


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
    level: float | None = None  # mean of the canvas, 0..255, in a dark shot
    sweeps: tuple[Sweep, ...] = ()
    lamp: Lamp | None = None


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
    group: Group = "general"
    leader: int = 0  # black frames before the first shot
    tail: int = 0  # black frames after the last shot
    black: float = 0.0  # their level

    @property
    def frame_count(self) -> int:
        return self.leader + sum(s.frames for s in self.shots) + sum(c.frames for c in self.changes) + self.tail

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
        labels, frame = [], self.leader
        if self.leader >= MIN_LEADER_S * self.rate:
            labels.append(self._label_of_black(self.leader, self.leader + self.fade_in, self.fade_in))
        for shot, change in zip(self.shots, self.changes, strict=False):
            frame += shot.frames
            new = frame + change.frames
            old = new if change.kind == "cut" else frame - 1
            labels.append(Label(change.kind, self.time_us(old), self.time_us(new)))
            frame = new
        if self.tail >= MIN_LEADER_S * self.rate:
            black = self.frame_count - self.tail
            labels.append(self._label_of_black(black - self.fade_out, black, self.fade_out))
        return tuple(labels)

    def _label_of_black(self, old: int, new: int, ramp: int) -> Label:
        """Return the label of the change between black and a shot, a cut without a ramp."""
        return Label("fade" if ramp else "cut", self.time_us(old), self.time_us(new))
