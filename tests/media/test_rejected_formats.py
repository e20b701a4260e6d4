"""Unreadable files are rejected with the actual reason: encrypted, a document, several pages."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from PIL import Image

from promptreel.media.probe import probe_media
from promptreel.media.protection import is_protected
from promptreel.media.tiff_pages import count_pages
from promptreel.schemas.errors import MediaError
from tests.media_files import ffmpeg, plain, tone, write_film, write_sound

KEY = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb")
KEY_ID = ("-encryption_kid", "a7e61c373e219033c21091fa607bf3b8")


@pytest.mark.parametrize("options", [(), ("-movflags", "faststart")])
def test_encrypted_mp4_is_reported_as_protected(options: tuple[str, ...], tmp_path: Path) -> None:
    film = write_film(tmp_path / "clear.mp4", plain(["red", "blue"], 10), 10, sound=[tone(440, 2)])
    path = tmp_path / "encrypted.mp4"
    ffmpeg("-i", film, "-c", "copy", *KEY, *KEY_ID, *options, path)
    assert_rejected(path, "media_protected", "DRM")
    assert not is_protected(film)


@pytest.mark.parametrize("entry", [b"drms", b"aavd"])
def test_protected_songs_and_audiobooks_are_reported_as_protected(entry: bytes, tmp_path: Path) -> None:
    song = write_sound(tmp_path / "song.m4a", tone(440, 1))
    content = song.read_bytes()
    assert content.count(b"mp4a") == 1
    song.write_bytes(content.replace(b"mp4a", entry))
    assert_rejected(song, "media_protected", "DRM")


def test_protected_windows_media_is_reported_as_protected(tmp_path: Path) -> None:
    path = tmp_path / "film.wma"
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", path)
    assert not is_protected(path)
    encryption = bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e") + struct.pack("<Q", 32) + bytes(8)
    content = bytearray(path.read_bytes())
    size, count = struct.unpack_from("<QI", content, 16)
    struct.pack_into("<QI", content, 16, size + len(encryption), count + 1)
    path.write_bytes(content[:30] + encryption + content[30:])
    assert_rejected(path, "media_protected", "DRM")


def test_pdf_is_rejected_as_a_document(tmp_path: Path) -> None:
    path = tmp_path / "paper.jpg"
    Image.new("RGB", (40, 40)).save(path, "PDF")
    assert_rejected(path, "media_unsupported", "convert the pages to images")


def test_first_page_of_a_tiff_is_used_others_are_reported(tmp_path: Path) -> None:
    pages = [Image.new("L", (40, 40), level) for level in (0, 100, 200)]
    path = tmp_path / "fax.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    info = probe_media(path)
    assert [warning.code for warning in info.warnings] == ["several_pages"]
    assert "3 pages; using page 1" in info.warnings[0].message


@pytest.mark.parametrize("order", ["<", ">"])
def test_thumbnails_and_loops_are_not_pages(order: str, tmp_path: Path) -> None:
    def directory(offset: int, subfile_type: int, following: int) -> bytes:
        assert offset >= 8
        return struct.pack(f"{order}HHHIII", 1, 254, 4, 1, subfile_type, following)

    size = len(directory(8, 0, 0))
    magic = b"II*\x00" if order == "<" else b"MM\x00*"
    content = magic + struct.pack(f"{order}I", 8)
    content += directory(8, 0, 8 + size) + directory(8 + size, 1, 8 + 2 * size) + directory(8 + 2 * size, 2, 8)
    path = tmp_path / "loop.tif"
    path.write_bytes(content)
    assert count_pages(path) == 2
    path.write_bytes(content[:20])
    assert count_pages(path) == 0


def assert_rejected(path: Path, code: str, words: str) -> None:
    with pytest.raises(MediaError) as caught:
        probe_media(path)
    assert caught.value.code == code
    assert str(path) in caught.value.message
    assert words in caught.value.message
