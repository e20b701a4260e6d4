"""A disk that fills up during the decode pass."""

import re

import pytest

from promptreel.media.decode import decode_media
from promptreel.media.probe import probe_media
from promptreel.schemas.errors import StorageError
from promptreel.schemas.settings import MediaLimits, SamplingSettings
from tests.media_files import textured, tone, write_film
from tests.small_disk import fill, mounted


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return write_film(path, textured(6, 10), 10, sound=[tone(440, 6)])


def stored(folder, film):
    """Decode the film into a folder; return its sampled frames with their pictures, and its sound, as stored."""
    folder.mkdir()
    ignore = lambda *_: None  # noqa: E731
    media = decode_media(probe_media(film), folder, SamplingSettings(), MediaLimits(), ignore, ignore)
    pictures = [(frame.time_us, (folder / frame.file).read_bytes()) for frame in media.frames]
    return pictures, (folder / media.audio_file).read_bytes()


def outcome(disk, film, complete):
    """Return "complete", or the error of the machine that the decode pass raised."""
    try:
        return "complete" if stored(disk / "item", film) == complete else "wrong"
    except StorageError as error:
        return "full" if re.search("No space left on device|the disk may be full", str(error)) else str(error)


def test_item_on_a_full_disk_is_complete_or_fails(film, tmp_path):
    complete = stored(tmp_path / "complete", film)
    needed = sum(len(picture) for _, picture in complete[0]) + len(complete[1])
    (tmp_path / "disk").mkdir()
    found = {}
    for free_bytes in range(0, needed + 80_000, 10_240):
        with mounted(tmp_path / "disk", 4) as disk:
            fill(disk, free_bytes)
            found[free_bytes] = outcome(disk, film, complete)
    assert found[0] == "full"
    assert found[max(found)] == "complete"
    assert set(found.values()) == {"full", "complete"}
