"""HEIC and AVIF pictures: read completely, upright, in sRGB; damaged and oversized ones fail with a code."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pi_heif
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from promptreel.media.analysis import MediaAnalysis, analyze_media
from promptreel.media.probe import probe_media
from promptreel.media.stills import still_format
from promptreel.media.stills_child import to_upright_srgb
from promptreel.schemas.errors import MediaError
from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.settings import MediaLimits, SamplingSettings
from tests.media.test_hostile_media import DAMAGES, check_damaged_files
from tests.media_files import COLOURS, halves, plain, write_film, write_image

pytestmark = pytest.mark.usefixtures("leaves_nothing")

PHOTO = "hard/h_arrow.heic"  # 48 tiles of 512x512 form 4032x3024, displayed rotated by 90 degrees
PHOTO_SIZE = (3024, 4032)
PHOTO_HEADER = struct.pack(">II", 4032, 3024)  # of the complete picture, before rotation
PHOTO_GRID = b"\0\0\5\7" + struct.pack(">HH", 4032, 3024)  # six rows of eight tiles

RealMedia = Callable[[str], Path]


@pytest.fixture
def photo(real_media: RealMedia) -> bytes:
    """The bytes of a tiled phone photo; skips the test without it."""
    return real_media(PHOTO).read_bytes()


def analysis_of(path: Path, limits: MediaLimits | None = None) -> tuple[MediaAnalysis, Path]:
    """Return (analysis, its folder)."""
    limits = limits or MediaLimits()
    folder = path.with_name(f"{path.name} analysis")
    folder.mkdir()
    return analyze_media(probe_media(path, limits), folder, SamplingSettings(), limits), folder


def picture_of(path: Path) -> NDArray[np.uint8]:
    """Return the only frame in the analysis of a picture, uint8[h, w, 3] RGB."""
    analysis, folder = analysis_of(path)
    assert (analysis.info.media_type, analysis.warnings) == ("image", ())
    assert len(analysis.frames) == 1
    assert {file.name for file in folder.iterdir()} == {"frames", "timeline.npz", "analysis.json"}
    return np.asarray(Image.open(folder / analysis.frames[0].file).convert("RGB"))


def failure_of(path: Path, limits: MediaLimits | None = None) -> MediaError:
    """Return the error of the probe or the analysis, which must name the file and have a known code."""
    with pytest.raises(MediaError) as caught:
        analysis_of(path, limits)
    assert caught.value.code in FAILURE_CODES
    assert caught.value.message.startswith(f"{path}: ")
    return caught.value


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def write_avif(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, "AVIF", quality=95, **options)
    return path


def quarters(size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Return a picture with red and green above blue and yellow."""
    image = Image.new("RGB", size)
    width, height = size[0] // 2, size[1] // 2
    for number, name in enumerate(("red", "green", "blue", "yellow")):
        image.paste(COLOURS[name], (number % 2 * width, number // 2 * height, size[0], size[1]))
    return image


def nearest(pixel: NDArray[np.uint8]) -> str:
    return min(COLOURS, key=lambda name: int(np.abs(pixel.astype(int) - COLOURS[name]).sum()))


def corners(picture: NDArray[np.uint8]) -> list[str]:
    """Return the colours of the quarters: top left, top right, bottom left, bottom right."""
    height, width = picture.shape[0] // 4, picture.shape[1] // 4
    return [nearest(picture[y, x]) for y in (height, 3 * height) for x in (width, 3 * width)]


def enlarged(content: bytes, old: tuple[int, int], new: tuple[int, int]) -> bytes:
    """Return a picture whose header declares another size."""
    header = struct.pack(">II", *old)
    assert content.count(header) == 1
    return content.replace(header, struct.pack(">II", *new))


# Tiled pictures


@pytest.mark.parametrize("name", ["photo.heic", "photo.jpg", "photo"])
def test_tiled_photo_has_its_complete_size_under_any_name(name: str, photo: bytes, tmp_path: Path) -> None:
    info = probe_media(write(tmp_path / name, photo))
    assert info.video is not None
    assert info.video.display_size == PHOTO_SIZE
    assert (info.media_type, info.container, info.video.codec) == ("image", "heic", "hevc")
    assert (info.duration_us, info.audio, info.warnings) == (None, (), ())


def test_frame_of_a_tiled_photo_shows_the_complete_picture(real_media: RealMedia, photo: bytes, tmp_path: Path) -> None:
    shown = picture_of(write(tmp_path / "photo.heic", photo)).astype(float)
    assert shown.shape == (1568, 1176, 3)
    decoded = pi_heif.read_heif(real_media(PHOTO))
    expected = Image.frombuffer("RGB", decoded.size, bytes(decoded.data), "raw", "RGB", decoded.stride)
    assert expected.size == PHOTO_SIZE
    difference = np.abs(shown - np.asarray(expected.resize((1176, 1568), Image.Resampling.BOX), float))
    assert difference.mean() < 3
    assert difference.reshape(14, 112, 12, 98, 3).mean(axis=(1, 3, 4)).max() < 8  # no tile is missing or displaced


def test_pixel_limit_applies_to_the_complete_picture(photo: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "photo.heic", photo)
    pixels = PHOTO_SIZE[0] * PHOTO_SIZE[1]
    assert probe_media(path, MediaLimits(max_image_pixels=pixels)).video is not None
    error = failure_of(path, MediaLimits(max_image_pixels=pixels - 1))
    assert error.code == "media_too_large"
    assert "3024x4032" in error.message


@pytest.mark.parametrize("size", [(30_000, 20_000), (60_000, 60_000)])
def test_oversized_header_is_rejected_before_decoding(size: tuple[int, int], photo: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "bomb.heic", photo.replace(PHOTO_HEADER, struct.pack(">II", *size)))
    with pytest.raises(MediaError, match=f"{size[1]}x{size[0]} exceeds the limit") as caught:
        probe_media(path)
    assert caught.value.code == "media_too_large"


@pytest.mark.parametrize(
    ("header", "grid", "code"),
    [
        ((100, 100), (4032, 3024), "media_corrupt"),
        ((4032, 3024), (100, 100), "media_corrupt"),
        ((4032, 3024), (60_000, 60_000), "media_too_large"),
        ((6000, 4000), (6000, 4000), "media_corrupt"),
        ((0, 0), (0, 0), "media_corrupt"),
    ],
)
def test_header_that_contradicts_the_picture_is_a_failure(
    header: tuple[int, int], grid: tuple[int, int], code: str, photo: bytes, tmp_path: Path
) -> None:
    lying = photo.replace(PHOTO_HEADER, struct.pack(">II", *header))
    lying = lying.replace(PHOTO_GRID, PHOTO_GRID[:4] + struct.pack(">HH", *grid))
    assert failure_of(write(tmp_path / "lying.heic", lying)).code == code


@pytest.mark.parametrize("length", [16, 30, 100, 3000, 3980, 4000, 100_000, 792_051])
def test_truncated_photo_is_a_failure(length: int, photo: bytes, tmp_path: Path) -> None:
    error = failure_of(write(tmp_path / "cut.heic", photo[:length]))
    assert error.code == "media_corrupt"
    assert "copy it again" in error.message


def test_photo_without_its_picture_data_is_a_failure(photo: bytes, tmp_path: Path) -> None:
    content = photo[:4200] + bytes(len(photo) - 4200)
    assert failure_of(write(tmp_path / "zeros.heic", content)).code == "media_corrupt"


def test_damaged_exif_does_not_affect_the_picture(photo: bytes, tmp_path: Path) -> None:
    assert photo.count(b"MM\0*") == 1
    exif = photo.index(b"MM\0*")
    picture = picture_of(write(tmp_path / "photo.heic", photo[:exif] + b"\xff" * 200 + photo[exif + 200 :]))
    assert picture.shape == (1568, 1176, 3)


def test_damaged_photos_end_in_a_result_or_a_failure(photo: bytes, tmp_path: Path) -> None:
    files = ((f"{n}.heic", damage(photo, random.Random(n))) for n, damage in enumerate(DAMAGES * 2))
    assert len(check_damaged_files(files, tmp_path)) == 10


def test_heic_sequence_is_rejected_with_the_fix(photo: bytes, tmp_path: Path) -> None:
    error = failure_of(write(tmp_path / "burst.heics", photo.replace(b"ftypheic", b"ftyphevc")))
    assert error.code == "media_unsupported"
    assert "convert it to" in error.message


# Files named like pictures


def test_heic_file_name_is_not_sufficient(tmp_path: Path) -> None:
    assert failure_of(write(tmp_path / "text.heic", b"Minutes of the meeting\n")).code == "media_unsupported"
    assert failure_of(write(tmp_path / "empty.heic", b"")).code == "media_empty"
    noise = random.Random(1).randbytes(5000)
    assert failure_of(write(tmp_path / "noise.heic", noise)).code == "media_unsupported"
    for brand in (b"heic", b"mif1", b"avif"):
        content = b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1" + brand + noise
        assert failure_of(write(tmp_path / f"{brand.decode()}.heic", content)).code == "media_corrupt"


@pytest.mark.parametrize(
    ("brands", "name"),
    [
        ("heic mif1 heic", "heic"),
        ("mif1 mif1 heic", "heic"),
        ("mif1 avif mif1 miaf", "avif"),
        ("msf1 avis", "avif"),
        ("hevc msf1", "heic"),
        ("isom mif1 heic", None),  # a video that is also readable as a picture
        ("mp42 isom", None),
    ],
)
def test_format_is_recognized_by_the_brands(brands: str, name: str | None) -> None:
    major, *compatible = brands.encode().split()
    head = b"ftyp" + major + bytes(4) + b"".join(compatible)
    head = struct.pack(">I", 4 + len(head)) + head
    assert still_format(head + b"\0\0\0\x10avifavif") == name
    assert still_format(head[:4] + b"free" + head[8:]) is None


def test_film_and_jpeg_named_heic_are_recognized(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", plain(["red"], 10), 10).rename(tmp_path / "film.heic")
    assert probe_media(film).media_type == "video"
    jpeg = write_image(tmp_path / "p.jpg", halves("red", "blue", (64, 48)), "-update", 1).rename(tmp_path / "p.avif")
    assert probe_media(jpeg).container == "jpeg_pipe"


# AVIF

# EXIF orientations, with the colours of the quarters as displayed.
ORIENTATIONS = {
    1: "red green blue yellow",
    2: "green red yellow blue",
    3: "yellow blue green red",
    4: "blue yellow red green",
    5: "red blue green yellow",
    6: "blue red yellow green",
    7: "yellow green blue red",
    8: "green yellow red blue",
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_avif_is_shown_upright(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write_avif(tmp_path / "photo.avif", quarters(), exif=exif)
    info = probe_media(path)
    assert info.video is not None
    assert info.video.display_size == ((64, 96) if orientation >= 5 else (96, 64))
    assert (info.container, info.video.codec, info.warnings) == ("avif", "av1", ())
    picture = picture_of(path)
    assert picture.shape[1::-1] == info.video.display_size
    assert corners(picture) == ORIENTATIONS[orientation].split()


def test_xmp_orientation_is_ignored(tmp_path: Path) -> None:
    xmp = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    path = write_avif(tmp_path / "photo.avif", quarters(), xmp=xmp)
    assert corners(picture_of(path)) == ORIENTATIONS[1].split()


def test_transparent_avif_is_shown_on_white(tmp_path: Path) -> None:
    image = quarters().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 48, 64))
    picture = picture_of(write_avif(tmp_path / "logo.avif", image))
    assert corners(picture) == ["white", "green", "white", "yellow"]


def test_grey_avif_is_read(tmp_path: Path) -> None:
    picture = picture_of(write_avif(tmp_path / "grey.avif", Image.new("L", (64, 48), 140)))
    assert np.abs(picture.astype(int) - 140).max() <= 3


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv444p12le"])
def test_avif_with_more_than_8_bits_is_read(pixels: str, tmp_path: Path) -> None:
    still = halves("red", "blue", (96, 64))
    path = write_image(tmp_path / "deep.avif", still, "-frames:v", 1, "-c:v", "libaom-av1", "-pix_fmt", pixels)
    assert corners(picture_of(path)) == ["red", "red", "blue", "blue"]


def test_16_bit_grey_and_cmyk_are_converted_to_srgb() -> None:
    for mode, value, expected in (("I;16", 0x8C40, 140), ("LA", (140, 255), 140), ("CMYK", (0, 0, 0, 115), 140)):
        converted = to_upright_srgb(Image.new(mode, (8, 8), value))
        assert (converted.mode, converted.getpixel((4, 4))) == ("RGB", (expected,) * 3)


def test_colour_profile_is_applied(tmp_path: Path) -> None:
    plain_srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exchanged = plain_srgb.replace(b"rXYZ", b"xXYZ").replace(b"bXYZ", b"rXYZ").replace(b"xXYZ", b"bXYZ")
    path = write_avif(tmp_path / "exchanged.avif", quarters(), icc_profile=exchanged)
    assert corners(picture_of(path))[::2] == ["blue", "red"]


def test_damaged_profile_does_not_affect_the_picture(tmp_path: Path) -> None:
    path = write_avif(tmp_path / "odd.avif", quarters(), icc_profile=b"no profile at all" * 20)
    assert corners(picture_of(path)) == ["red", "green", "blue", "yellow"]


@pytest.mark.parametrize("size", [(20_100, 20_000), (30_000, 30_000), (2**31, 2**31)])
def test_avif_bomb_is_rejected_before_decoding(size: tuple[int, int], tmp_path: Path) -> None:
    small = write_avif(tmp_path / "small.avif", quarters()).read_bytes()
    path = write(tmp_path / "bomb.avif", enlarged(small, (96, 64), size))
    with pytest.raises(MediaError, match=f"{size[0]}x{size[1]} exceeds the limit") as caught:
        probe_media(path)
    assert caught.value.code == "media_too_large"


def test_avif_over_the_pixel_limit_is_rejected(tmp_path: Path) -> None:
    path = write_avif(tmp_path / "p.avif", quarters())
    assert probe_media(path, MediaLimits(max_image_pixels=96 * 64)).video is not None
    assert failure_of(path, MediaLimits(max_image_pixels=96 * 64 - 1)).code == "media_too_large"


def test_avif_that_needs_more_memory_than_allowed_is_a_failure(tmp_path: Path) -> None:
    path = write_avif(tmp_path / "p.avif", quarters((4000, 4000)), speed=10)
    assert failure_of(path, MediaLimits(decode_memory_bytes=200 << 20)).code == "decode_out_of_memory"


@pytest.mark.parametrize("share", [0.04, 0.2, 0.5, 0.8, 0.99])
def test_truncated_avif_is_a_failure(share: float, tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 96, 3), np.uint8))
    content = write_avif(tmp_path / "complete.avif", noise).read_bytes()
    error = failure_of(write(tmp_path / "cut.avif", content[: round(len(content) * share)]))
    assert error.code == "media_corrupt"
    assert "copy it again" in error.message


def test_animated_avif_is_rejected_with_the_fix(tmp_path: Path) -> None:
    first, *others = (Image.new("RGB", (96, 64), COLOURS[name]) for name in ("red", "green", "blue"))
    path = write_avif(tmp_path / "moving.avif", first, save_all=True, append_images=others, duration=400)
    error = failure_of(path)
    assert error.code == "media_unsupported"
    assert "convert it to GIF or MP4" in error.message


def test_damaged_avifs_end_in_a_result_or_a_failure(tmp_path: Path) -> None:
    content = write_avif(tmp_path / "p.avif", quarters()).read_bytes()
    files = ((f"{n}.avif", damage(content, random.Random(n))) for n, damage in enumerate(DAMAGES * 2))
    assert len(check_damaged_files(files, tmp_path)) == 10


def test_stopped_run_stops_decoding(tmp_path: Path) -> None:
    info = probe_media(write_avif(tmp_path / "p.avif", quarters()))
    with pytest.raises(MediaError) as caught:
        analyze_media(info, tmp_path, SamplingSettings(), MediaLimits(), lambda: True)
    assert caught.value.code == "cancelled"
