"""Analysis of complete items, mainly of the sample film with its known cuts and sound."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from promptreel.media.analysis import (
    ANALYSIS_FILE,
    TIMELINE_FILE,
    MediaAnalysis,
    analysis_key,
    analyze_media,
    frames_of_span,
    load_analysis,
)
from promptreel.media.probe import probe_media
from promptreel.media.sample_film import (
    CROSS_FADE_S,
    CUT_TIMES_S,
    DURATION_S,
    SOUND_S,
    make_sample_film,
)
from promptreel.media.speech import pauses
from promptreel.media.timeline import load_timeline
from promptreel.schemas.media import SampledFrame, TimeSpan
from promptreel.schemas.media_warnings import MediaWarning
from promptreel.schemas.mediatime import us_from_seconds
from promptreel.schemas.settings import MediaLimits, SamplingSettings
from tests.media_files import halves, read_pictures, tone, write_image, write_sound


def analyse(path: Path, folder: Path, sampling: SamplingSettings | None = None) -> MediaAnalysis:
    folder.mkdir(exist_ok=True)
    return analyze_media(probe_media(path), folder, sampling or SamplingSettings(), MediaLimits())


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "sample.mp4"
    make_sample_film(path)
    return path


@pytest.fixture(scope="module")
def analysed(film: Path) -> tuple[MediaAnalysis, Path]:
    folder = film.parent / "analysis"
    return analyse(film, folder), folder


Analysed = tuple[MediaAnalysis, Path]


def test_cuts_and_cross_fade_of_the_sample_film_are_found(analysed: Analysed) -> None:
    found = analysed[0].transitions
    known = [
        ("cut", CUT_TIMES_S[0]),
        ("cut", CUT_TIMES_S[1]),
        ("dissolve", sum(CROSS_FADE_S) / 2),
        ("cut", CUT_TIMES_S[2]),
    ]
    assert [(each.kind, each.at_us) for each in found] == [
        (kind, pytest.approx(us_from_seconds(time_s), abs=100_000 if kind == "cut" else 250_000))
        for kind, time_s in known
    ]


def test_pauses_of_the_sample_film_are_found(analysed: Analysed) -> None:
    analysis = analysed[0]
    ends = [0.0, *(end for _, end in SOUND_S)]
    starts = [*(start for start, _ in SOUND_S), DURATION_S]
    found = pauses(analysis.activity, analysis.duration_us)
    assert [(pause.start_us, pause.end_us) for pause in found] == [
        (pytest.approx(us_from_seconds(end), abs=250_000), pytest.approx(us_from_seconds(start), abs=250_000))
        for end, start in zip(ends, starts, strict=True)
    ]


def test_duration_and_frames_of_the_sample_film(analysed: Analysed) -> None:
    analysis, folder = analysed
    assert analysis.duration_us == us_from_seconds(DURATION_S)
    assert (analysis.truncated, analysis.warnings) == (False, ())
    assert [frame.time_us // 1_000_000 for frame in analysis.frames] == list(range(25))
    assert read_pictures(folder / analysis.frames[3].file, (640, 360)).shape == (1, 360, 640, 3)


def test_sample_film_is_deterministic(film: Path, tmp_path: Path) -> None:
    make_sample_film(tmp_path / "again.mp4")
    assert (tmp_path / "again.mp4").read_bytes() == film.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again.mp4"]


def test_folder_contains_the_listed_files(analysed: Analysed) -> None:
    analysis, folder = analysed
    assert sorted(path.name for path in folder.iterdir()) == [ANALYSIS_FILE, "audio.flac", "frames", TIMELINE_FILE]
    assert sorted(f"frames/{path.name}" for path in (folder / "frames").iterdir()) == [
        frame.file for frame in analysis.frames
    ]


def test_stored_analysis_is_loaded_unchanged(analysed: Analysed) -> None:
    analysis, folder = analysed
    assert load_analysis((folder / ANALYSIS_FILE).read_bytes()) == analysis


def test_analyses_of_sound_and_image_are_loaded(tmp_path: Path) -> None:
    sound = analyse(write_sound(tmp_path / "s.flac", tone(440, 2)), tmp_path / "sound")
    image = analyse(write_image(tmp_path / "p.png", halves("red", "blue", (64, 48))), tmp_path / "image")
    assert load_analysis((tmp_path / "sound" / ANALYSIS_FILE).read_bytes()) == sound
    assert load_analysis((tmp_path / "image" / ANALYSIS_FILE).read_bytes()) == image
    assert (sound.transitions, sound.frames, sound.activity.detector) == ((), (), "level")
    assert (image.transitions, image.duration_us, image.activity.detector) == ((), 0, "none")
    assert len(load_timeline(tmp_path / "image" / TIMELINE_FILE).brightness) == 1


def test_warnings_of_the_probe_are_stored(film: Path, tmp_path: Path) -> None:
    info = replace(probe_media(film), warnings=(MediaWarning("several_audio_tracks", "2 audio tracks; using track 1"),))
    analysis = analyze_media(info, tmp_path, SamplingSettings(), MediaLimits())
    assert [warning.code for warning in analysis.warnings] == ["several_audio_tracks"]


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b'{"info": {}}'])
def test_incomplete_analysis_raises_an_expected_error(content: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        load_analysis(content)


def test_timeline_follows_the_film(analysed: Analysed) -> None:
    timeline = load_timeline(analysed[1] / TIMELINE_FILE)
    assert len(timeline.brightness) == len(timeline.motion) == DURATION_S * 10
    night, day = timeline.brightness[170:200].mean(), timeline.brightness[60:90].mean()
    assert night < day / 2
    assert timeline.brightness[-1] < 0.05  # faded out
    assert np.median(timeline.loudness_dbfs[110:140]) > -30
    assert timeline.loudness_dbfs[1:3].max() < -55


def test_equal_content_has_equal_results_and_keys(film: Path, tmp_path: Path, analysed: Analysed) -> None:
    copy = tmp_path / "other name.mp4"
    copy.write_bytes(film.read_bytes())
    again = analyse(copy, tmp_path / "again")
    assert replace(again, info=analysed[0].info) == analysed[0]
    keys = [analysis_key(hashlib.sha256(path.read_bytes()).hexdigest(), SamplingSettings()) for path in (film, copy)]
    assert keys[0] == keys[1]
    for name in ("frames/00000005.jpg", "audio.flac"):
        assert (tmp_path / "again" / name).read_bytes() == (analysed[1] / name).read_bytes()


def test_key_depends_on_content_and_every_sampling_setting() -> None:
    base = SamplingSettings()
    others = [
        replace(base, frames_per_second=2.0),
        replace(base, max_width=640),
        replace(base, max_height=360),
        replace(base, jpeg_quality=6),
    ]
    keys = {analysis_key("a", settings) for settings in (base, *others)} | {analysis_key("b", base)}
    assert len(keys) == 6


FRAMES = tuple(SampledFrame(time_us, f"{time_us}.jpg") for time_us in (0, 1000, 2000, 3000))


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ((0, 4000), [0, 1000, 2000, 3000]),
        ((1000, 2000), [1000]),
        ((1000, 2001), [1000, 2000]),
        ((1500, 2500), [1000, 2000]),
        ((1500, 1900), [1000]),
        ((3500, 9000), [3000]),
    ],
)
def test_frames_of_a_span_match_a_player(span: tuple[int, int], expected: list[int]) -> None:
    assert [frame.time_us for frame in frames_of_span(FRAMES, TimeSpan(*span))] == expected


def test_span_before_the_first_frame_uses_the_first() -> None:
    assert frames_of_span(FRAMES[2:], TimeSpan(0, 1000)) == FRAMES[2:3]
    assert [frame.time_us for frame in frames_of_span(FRAMES[2:], TimeSpan(0, 2500))] == [2000]
    assert frames_of_span((), TimeSpan(0, 1000)) == ()


def test_analysis_file_is_plain_json_without_its_folder_name(analysed: Analysed) -> None:
    data = json.loads((analysed[1] / ANALYSIS_FILE).read_text("utf-8"))
    assert set(data) == set(MediaAnalysis.__dataclass_fields__)
    assert str(analysed[1]) not in json.dumps(data)


def test_real_speech_is_detected(real_media: Callable[[str], Path], tmp_path: Path) -> None:
    analysis = analyse(real_media("jfk.flac"), tmp_path / "a")
    assert analysis.activity.detector == "silero"
    spoken_us = sum(span.duration_us for span in analysis.activity.spans)
    assert 5_000_000 < spoken_us < 11_000_000
    assert len(pauses(analysis.activity, analysis.duration_us)) >= 2
