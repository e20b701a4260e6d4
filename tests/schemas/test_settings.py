"""Decoding of run settings."""

import json

import pytest

from promptreel.schemas.errors import SettingsError
from promptreel.schemas.segmentation import LengthBounds, SegmentationSettings
from promptreel.schemas.settings import ModelSettings, RunSettings, SamplingSettings, settings_from_dict


def test_settings_survive_a_json_round_trip():
    settings = RunSettings(
        segmentation=SegmentationSettings(
            "fixed", "content_aware", 7, None, LengthBounds(2_000_000, 9_000_000, 50_000_000)
        ),
        sampling=SamplingSettings(frames_per_second=2.0),
        model=ModelSettings("signals", thinking_budget=0),
        strict_models=True,
    )
    assert settings_from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert settings_from_dict({}) == RunSettings()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"segmentation": {"smart_lengths": 20}}, "segmentation.smart_lengths is 20; it must be a JSON object"),
        ({"segmentation": {"smart_lengths": {"min_us": 1}}}, "segmentation.smart_lengths.target_us is missing; add it"),
        ({"segmentation": {"fps": 1}}, "segmentation.fps is unknown; remove it or correct its name"),
        ({"retries": {}}, "retries is unknown; remove it or correct its name"),
        ({"sampling": {"max_width": "854"}}, "sampling.max_width is '854'; it must be a valid integer"),
        ({"calls": {"max_attempts": True}}, "calls.max_attempts is True; it must be a valid integer"),
        ({"strict_models": 1}, "strict_models is 1; it must be a valid boolean"),
        ({"model": {"media_input": "film"}}, "model.media_input is 'film'; it must be 'clips', 'frames' or 'files'"),
        ([], "the value is []; it must be a JSON object"),
    ],
    ids=str,
)
def test_invalid_settings_name_field_value_and_fix(values, message):
    with pytest.raises(SettingsError) as raised:
        settings_from_dict(values)
    assert str(raised.value) == f"run settings: {message}"
