"""Generate the pictures shown in the shots of generated films, from seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 256, 144
CANVAS_WIDTH, CANVAS_HEIGHT = 564, 316  # 2.2 frames in each direction: room for camera moves

Canvas = NDArray[np.float32]
Rng = np.random.Generator


def _upsample(coarse: NDArray[Any], height: int, width: int) -> Canvas:
    """Enlarge [h, w] or [h, w, c] with bilinear interpolation."""

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


def _fractal(rng: Rng, first: int, octaves: int, falloff: float = 0.55) -> Canvas:
    """Return value noise with the shape of the canvas, 0..1."""
    total = np.zeros((CANVAS_HEIGHT, CANVAS_WIDTH), np.float32)
    weight = 0.0
    for octave in range(octaves):
        cells = first * 2**octave
        total += falloff**octave * _upsample(
            rng.random((max(cells * 9 // 16, 2) + 1, cells + 1)), CANVAS_HEIGHT, CANVAS_WIDTH
        )
        weight += falloff**octave
    return total / np.float32(weight)


def palette(seed: int, count: int) -> NDArray[np.float32]:
    """Return `count` related colours, float32[count, 3], 0..255."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(40, 200, 3)
    return np.clip(base + rng.normal(0, 45, (count, 3)), 5, 250).astype(np.float32)


def _shade(values: Canvas, colours: NDArray[np.float32]) -> Canvas:
    """Map values 0..1 to colours: float32[h, w, 3]."""
    stops = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(values, stops, colours[:, c]) for c in range(3)], axis=2).astype(np.float32)


def _mesh() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    y, x = np.mgrid[0:CANVAS_HEIGHT, 0:CANVAS_WIDTH].astype(np.float32)
    return y / HEIGHT, x / WIDTH


def _hills(rng: Rng, colours: NDArray[np.float32]) -> Canvas:
    y, _ = _mesh()
    out = _shade(np.clip(y / 2.2, 0, 1), colours[:2])
    for layer in range(4):
        ridge = (
            0.5
            + 0.4 * layer
            + 0.5 * np.interp(np.arange(CANVAS_WIDTH), np.linspace(0, CANVAS_WIDTH, 9), rng.normal(0, 0.5, 9))
        )
        ground = _shade(_fractal(rng, 12, 3), colours[2 + layer % 3 : 4 + layer % 3] * (1 - 0.12 * layer))
        out = np.where((y > ridge[None, :])[..., None], ground, out)
    return out


def _room(rng: Rng, colours: NDArray[np.float32]) -> Canvas:
    out = np.broadcast_to(colours[0], (CANVAS_HEIGHT, CANVAS_WIDTH, 3)).copy()
    out[int(CANVAS_HEIGHT * 0.65) :] = colours[1]
    for _ in range(40):
        h, w = int(rng.integers(6, 90)), int(rng.integers(6, 100))
        top, left = int(rng.integers(0, CANVAS_HEIGHT - h)), int(rng.integers(0, CANVAS_WIDTH - w))
        out[top : top + h, left : left + w] = colours[int(rng.integers(2, len(colours)))] * rng.uniform(0.5, 1.2)
    return out * (0.75 + 0.5 * _fractal(rng, 3, 1))[..., None]


def _noise(rng: Rng, colours: NDArray[np.float32]) -> Canvas:
    return _shade(np.clip(_fractal(rng, int(rng.integers(2, 12)), int(rng.integers(1, 5))) * 2 - 0.5, 0, 1), colours)


def _figure(rng: Rng, colours: NDArray[np.float32]) -> Canvas:
    out = _shade(_fractal(rng, 4, 1), colours[:3])
    y, x = _mesh()
    for _ in range(7):
        cx, cy, size = rng.uniform(0, 2.2), rng.uniform(0.2, 2.0), rng.uniform(0.2, 0.45)
        head = ((x - cx) * 1.78 / size) ** 2 + ((y - cy) / size / 1.2) ** 2 < 1
        body = (np.abs(x - cx) * 1.78 < size * 2) & (y > cy + size)
        out = np.where(body[..., None], colours[3] * rng.uniform(0.5, 1.2), out)
        out = np.where(head[..., None], np.array([205, 160, 130], np.float32) * rng.uniform(0.6, 1.1), out)
    return out


def _city(rng: Rng, colours: NDArray[np.float32]) -> Canvas:
    y, _ = _mesh()
    out = _shade(np.clip(y / 2.2, 0, 1), colours[:3])
    left = 0
    while left < CANVAS_WIDTH:
        width, top = int(rng.integers(18, 70)), int(rng.integers(20, CANVAS_HEIGHT - 120))
        out[top:, left : left + width] = colours[int(rng.integers(3, len(colours)))] * rng.uniform(0.3, 1.0)
        lit = rng.random(((CANVAS_HEIGHT - top) // 12, max(width // 10, 1))) < 0.4
        for row, col in np.argwhere(lit):
            out[top + row * 12 + 3 : top + row * 12 + 9, left + col * 10 + 2 : left + min(col * 10 + 7, width)] = (
                240,
                220,
                150,
            )
        left += width
    return out


def _plasma(rng: Rng, colours: NDArray[np.float32]) -> Canvas:
    y, x = _mesh()
    waves = [
        np.sin(rng.uniform(2, 16) * (x * np.cos(a) + y * np.sin(a)) + rng.uniform(0, 6))
        for a in rng.uniform(0, np.pi, 6)
    ]
    return _shade((np.mean(waves, axis=0) * 0.9 + 0.5).astype(np.float32), colours)


def _mosaic(rng: Rng, colours: NDArray[np.float32]) -> Canvas:
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


def _stage(rng: Rng, colours: NDArray[np.float32]) -> Canvas:
    y, x = _mesh()
    out = _shade(_fractal(rng, 6, 2), colours[:2]) * 0.15
    for _ in range(10):
        cx, cy, size = rng.uniform(0, 2.2), rng.uniform(0, 2.2), rng.uniform(0.15, 0.5)
        glow = np.exp(-(((x - cx) * 1.78) ** 2 + (y - cy) ** 2) / size**2)
        out = out + glow[..., None] * colours[int(rng.integers(len(colours)))] * np.float32(0.8)
    return out


FAMILIES: dict[str, Callable[[Rng, NDArray[np.float32]], Canvas]] = {
    "hills": _hills,
    "room": _room,
    "noise": _noise,
    "figure": _figure,
    "city": _city,
    "plasma": _plasma,
    "mosaic": _mosaic,
    "stage": _stage,
}
