"""Each page of a TIFF file is an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from promptreel.cli.target import expand_target
from promptreel.media.analysis import analyze_media
from promptreel.media.probe import probe_media
from promptreel.media.source import local_media
from promptreel.media.tiff_pages import count_pages
from promptreel.schemas.errors import MediaError, TargetError
from promptreel.schemas.ids import hash_file
from promptreel.schemas.settings import MediaLimits, SamplingSettings

LEVELS = (20, 120, 220)


@pytest.fixture(params=["raw", "tiff_lzw", "tiff_adobe_deflate"])
def scan(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    pages = [Image.new("RGB", (64, 40 + 8 * n), (level, level, level)) for n, level in enumerate(LEVELS)]
    path = tmp_path / "scan.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:], compression=request.param)
    return path


@pytest.mark.parametrize("page", [1, 2, 3])
def test_page_is_read_as_an_image_of_its_own(page: int, scan: Path, tmp_path: Path) -> None:
    with local_media(f"{scan}#page={page}") as path:
        assert count_pages(path) == 1
        info = probe_media(path)
        (tmp_path / "out").mkdir()
        analysis = analyze_media(info, tmp_path / "out", SamplingSettings(), MediaLimits())
    assert info.video is not None
    assert info.video.display_size == (64, 40 + 8 * (page - 1))
    assert analysis.warnings == ()
    with Image.open(tmp_path / "out" / analysis.frames[0].file) as frame:
        assert np.asarray(frame.convert("L")).mean() == pytest.approx(LEVELS[page - 1], abs=3)
    assert not path.exists()


def test_pages_have_different_contents_and_the_file_is_unchanged(scan: Path) -> None:
    before = scan.read_bytes()
    hashes = set()
    for page in (1, 2, 3):
        with local_media(f"{scan}#page={page}") as path:
            hashes.add(hash_file(path))
        with local_media(f"{scan.as_uri()}#page={page}") as path:
            hashes.add(hash_file(path))
    assert len(hashes) == 3
    assert scan.read_bytes() == before


@pytest.mark.parametrize("page", [0, 4])
def test_missing_page_is_an_error(page: int, scan: Path) -> None:
    with (
        pytest.raises(MediaError, match=f"has 3 TIFF pages, so page {page} does not exist") as caught,
        local_media(f"{scan}#page={page}"),
    ):
        pass
    assert caught.value.code == "media_not_found"


def test_page_that_cannot_be_copied_can_be_retried(scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_the_disk(path: Path, page: int, out: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("promptreel.media.source.copy_page", fill_the_disk)
    with pytest.raises(MediaError, match="No space left") as caught, local_media(f"{scan}#page=1"):
        pass
    assert caught.value.retryable


def test_target_holds_every_page(scan: Path) -> None:
    named = [item.name for item in expand_target([str(scan)]).items]
    assert named == ["scan.tif#page=1", "scan.tif#page=2", "scan.tif#page=3"]
    assert [item.name for item in expand_target([str(scan.parent)]).items] == named
    (only,) = expand_target([f"{scan}#page=2"]).items
    assert only.uri == f"{scan}#page=2"
    with pytest.raises(TargetError, match="does not exist"):
        expand_target([f"{scan.parent}/absent.tif#page=2"])


def test_file_whose_name_ends_like_a_page_is_a_file(scan: Path) -> None:
    other = scan.rename(scan.with_name("odd.tif#page=2"))
    with local_media(str(other)) as path:
        assert path == other


def test_thumbnail_is_no_item(tmp_path: Path) -> None:
    path = tmp_path / "single.tif"
    Image.new("L", (8, 8)).save(path)
    assert [item.name for item in expand_target([str(path)]).items] == ["single.tif"]
