"""What a prompt says about the media it needs, and the settings that result from it."""

from dataclasses import replace

import pytest

from promptreel.schemas.errors import PromptError, SettingsError
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.schemas.prompt_media import DEFAULT_FRAMES, PromptMedia, settings_for_prompt
from promptreel.schemas.settings import ModelSettings, RunSettings, settings_from_dict
from tests.prompts import NESTED


def model_for(media, **model):
    settings = settings_for_prompt(RunSettings(model=ModelSettings("gemini-x", **model)), PromptMedia(**media))
    assert settings_from_dict(settings.to_dict()) == settings
    return settings.model


def chosen(model):
    return model.frames_per_segment, model.sound, model.media_resolution


@pytest.mark.parametrize(
    ("media", "expected"),
    [
        ({}, (None, None, None)),
        ({"pictures_only": True}, (DEFAULT_FRAMES, False, "low")),
        ({"pictures_only": True, "frames_per_segment": 8, "resolution": "high"}, (8, False, "high")),
        ({"frames_per_segment": 2}, (2, None, None)),
        ({"resolution": "low"}, (None, None, "low")),
    ],
)
def test_prompt_determines_what_is_sent(media, expected):
    assert chosen(model_for(media)) == expected


def test_settings_of_the_user_override_the_prompt():
    own = {"frames_per_segment": 9, "sound": True, "media_resolution": "high"}
    assert chosen(model_for({"pictures_only": True}, **own)) == tuple(own.values())


def test_uploaded_files_stay_complete():
    assert chosen(model_for({"pictures_only": True}, media_input="files")) == (None, None, "low")
    for wrong in ({"frames_per_segment": 3}, {"sound": False}):
        with pytest.raises(SettingsError, match=rf"{next(iter(wrong))} is .* 'files'"):
            ModelSettings("gemini-x", media_input="files", **wrong)


def test_prompt_without_needs_has_its_earlier_id():
    assert "media" not in NESTED.to_dict()
    assert prompt_from_dict({**NESTED.to_dict(), "media": None}).prompt_id == NESTED.prompt_id
    needy = replace(NESTED, media=PromptMedia(pictures_only=True))
    assert needy.prompt_id != NESTED.prompt_id
    assert prompt_from_dict(needy.to_dict()) == needy


@pytest.mark.parametrize(
    ("media", "message"),
    [
        ({"pictures": True}, "media.pictures is unknown"),
        ({"pictures_only": "yes please"}, "media.pictures_only"),
        ({"frames_per_segment": 0}, "media.frames_per_segment is 0; it must be from 1 to 300"),
        ({"resolution": "tiny"}, "media.resolution is 'tiny'"),
    ],
)
def test_invalid_needs_name_the_field(media, message):
    with pytest.raises(PromptError, match=message):
        prompt_from_dict({**NESTED.to_dict(), "media": media})


@pytest.mark.parametrize("count", [0, 301, True])
def test_number_of_frames_is_bounded(count):
    with pytest.raises(SettingsError, match=r"frames_per_segment is .* from 1 to 300"):
        ModelSettings(frames_per_segment=count)
