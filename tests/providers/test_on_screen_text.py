"""On-screen text: read correctly by rapidocr, near-identical frames once, lines with first and last time."""

import socket
import threading

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from promptreel.media.sample_film import make_sample_film
from promptreel.providers import local_models, on_screen_text
from promptreel.providers.on_screen_text import (
    ScreenLine,
    find_weights,
    is_available,
    read_lines,
    read_screen,
)
from promptreel.schemas.errors import ModelError
from promptreel.schemas.media import SampledFrame
from tests.analysed_media import analyse

SECOND = 1_000_000

needs_rapidocr = pytest.mark.skipif(
    not is_available(), reason="rapidocr is not installed: pip install 'promptreel[ocr]'"
)


def draw(path, *lines, seed=1, size=28):
    """Write a JPEG of 640x360 with lines of text on a textured background."""
    rng = np.random.default_rng(seed)
    picture = Image.fromarray(rng.integers(20, 90, (3, 5, 3), dtype=np.uint8)).resize(
        (640, 360), Image.Resampling.BICUBIC
    )
    pen = ImageDraw.Draw(picture)
    for number, text in enumerate(lines):
        pen.text((60, 60 + 70 * number), text, fill=(240, 240, 240), font=ImageFont.load_default(size))
    picture.save(path, quality=85)
    return path


def frame_sequence(folder, *seeds):
    """Write one frame per second; frames of the same seed show the same picture."""
    frames = []
    for number, seed in enumerate(seeds):
        draw(folder / f"{number}.jpg", seed=seed)
        frames.append(SampledFrame(number * SECOND, f"{number}.jpg"))
    return frames


def reader(*readings):
    """Return a reader that returns these readings in order, and the list of the files that it reads."""
    names = []

    def read(path):
        names.append(path.name)
        return tuple(readings[len(names) - 1])

    return read, names


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """The sample film, analysed."""
    folder = tmp_path_factory.mktemp("film")
    make_sample_film(folder / "film.mp4")
    return analyse(folder / "film.mp4", folder / "analysis")


def normalized(text):
    """Normalize a caption: no spaces, and no difference between letters and similar digits."""
    return "".join(text.split()).upper().replace("0", "O").replace("1", "I")


@needs_rapidocr
@pytest.mark.parametrize(
    ("start_s", "end_s", "caption"),
    [
        (0, 5, "HARBOUR AT DAWN"),
        (5, 9.5, "A RED VAN ARRIVES"),
        (9.5, 14, "THE CRATES ARE LIFTED"),
        (16, 21, "NIGHT SHIFT"),
        (21, 23, "THE END OF THE LINE"),
    ],
)
def test_captions_of_a_film_are_read_correctly(film, start_s, end_s, caption):
    analysis, folder = film
    frames = [frame for frame in analysis.frames if start_s * SECOND <= frame.time_us < end_s * SECOND][:2]
    (line,) = read_screen(folder, frames)
    assert normalized(line.text) == normalized(caption)
    assert (line.first_us, line.last_us) == (frames[0].time_us, frames[-1].time_us)


@needs_rapidocr
def test_words_are_joined_into_lines_from_top_to_bottom(tmp_path):
    path = draw(tmp_path / "x.jpg", "Departures      Gate 12", "London 18:45")
    assert [normalized(line) for line in read_lines(path)] == [
        normalized("DEPARTURESGATE12"),
        normalized("LONDON18:45"),
    ]


@needs_rapidocr
def test_picture_without_text_has_no_lines(tmp_path):
    assert read_lines(draw(tmp_path / "x.jpg")) == ()


@needs_rapidocr
def test_unreadable_picture_is_a_model_error(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"no picture")
    with pytest.raises(ModelError, match=r"x\.jpg") as raised:
        read_lines(tmp_path / "x.jpg")
    assert raised.value.code == "embedding_failed"
    with pytest.raises(ModelError, match=r"x\.jpg"):
        read_screen(tmp_path, [SampledFrame(0, "x.jpg")])


@needs_rapidocr
def test_reader_is_loaded_once_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr(local_models, "_models", {})
    monkeypatch.setattr(socket.socket, "connect", lambda *arguments: pytest.fail("used the network"))
    loads, found = [], []
    load = on_screen_text._load
    monkeypatch.setattr(on_screen_text, "_load", lambda: loads.append(1) or load())
    paths = [draw(tmp_path / f"{n}.jpg", "NIGHT SHIFT", seed=n) for n in range(2)]
    threads = [threading.Thread(target=lambda path=path: found.append(read_lines(path))) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == [1]
    assert [[normalized(line) for line in lines] for lines in found] == [[normalized("NIGHT SHIFT")]] * 2


def test_near_identical_frames_are_read_once(tmp_path):
    frames = frame_sequence(tmp_path, 1, 1, 1, 2, 2, 1)
    read, names = reader(["ONE"], ["SOMETHING ELSE"], ["ONE"])
    assert read_screen(tmp_path, frames, read) == (
        ScreenLine("ONE", 0, 5 * SECOND),
        ScreenLine("SOMETHING ELSE", 3 * SECOND, 4 * SECOND),
    )
    assert names == ["0.jpg", "3.jpg", "5.jpg"]


def test_lines_are_in_order_of_first_appearance(tmp_path):
    read, _ = reader(["LOWER THIRD"], ["TITLE", "LOWER THIRD"], ["TITLE"])
    found = read_screen(tmp_path, frame_sequence(tmp_path, 1, 2, 3), read)
    assert found == (ScreenLine("LOWER THIRD", 0, SECOND), ScreenLine("TITLE", SECOND, 2 * SECOND))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("HARBOUR AT DAWN", "HARB0UR AT DAWN"),
        ("HARBOUR AT DAWN", "HARBOURAT DAWN"),
        ("The crates are lifted", "the crates are Iifted"),
        ("Gate 12", "Gate 12"),
    ],
)
def test_readings_that_differ_in_a_letter_are_one_line(tmp_path, one, two):
    read, _ = reader([one], [two])
    assert read_screen(tmp_path, frame_sequence(tmp_path, 1, 2), read) == (ScreenLine(one, 0, SECOND),)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("HARBOUR AT DAWN", "A RED VAN ARRIVES"),
        ("NIGHT SHIFT", "DAY SHIFT"),
        ("Episode 11 of the series", "Episode 12 of the series"),
        ("HOME 1 - 0 GUEST", "HOME 2 - 0 GUEST"),
        ("18:45:01", "18:45:02"),
    ],
)
def test_different_captions_are_two_lines(tmp_path, one, two):
    read, _ = reader([one], [two])
    found = read_screen(tmp_path, frame_sequence(tmp_path, 1, 2), read)
    assert found == (ScreenLine(one, 0, 0), ScreenLine(two, SECOND, SECOND))


def test_no_frames_give_no_lines(tmp_path):
    assert read_screen(tmp_path, ()) == ()


def test_missing_package_is_reported_with_the_fix(monkeypatch, tmp_path):
    monkeypatch.setattr(local_models, "_models", {})
    monkeypatch.setattr(on_screen_text.importlib.util, "find_spec", lambda name: None)
    assert find_weights().fix == "pip install 'promptreel[ocr]'"
    assert not is_available()
    with pytest.raises(ModelError, match="not installed; pip install"):
        read_lines(draw(tmp_path / "unread.jpg", "TITLE"))


@needs_rapidocr
def test_models_are_in_the_installed_package():
    found = find_weights()
    assert found.available
    assert found.source.startswith("rapidocr 3.")
    assert found.size_bytes > 10_000_000
