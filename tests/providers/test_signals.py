"""The built-in model: measurements of media with known values, and values that do not apply."""

import asyncio
import json
import math
import sys
import wave
from dataclasses import replace

import numpy as np
import pytest

from promptreel.media.sample_film import CUT_TIMES_S, make_sample_film
from promptreel.media.speech import detector_name
from promptreel.providers import on_screen_text
from promptreel.providers.base import ModelRequest
from promptreel.providers.signals import MEASUREMENTS, SignalsProvider
from promptreel.schemas.errors import PromptError
from promptreel.schemas.prompt import Prompt, VideoLevel
from promptreel.schemas.speech_rows import Word
from tests.analysed_media import analyse, make_media, segment_of
from tests.pipeline_runs import CHECKOUT, make_image, plain_rows, start
from tests.voices import SAMPLE_RATE, draw_voice

PICTURE_FIELDS = {"brightness", "dominant_colors"}
VIDEO_FIELDS = {"motion", "shot_count", "cut_times"}
SOUND_FIELDS = {"loudness_dbfs", "peak_loudness_dbfs"}


def schema_of(*names):
    def leaf(name):
        known = MEASUREMENTS[name]
        if known.parts:
            parts = {part: {"type": kind} for part, kind in known.parts.items()}
            return {"type": "array", "items": {"type": "object", "properties": parts}}
        return {"type": "array", "items": {"type": known.type}} if known.list_depth else {"type": known.type}

    return {"type": "object", "properties": {name: leaf(name) for name in names}}


# On-screen text needs its own model and has separate tests.
ON_SCREEN_FIELDS = {"on_screen_text", "on_screen_lines"}
EVERYTHING = schema_of(*(name for name in MEASUREMENTS if name not in ON_SCREEN_FIELDS))


def measure(media, schema=EVERYTHING):
    """Return the values in the model's answer."""
    provider = SignalsProvider()
    request = ModelRequest("metadata_extraction", "instruction", "text", schema, media)
    answer = asyncio.run(provider.call(request, None))
    assert (answer.finish_reason, answer.failure) == ("STOP", None)
    return json.loads(answer.text)


@pytest.fixture(scope="module")
def make_item(tmp_path_factory):
    """A function that creates and analyses media, each once."""
    cache = {}

    def create(name, **options):
        key = name, *sorted(options.items())
        if key not in cache:
            folder = tmp_path_factory.mktemp("media")
            cache[key] = analyse(make_media(folder / name, **options), folder / "analysis")
        return cache[key]

    return create


def plain(colour, seconds=3):
    return {"picture": f"color=c={colour}:size=320x180:rate=24", "seconds": seconds}


# Pictures


@pytest.mark.parametrize("grey", [0x00, 0x40, 0x80, 0xFF])
def test_brightness_of_grey(make_item, grey):
    film = make_item("grey.mp4", **plain(f"0x{grey:02x}{grey:02x}{grey:02x}"))
    assert measure(segment_of(film))["brightness"] == pytest.approx(grey / 255, abs=0.02)


@pytest.mark.parametrize(("colour", "red", "green", "blue"), [("red", 1, 0, 0), ("lime", 0, 1, 0), ("blue", 0, 0, 1)])
def test_brightness_is_luma(make_item, colour, red, green, blue):
    film = make_item("colour.mp4", **plain(colour))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue  # BT.601
    assert measure(segment_of(film))["brightness"] == pytest.approx(luma, abs=0.04)


def test_dominant_colours_are_in_order_of_their_share(make_item):
    halves = "color=c=red:s=210x180:r=24[a];color=c=blue:s=90x180:r=24[b];color=c=white:s=20x180:r=24[c]"
    film = make_item("halves.mp4", picture=f"{halves};[a][b][c]hstack=inputs=3", seconds=2)
    colours = measure(segment_of(film))["dominant_colors"]
    assert colours[:2] == ["#e02020", "#2020e0"]
    assert len(colours) <= 3


def test_small_share_is_not_a_dominant_colour(make_item):
    parts = "color=c=black:s=312x180:r=24[a];color=c=yellow:s=8x180:r=24[b];[a][b]hstack"
    assert measure(segment_of(make_item("speck.mp4", picture=parts, seconds=2)))["dominant_colors"] == ["#202020"]


def test_motion_of_a_still_and_a_moving_picture(make_item):
    still = measure(segment_of(make_item("still.mp4", **plain("0x808080"))))
    assert still["motion"] == pytest.approx(0, abs=0.01)
    assert measure(segment_of(shots(make_item)))["motion"] > 0.05


def test_motion_is_the_change_of_luma_per_second(make_item):
    # Luma rises from black to white in 4 s: a quarter of its range per second.
    rise = "color=c=black:size=320x180:rate=25,format=gray,geq=lum='255*min(1,T/4)'"
    motion = measure(segment_of(make_item("rise.mp4", picture=rise, seconds=4)))["motion"]
    assert motion == pytest.approx(0.25, abs=0.05)


def shots(make_item):
    """Three moving shots of 2 s each."""
    sources = ("testsrc2=s=320x180:r=24:d=2", "mandelbrot=s=320x180:r=24", "rgbtestsrc=s=320x180:r=24:d=2")
    graph = ";".join(f"{source},trim=duration=2,format=yuv420p,setsar=1[{n}]" for n, source in enumerate(sources))
    return make_item("shots.mp4", picture=f"{graph};[0][1][2]concat=n=3", sound="sine=frequency=300", seconds=6)


@pytest.mark.parametrize(
    ("start_s", "end_s", "cuts"), [(0, 6, [2, 4]), (1, 3, [2]), (2.5, 3.5, []), (0, 1.5, []), (3, 6, [4])]
)
def test_shots_and_cuts_of_a_segment(make_item, start_s, end_s, cuts):
    values = measure(segment_of(shots(make_item), start_s, end_s))
    assert values["cut_times"] == pytest.approx(cuts, abs=0.1)  # seconds from the start of the item
    assert values["shot_count"] == len(cuts) + 1
    assert values["duration_seconds"] == end_s - start_s


# Sound


@pytest.mark.parametrize("amplitude", [0.5, 0.05])
def test_loudness_of_a_sine(make_item, amplitude):
    item = make_item("sine.wav", sound=f"aevalsrc={amplitude}*sin(2*PI*440*t):s=16000", seconds=3)
    values = measure(segment_of(item))
    level = 20 * math.log10(amplitude / math.sqrt(2))
    assert values["loudness_dbfs"] == pytest.approx(level, abs=0.1)
    assert values["peak_loudness_dbfs"] == pytest.approx(level, abs=0.1)


def half_silent(make_item):
    return make_item("half.wav", sound="aevalsrc=0.5*sin(2*PI*440*t)*lt(t\\,2):s=16000", seconds=4)


def test_loudness_is_mean_power_and_peak_the_loudest_tenth(make_item):
    values = measure(segment_of(half_silent(make_item)))
    level = 20 * math.log10(0.5 / math.sqrt(2))
    assert values["loudness_dbfs"] == pytest.approx(level + 10 * math.log10(0.5), abs=0.15)
    assert values["peak_loudness_dbfs"] == pytest.approx(level, abs=0.1)
    silent = measure(segment_of(half_silent(make_item), 2.5, 4))
    assert silent["loudness_dbfs"] <= -90


@pytest.mark.parametrize(("start_s", "end_s"), [(0, 4), (1, 3), (0, 1), (2.5, 4)])
def test_sound_share_of_a_tone(make_item, start_s, end_s):
    values = measure(segment_of(half_silent(make_item), start_s, end_s))
    share = max(0, min(2, end_s) - start_s) / (end_s - start_s)
    assert values["sound_share"] == pytest.approx(share, abs=0.08)
    assert "speech_share" not in values  # without speech detection


@pytest.mark.skipif(detector_name() != "silero", reason="the Silero speech detector is not installed")
def test_speech_share_of_a_voice(tmp_path):
    voice = draw_voice(12.0, seed=4)
    with wave.open(str(tmp_path / "voice.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(voice.samples.tobytes())
    item = analyse(tmp_path / "voice.wav", tmp_path / "analysis")
    is_speech = np.zeros(voice.duration_us // 1000, bool)
    for span in voice.speech:
        is_speech[span.start_us // 1000 : span.end_us // 1000] = True
    for start_s, end_s in ((0, voice.duration_us // 1_000_000), (2, 7)):
        values = measure(segment_of(item, start_s, end_s))
        assert values["speech_share"] == pytest.approx(is_speech[start_s * 1000 : end_s * 1000].mean(), abs=0.1)
        assert "sound_share" not in values


# Values that do not apply


def test_image_has_only_picture_values(make_item):
    values = measure(segment_of(make_item("still.png", picture="color=c=0x808080:size=320x180")))
    assert set(values) - {"duration_seconds"} == PICTURE_FIELDS
    assert values["brightness"] == pytest.approx(128 / 255, abs=0.02)


def test_audio_has_no_picture_values(make_item):
    assert set(measure(segment_of(half_silent(make_item)))) == {"duration_seconds", "sound_share", *SOUND_FIELDS}


def test_silent_video_has_no_sound_values(make_item):
    assert set(measure(segment_of(make_item("still.mp4", **plain("0x808080"))))) == {
        "duration_seconds", *PICTURE_FIELDS, *VIDEO_FIELDS
    }  # fmt: skip


# Schemas


def test_nested_fields_are_filled(make_item):
    schema = {
        "type": "object",
        "properties": {
            "duration_seconds": {"type": "number"},
            "picture": {
                "type": "object",
                "properties": {"light": {"type": "object", "properties": schema_of("brightness")["properties"]}},
            },
            "sound": schema_of("loudness_dbfs"),
        },
    }
    flat = measure(segment_of(shots(make_item)))
    assert measure(segment_of(shots(make_item)), schema) == {
        "duration_seconds": flat["duration_seconds"],
        "picture": {"light": {"brightness": flat["brightness"]}},
        "sound": {"loudness_dbfs": flat["loudness_dbfs"]},
    }


def test_nullable_fields_and_counts_as_numbers_are_accepted(make_item):
    schema = {
        "type": "object",
        "properties": {
            "brightness": {"type": ["number", "null"]},
            "shot_count": {"type": "number"},
            "loudness_dbfs": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        },
    }
    SignalsProvider().check_prompt(prompt(schema))
    assert set(measure(segment_of(shots(make_item)), schema)) == {"brightness", "shot_count", "loudness_dbfs"}


def prompt(schema, video_schema=None):
    level = None if video_schema is None else VideoLevel("Measure the item.", video_schema)
    return Prompt("measured", "Measure the segment.", schema, video_level=level)


def test_all_measurements_can_be_requested():
    SignalsProvider().check_prompt(prompt(EVERYTHING, EVERYTHING))


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"mood": {"type": "string"}}, "'mood'"),
        ({"brightness": {"type": "string"}}, r"'brightness' \(measured as number\)"),
        ({"shot_count": {"type": "array", "items": {"type": "integer"}}}, "'shot_count'"),
        ({"cut_times": {"type": "number"}}, r"'cut_times' \(measured as array of number\)"),
        ({"brightness": {"type": "integer"}}, "'brightness'"),
        ({"shots": {"type": "array", "items": schema_of("brightness")}}, r"'shots\[\].brightness'"),
        (
            {"shots": {"type": "array", "items": {"type": "object", "properties": {"cut_times": {"type": "number"}}}}},
            r"'shots\[\].cut_times'",
        ),
        ({"extra": {"type": "object"}}, "'extra'"),
        ({}, "cannot fill any field"),
    ],
)
def test_unmeasurable_field_is_rejected_with_the_measurable_ones(properties, message):
    schema = {"type": "object", "properties": properties}
    with pytest.raises(PromptError, match=message) as caught:
        SignalsProvider().check_prompt(prompt(schema))
    for name in MEASUREMENTS:
        assert f"{name} (" in str(caught.value)
    with pytest.raises(PromptError, match=r"video_level\.json_schema"):
        SignalsProvider().check_prompt(prompt(schema_of("brightness"), schema))


def test_measurable_fields_are_not_named_as_faults():
    schema = schema_of("brightness", "motion")
    schema["properties"]["mood"] = {"type": "string"}
    with pytest.raises(PromptError, match="cannot fill 'mood' of json_schema"):
        SignalsProvider().check_prompt(prompt(schema))


# On-screen text


@pytest.fixture(scope="module")
def captioned(tmp_path_factory):
    """The sample film, with captions that change at its cuts."""
    folder = tmp_path_factory.mktemp("captioned")
    make_sample_film(folder / "film.mp4")
    return analyse(folder / "film.mp4", folder / "analysis")


def without_spaces(text):
    """Remove spaces, because the reader may add or miss some."""
    return "".join(text.split())


def test_each_caption_has_the_times_of_its_frames(captioned):
    if not on_screen_text.is_available():
        pytest.skip("rapidocr is not installed: pip install 'promptreel[ocr]'")
    segment = segment_of(captioned, 3, 7)
    values = measure(segment, schema_of(*ON_SCREEN_FIELDS))
    assert [without_spaces(text) for text in values["on_screen_text"]] == ["HARBOURATDAWN", "AREDVANARRIVES"]
    assert [line["text"] for line in values["on_screen_lines"]] == values["on_screen_text"]
    cut_s = CUT_TIMES_S[0]
    times = [frame.time_us / 1e6 for frame in segment.frames]
    expected = [[t for t in times if t < cut_s], [t for t in times if t >= cut_s]]
    seen = [(line["first_seen"], line["last_seen"]) for line in values["on_screen_lines"]]
    assert seen == [(part[0], part[-1]) for part in expected]  # seconds of the item, not of the segment


def test_picture_without_text_has_an_empty_list(make_item):
    if not on_screen_text.is_available():
        pytest.skip("rapidocr is not installed: pip install 'promptreel[ocr]'")
    grey = make_item("grey.mp4", **plain("0x808080"))
    assert measure(segment_of(grey), schema_of(*ON_SCREEN_FIELDS)) == {"on_screen_text": [], "on_screen_lines": []}
    sound = make_item("sine.wav", sound="aevalsrc=0.5*sin(2*PI*440*t):s=16000", seconds=3)
    assert measure(segment_of(sound), schema_of(*ON_SCREEN_FIELDS)) == {}


HIDE_READER = """
from importlib.machinery import PathFinder

find_spec = PathFinder.find_spec
PathFinder.find_spec = lambda name, path=None, target=None: None if name == "rapidocr" else find_spec(name, path, target)
"""


def test_missing_reader_is_a_warning_with_the_fix(tmp_path):
    still = make_image(tmp_path / "still.png")
    schema = {"type": "object", "properties": {**schema_of(*ON_SCREEN_FIELDS, "brightness")["properties"]}}
    definition = {"name": "written", "prompt_text": "Measure the segment.", "json_schema": schema}
    (tmp_path / "prompt.json").write_text(json.dumps(definition))
    words = ["run", still, "--prompt", tmp_path / "prompt.json", "--data-dir", tmp_path / "data", "--model", "signals"]
    words += ["--no-image-embedding", "--no-text-embedding", "--json"]
    # The package must also be hidden from the runner process.
    (tmp_path / "sitecustomize.py").write_text(HIDE_READER)
    path = f"{tmp_path}:{CHECKOUT}"
    child = start([sys.executable, "-m", "promptreel", *map(str, words)], env={"PYTHONPATH": path})
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    (row,) = plain_rows(tmp_path / "data", json.loads(out)["run_id"], "results")
    assert set(json.loads(row["metadata"])) == {"brightness"}
    assert row["warning"].startswith("no on-screen text: ")
    assert "pip install 'promptreel[ocr]'" in row["warning"]
    child = start([sys.executable, "-m", "promptreel", "doctor", "--json"], env={"PYTHONPATH": path})
    checks = {check["name"]: check for check in json.loads(child.communicate(timeout=120)[0])}
    assert checks["on-screen text (rapidocr)"]["state"] == "missing"


def test_transcript_and_word_count_of_a_segment(make_item):
    sound = segment_of(make_item("sine.wav", sound="aevalsrc=0.5*sin(2*PI*440*t):s=16000", seconds=3))
    schema = schema_of("transcript", "word_count")
    words = tuple(Word(time, time + 1, text, 1.0) for time, text in enumerate((" Leave", " the", " harbour.")))
    assert measure(replace(sound, words=words), schema) == {"transcript": "Leave the harbour.", "word_count": 3}
    assert measure(replace(sound, words=()), schema) == {"transcript": "", "word_count": 0}
    assert measure(sound, schema) == {}
