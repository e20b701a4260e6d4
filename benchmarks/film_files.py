"""Render planned films and write them as video files."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.film_pictures import CANVAS_HEIGHT, CANVAS_WIDTH, FAMILIES, HEIGHT, WIDTH, Canvas, palette
from benchmarks.film_plans import TIMESCALE, Change, FilmPlan, Lamp, Shot, Sweep
from promptreel.media.ffmpeg import find_ffmpeg


class _Camera:
    """Renders one shot frame by frame; frames before 0 and after the end belong to its transitions."""

    def __init__(self, shot: Shot, rate: int) -> None:
        self.shot, self.rate = shot, rate
        rng = np.random.default_rng(shot.canvas_seed)
        self.canvas = np.clip(FAMILIES[shot.family](rng, palette(shot.palette_seed, 6)), 0, 255).astype(np.float32)
        self.rng = np.random.default_rng([shot.canvas_seed, 1])
        self.grain = self.rng.normal(0, 1, (2 * HEIGHT, 2 * WIDTH)).astype(np.float32)
        self.jitter = self.rng.normal(0, 1, (512, 2))
        self.y, self.x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32) / WIDTH
        self.gain = 1.0 if shot.level is None else shot.level / float(self.canvas.mean())
        self.sweeps = [_Sweep(sweep) for sweep in shot.sweeps]
        self.lamp = _Light(shot.lamp, shot.frames, rate) if shot.lamp else None

    def view(self, frame: int) -> tuple[float, float, float]:
        """Return (left, top, zoom); left and top are in frame widths and heights from the canvas origin."""
        shot, t = self.shot, frame / self.rate
        share = np.clip(frame / shot.frames, 0, 1)
        x, y, zoom = shot.x, shot.y, shot.zoom
        dx, dy = np.cos(shot.heading), 0.6 * np.sin(shot.heading)
        if shot.move == "pan":
            x, y = x + dx * shot.speed * t, y + dy * shot.speed * t
        elif shot.move == "eased":
            distance = share * share * (3 - 2 * share) * min(shot.speed * 2, 1.0)
            x, y = x + dx * distance, y + dy * distance
        elif shot.move == "whip":
            x += np.sign(dx) * 0.8 * np.clip((t - 0.5) / 0.3, 0, 1)
        elif shot.move == "zoom":
            zoom *= 1 + share * min(shot.speed * 1.5, 1.0)
        elif shot.move == "shake":
            jx, jy = self.jitter[frame % 512] * shot.speed
            x, y = x + jx + 0.1 * np.sin(t * 3), y + jy
        return x, y, zoom

    def render(self, frame: int) -> Canvas:
        """Render one frame: float32[144, 256, 3], 0..255."""
        shot, t = self.shot, frame / self.rate
        left, top, zoom = self.view(frame)
        # Mirror at the canvas edge, so that the camera never leaves the canvas.
        cols = _mirror(((np.arange(WIDTH) - WIDTH / 2) / zoom + WIDTH / 2 + left * WIDTH).astype(int), CANVAS_WIDTH)
        rows = _mirror(((np.arange(HEIGHT) - HEIGHT / 2) / zoom + HEIGHT / 2 + top * HEIGHT).astype(int), CANVAS_HEIGHT)
        out = self.canvas[rows][:, cols]
        for ox, oy, radius, vx, vy, seed in shot.objects:
            cx, cy = ox + vx * t, oy + vy * t
            box = np.s_[
                max(int((cy - radius) * WIDTH), 0) : max(int((cy + radius) * WIDTH) + 1, 0),
                max(int((cx - radius) * WIDTH), 0) : max(int((cx + radius) * WIDTH) + 1, 0),
            ]
            mask = (self.x[box] - cx) ** 2 + (self.y[box] - cy) ** 2 < radius**2
            out[box][mask] = palette(seed, 1)[0]
        for sweep in self.sweeps:
            sweep.draw(out, t)
        if self.lamp is not None:
            out = out * self.lamp.at(frame)
        gain = self.gain * (1 + (shot.ramp - 1) * float(np.clip(frame / shot.frames, 0, 1)))
        out = out * np.float32(gain)
        for when, length in shot.flashes:
            since = frame - round(when * self.rate)
            if 0 <= since < length:
                out = out * np.float32(1.6) + np.float32(110 / (1 + 0.4 * since))
        gy, gx = self.rng.integers(0, HEIGHT), self.rng.integers(0, WIDTH)
        return out + (self.grain[gy : gy + HEIGHT, gx : gx + WIDTH] * np.float32(shot.grain))[..., None]


class _Sweep:
    """Draws one crossing object."""

    def __init__(self, plan: Sweep) -> None:
        self.plan = plan
        rng = np.random.default_rng(plan.seed)
        colours = palette(plan.seed, 4)
        rows = slice(round(plan.top * HEIGHT), min(round(plan.bottom * HEIGHT), HEIGHT))
        self.rows, self.width = rows, round(plan.width * WIDTH)
        texture = np.broadcast_to(colours[0], (rows.stop - rows.start, self.width, 3)).copy()
        for _ in range(12 if plan.textured else 0):
            left, top = int(rng.integers(0, self.width)), int(rng.integers(0, rows.stop - rows.start))
            texture[top : top + 30, left : left + 40] = colours[int(rng.integers(1, 4))]
        self.texture = texture.astype(np.float32)
        edge = max(plan.blur * WIDTH, 1)
        inside = np.minimum(np.arange(self.width) + 1, self.width - np.arange(self.width))
        self.mask = (np.clip(inside / edge, 0, 1) * plan.opacity).astype(np.float32)[None, :, None]

    def draw(self, out: Canvas, t: float) -> None:
        """Draw the object at `t` seconds over a picture, in place."""
        share = (t - self.plan.start_s) / self.plan.seconds
        if not 0 <= share <= 1:
            return
        left = round(share * (WIDTH + self.width)) - self.width
        if not self.plan.rightwards:
            left = WIDTH - self.width - left
        first, last = max(left, 0), min(left + self.width, WIDTH)
        if first >= last:
            return
        part, mask = self.texture[:, first - left : last - left], self.mask[:, first - left : last - left]
        under = out[self.rows, first:last]
        out[self.rows, first:last] = under + (part - under) * mask


class _Light:
    """Computes the light of a lamp over a shot."""

    def __init__(self, plan: Lamp, frames: int, rate: int) -> None:
        rng = np.random.default_rng(plan.seed)
        count = frames + 4 * rate  # room for the transitions
        if plan.kind == "flicker":
            lengths = rng.integers(1, 6, count)
            levels = np.repeat(rng.random(count), lengths)[:count]
        elif plan.kind == "breathe":
            knots = np.cumsum(rng.uniform(0.3, 1.2, count))
            levels = np.interp(np.arange(count) / rate, knots, rng.random(count))
        else:
            start, length = rng.uniform(0.2, 0.6) * frames, rng.uniform(0.4, 2.0) * rate
            levels = np.clip((np.arange(count) - start) / length, 0, 1)
            levels = levels if rng.random() < 0.5 else 1 - levels
        self.lost = (plan.depth * levels).astype(np.float32)
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32) / WIDTH
        away = ((x - plan.x) ** 2 + (y - plan.y) ** 2) / max(plan.radius, 1e-6) ** 2
        shape = np.exp(-away) if plan.radius else np.ones_like(away)
        self.shape = shape[..., None] * np.array(plan.tint, np.float32)

    def at(self, frame: int) -> Canvas:
        """Return the gain of every pixel, float32[144, 256, 3]."""
        return 1 - self.shape * self.lost[int(np.clip(frame, 0, len(self.lost) - 1))]


def _mirror(at: NDArray[Any], size: int) -> NDArray[Any]:
    at = np.mod(at, 2 * size)
    return np.where(at < size, at, 2 * size - 1 - at)


def _frames(plan: FilmPlan) -> Iterator[Canvas]:
    """Yield the film's frames in order, float32[144, 256, 3], without the fades at its start and end."""
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


def _between(change: Change, step: int, old: Canvas, new: Canvas) -> Canvas:
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
    """Render and encode one film (H.264 in MP4) into `folder`.

    Raises:
        RuntimeError: ffmpeg failed; the message has the end of its error output.
    """
    path = folder / f"{plan.name}.mp4"
    process = subprocess.Popen(_encoder(plan, path), stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stderr is not None
    black = np.full((HEIGHT, WIDTH, 3), plan.black, np.uint8).tobytes()
    process.stdin.write(black * plan.leader)
    count = plan.frame_count - plan.leader - plan.tail
    for number, frame in enumerate(_frames(plan)):
        gain = 1.0
        if number < plan.fade_in:
            gain = number / plan.fade_in
        elif number >= count - plan.fade_out:
            gain = (count - 1 - number) / plan.fade_out
        lifted = np.float32(plan.black) + (frame - np.float32(plan.black)) * np.float32(gain)
        process.stdin.write(np.clip(lifted, 0, 255).astype(np.uint8).tobytes())
    process.stdin.write(black * plan.tail)
    process.stdin.close()
    errors = process.stderr.read().decode(errors="replace")
    if process.wait() != 0:
        raise RuntimeError(f"ffmpeg could not encode {path.name} (exit {process.returncode}): {errors[-500:]}")
    return path


def _encoder(plan: FilmPlan, path: Path) -> list[str]:
    """Return the ffmpeg command that encodes raw frames from standard input."""
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
            f"settb=1/{TIMESCALE},setpts='floor((floor(N/100)*150+if(lt(mod(N,100),50),mod(N,100),50+(mod(N,100)-50)*2))"
            f"*{TIMESCALE // plan.rate})+(mod(N*37,11)-5)*{TIMESCALE // 1000}+{5 * TIMESCALE // 1000}'"
        )
        command += ["-vf", pattern, "-fps_mode", "passthrough", "-enc_time_base", f"1:{TIMESCALE}"]
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
        str(TIMESCALE),
        str(path),
    ]
    return command
