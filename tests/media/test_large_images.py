"""Images far larger than video frames are decoded, scaled where the format allows, in bounded memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from promptreel.media.analysis import MediaAnalysis, analyze_media
from promptreel.media.probe import probe_media
from promptreel.schemas.errors import MediaError
from promptreel.schemas.settings import MediaLimits, SamplingSettings

SIZE = (10_000, 7_000)  # 70 megapixels; a video frame may have 35
ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    """A picture with smooth random colours."""
    rng = np.random.default_rng(3)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 10, 3), np.uint8))
    return coarse.resize((1000, 700), Image.Resampling.BICUBIC).resize(SIZE, Image.Resampling.BILINEAR)


def write_picture(path: Path, picture: Image.Image, **options: Any) -> Path:
    picture.save(path, **options)
    return path


def analyze(path: Path, folder: Path, limits: MediaLimits) -> MediaAnalysis:
    folder.mkdir()
    return analyze_media(probe_media(path, limits), folder, SamplingSettings(), limits)


def frame_of(path: Path, folder: Path, limits: MediaLimits | None = None) -> np.ndarray[Any, Any]:
    """Return the frame that the model receives, uint8[h, w, 3]."""
    analysis = analyze(path, folder, limits or MediaLimits())
    assert analysis.warnings == ()
    with Image.open(folder / analysis.frames[0].file) as frame:
        return np.asarray(frame.convert("RGB"))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("p.jpg", {"quality": 90}),
        ("p.jpg", {"quality": 90, "progressive": True}),
        ("p.png", {"compress_level": 1}),
        ("p.avif", {"speed": 10, "quality": 90}),
    ],
    ids=["baseline", "progressive", "png", "avif"],
)
def test_large_image_looks_like_the_original(
    name: str, options: dict[str, Any], scene: Image.Image, tmp_path: Path
) -> None:
    frame = frame_of(write_picture(tmp_path / name, scene, **options), tmp_path / "out").astype(float)
    assert frame.shape == (1098, 1568, 3)
    expected = np.asarray(scene.resize((1568, 1098), Image.Resampling.BOX), float)
    assert abs(frame - expected).mean() < 3


def test_rotated_large_jpeg_is_shown_upright(scene: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    frame = frame_of(write_picture(tmp_path / "p.jpg", scene, quality=90, exif=exif), tmp_path / "out").astype(float)
    assert frame.shape == (1568, 1098, 3)
    expected = np.asarray(scene.resize((1568, 1098), Image.Resampling.BOX).transpose(Image.Transpose.ROTATE_270), float)
    assert abs(frame - expected).mean() < 3


def test_memory_of_a_large_jpeg_is_bounded_by_the_frame(scene: Image.Image, tmp_path: Path) -> None:
    """The address space is too small for the full-size picture together with its frame."""
    limits = MediaLimits(decode_memory_bytes=384 << 20)
    assert frame_of(write_picture(tmp_path / "p.jpg", scene, quality=90), tmp_path / "out", limits).size
    with pytest.raises(MediaError) as caught:
        analyze(write_picture(tmp_path / "p.png", scene, compress_level=1), tmp_path / "png", limits)
    assert caught.value.code == "decode_out_of_memory"


@pytest.mark.parametrize("name", ["p.jpg", "p.avif"])
def test_image_limit_is_a_setting(name: str, tmp_path: Path) -> None:
    path = write_picture(tmp_path / name, Image.new("RGB", (200, 100)))
    assert probe_media(path, MediaLimits(max_image_pixels=20_000, max_pixels=1)).media_type == "image"
    with pytest.raises(MediaError, match="200x100 exceeds the limit of 19999 pixels") as caught:
        probe_media(path, MediaLimits(max_image_pixels=19_999))
    assert caught.value.code == "media_too_large"
