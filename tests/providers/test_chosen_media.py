"""A few chosen frames of a segment, and no sound: what is sent, and what becomes part of the operation's key."""

from dataclasses import replace

import pytest

from promptreel.providers.chosen_media import choice_material, choose_media
from promptreel.providers.extraction import earlier_extraction_key, extraction_key
from promptreel.providers.gemini import GeminiProvider
from promptreel.providers.signals import SignalsProvider
from promptreel.schemas.mediatime import format_timecode
from promptreel.schemas.settings import ModelSettings
from promptreel.schemas.speech_rows import Word
from tests.analysed_media import segment_of
from tests.prompts import NESTED
from tests.providers.gemini_calls import MODEL, build_request, call_model, content_of, media_parts, pictures_of

GEMINI = GeminiProvider(ModelSettings(MODEL), 1.0)
ALL = ModelSettings(MODEL)
FEW = replace(ALL, frames_per_segment=3, sound=False)


def chosen(analysed, start_s, end_s, settings=FEW, provider=GEMINI, cuts_s=()):
    media = segment_of(analysed, start_s, end_s)
    return choose_media(provider, settings, media, [cut * 1_000_000 for cut in cuts_s])


def test_chosen_frames_are_one_clip_with_their_times(service, film):
    media = chosen(film, 2, 11, replace(FEW, sound=None), cuts_s=[7])
    assert any(7_000_000 <= frame.time_us < 8_000_000 for frame in media.frames)
    call_model(service, build_request(media), frames_per_segment=3)
    label, clip, sound_label, sound = media_parts(service.bodies[0])
    times = [format_timecode(max(0, frame.time_us - 2_000_000)) for frame in media.frames]
    assert label["text"].endswith(": " + ", ".join(times))
    assert pictures_of(content_of(clip))[0][:3] == pytest.approx([0, 1, 2], abs=0.05)
    assert "videoMetadata" not in clip
    assert sound_label["text"] == "Sound of the segment:"
    assert sound["inlineData"]["mimeType"] == "audio/mp4"


def test_chosen_frames_are_images_if_frames_are_sent(service, film):
    call_model(service, build_request(chosen(film, 2, 11)), media_input="frames")
    kinds = ["text" if "text" in part else part["inlineData"]["mimeType"] for part in media_parts(service.bodies[0])]
    assert kinds == ["text", "image/jpeg"] * 3


def test_short_segment_sends_all_its_frames_in_order(film):
    media = chosen(film, 4, 6)
    assert media.frames == segment_of(film, 4, 6).frames
    assert media.has_chosen_frames


def test_sound_and_words_of_audio_are_always_sent(film, tone):
    words = (Word("hello", 1_000_000, 1_200_000, 0.9),)
    for analysed, sent in ((film, False), (tone, True)):
        media = replace(segment_of(analysed, 0, 4), words=words)
        media = choose_media(GEMINI, FEW, media, [])
        assert (media.audio_file is not None, media.words is not None) == (sent, sent)
        assert choice_material(GEMINI, FEW, media.media_type) == (
            {} if sent else {"chosen_frames": [1, 3], "sound": False}
        )


def test_model_in_this_process_measures_everything(film):
    signals = SignalsProvider()
    media = segment_of(film, 0, 8)
    assert choose_media(signals, FEW, media, []) == media
    assert choice_material(signals, FEW, "video") == {}


@pytest.mark.parametrize("key_of", [extraction_key, earlier_extraction_key])
def test_keys_change_only_with_the_choice(key_of):
    def key(settings, media_type="video"):
        choice = choice_material(GEMINI, settings, media_type)
        return key_of(GEMINI, NESTED, "item", (0, 1), None, choice)

    complete = key_of(GEMINI, NESTED, "item", (0, 1))
    assert key(ALL) == key(replace(ALL, sound=True)) == key(FEW, "audio") == key(FEW, "image") == complete
    keys = [
        key(FEW),
        key(replace(FEW, sound=None)),
        key(replace(FEW, frames_per_segment=4)),
        key(replace(ALL, sound=False)),
    ]
    assert len({complete, *keys}) == 5
