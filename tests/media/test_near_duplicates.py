"""Near-duplicate segments: the same still picture and the same steady sound, and nothing else."""

import numpy as np
import pytest
from PIL import Image

from promptreel.media.analysis import analyze_media
from promptreel.media.near_duplicates import find_near_duplicates, is_near_duplicate, load_picture
from promptreel.media.probe import probe_media
from promptreel.media.timeline import load_timeline
from promptreel.schemas.media import SoundActivity, TimeSpan
from promptreel.schemas.settings import MediaLimits, SamplingSettings
from tests.pipeline_runs import make_video
from tests.slides import TITLES, draw_slide, write_talk

LINES = ["Quarterly results", "Revenue grew by a tenth", "Costs stayed the same"]


def groups_of(path, folder, window_s=4, with_sound=True, **changes):
    folder.mkdir()
    analysis = analyze_media(probe_media(path, MediaLimits()), folder, SamplingSettings(), MediaLimits())
    for name, value in changes.items():
        object.__setattr__(analysis, name, value)
    ends = range(window_s, round(analysis.duration_us / 1e6) + 1, window_s)
    spans = [TimeSpan((end - window_s) * 1_000_000, end * 1_000_000) for end in ends]
    timeline = load_timeline(folder / "timeline.npz")
    return find_near_duplicates(
        analysis, timeline, spans, lambda frame: load_picture(folder / frame.file), with_sound=with_sound
    )


def as_picture(image, tmp_path, quality=60):
    image.save(tmp_path / "picture.jpg", quality=quality)
    return load_picture(tmp_path / "picture.jpg")


def test_each_segment_of_a_slide_repeats_the_first(tmp_path):
    talk = write_talk(tmp_path / "talk.mp4", [draw_slide([title]) for title in TITLES], 12)
    assert groups_of(talk, tmp_path / "a") == [0, 0, 0, 3, 3, 3, 6, 6, 6]


def test_one_new_line_on_a_slide_is_a_new_segment(tmp_path):
    slides = [draw_slide(LINES), draw_slide([*LINES, "Outlook"])]
    assert groups_of(write_talk(tmp_path / "talk.mp4", slides, 8), tmp_path / "a") == [0, 0, 2, 2]


def test_pale_grey_line_on_a_slide_is_a_new_segment(tmp_path):
    added = draw_slide(LINES)
    pale = draw_slide(["", "", "", "Outlook"], ink=(190, 190, 190))
    added.paste(pale.crop((0, 150, 854, 200)), (0, 150))
    talk = write_talk(tmp_path / "talk.mp4", [draw_slide(LINES), added], 8)
    assert groups_of(talk, tmp_path / "a") == [0, 0, 2, 2]


@pytest.mark.parametrize(("old", "new"), [("Profit 3 %", "Profit 8 %"), ("1.5 million", "15 million")])
def test_one_changed_character_is_a_difference(tmp_path, old, new):
    one, two = (as_picture(draw_slide([*LINES, line]), tmp_path) for line in (old, new))
    assert abs(one.astype(int) - two).mean() < 1, "a mean over the picture does not see it"
    assert not is_near_duplicate(one, two)


def test_change_of_colour_alone_is_a_difference(tmp_path):
    lamps = []
    for colour in ((200, 60, 60), (60, 131, 60)):  # of equal brightness
        image = draw_slide(LINES)
        image.paste(colour, (700, 400, 716, 416))
        lamps.append(as_picture(image, tmp_path))
    assert not is_near_duplicate(*lamps)


def test_change_at_the_edge_of_an_odd_size_is_a_difference():
    one = np.full((83, 101, 3), 90, np.uint8)
    two = one.copy()
    two[82, 98:] = 200
    assert not is_near_duplicate(one, two)
    assert not is_near_duplicate(one, one[:80])


def test_compression_and_camera_noise_are_no_difference(tmp_path):
    rng = np.random.default_rng(1)
    plain = np.asarray(draw_slide(LINES)).astype(float)
    noisy = [Image.fromarray(np.clip(plain + rng.normal(0, 3, plain.shape), 0, 255).astype(np.uint8)) for _ in "12"]
    one, two = (as_picture(image, tmp_path, quality) for image, quality in zip(noisy, (60, 75), strict=True))
    assert not np.array_equal(one, two)
    assert is_near_duplicate(one, two)


def test_slow_fade_does_not_chain_segments(tmp_path):
    greys = [draw_slide([], paper=(level, level, level)) for level in range(40, 70, 3)]
    found = groups_of(write_talk(tmp_path / "fade.mp4", greys, 4), tmp_path / "a")
    assert len(set(found)) >= 5  # 27 levels in all, at most 5 in a group


def test_moving_pictures_and_sound_alone_have_no_duplicates(tmp_path):
    assert groups_of(make_video(tmp_path / "film.mp4", 12), tmp_path / "a") == [0, 1, 2]


def test_segments_with_speech_are_never_duplicates(tmp_path):
    talk = write_talk(tmp_path / "talk.mp4", [draw_slide(LINES)], 16)
    speech = SoundActivity("silero", (TimeSpan(5_000_000, 6_000_000),))
    assert groups_of(talk, tmp_path / "a", activity=speech) == [0, 1, 2, 2]
    assert groups_of(talk, tmp_path / "b", activity=speech, with_sound=False) == [0, 0, 0, 0]


def test_sound_that_starts_ends_or_varies_is_a_difference(tmp_path):
    slides = [draw_slide(LINES)]
    tone = "aevalsrc='0.2*sin(880*t)*between(t,8,16)':s=16000"
    beats = "aevalsrc='0.2*sin(880*t)*lt(mod(t,1),0.3)':s=16000"
    steady = "aevalsrc='0.05*sin(880*t)':s=16000"
    found = groups_of(write_talk(tmp_path / "tone.mp4", slides, 24, tone), tmp_path / "a")
    assert found[:4] == [0, 0, 2, 2]
    assert found[4] != 2
    assert groups_of(write_talk(tmp_path / "beats.mp4", slides, 16, beats), tmp_path / "b") == [0, 1, 2, 3]
    assert groups_of(tmp_path / "beats.mp4", tmp_path / "d", with_sound=False) == [0, 0, 0, 0]
    assert groups_of(write_talk(tmp_path / "steady.mp4", slides, 16, steady), tmp_path / "c")[:3] == [0, 0, 0]


def test_film_without_sound_has_duplicates(tmp_path):
    talk = write_talk(tmp_path / "talk.mp4", [draw_slide(LINES)], 12, sound=None)
    assert groups_of(talk, tmp_path / "a") == [0, 0, 0]


def test_coloured_slides_are_compressed_to_duplicates_of_themselves(tmp_path):
    slides = [draw_slide(LINES, paper=paper) for paper in ((250, 200, 200), (200, 250, 200), (200, 200, 250))]
    assert groups_of(write_talk(tmp_path / "talk.mp4", slides, 12), tmp_path / "a") == [0, 0, 0, 3, 3, 3, 6, 6, 6]


def test_text_that_changes_its_colour_is_a_difference(tmp_path):
    inks = (200, 30, 30), (30, 107, 30)  # of nearly equal brightness
    assert not is_near_duplicate(*(as_picture(draw_slide(LINES, ink=ink), tmp_path) for ink in inks))
