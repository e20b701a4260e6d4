"""The resolution of media by family: for each part from Gemini 3 on, for the request before."""

import pytest

from promptreel.providers.gemini_family_fields import check_family
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.settings import ModelSettings
from tests.analysed_media import segment_of
from tests.providers.gemini_calls import build_request, call_model, media_parts

BEFORE_GEMINI_3 = "gemini-2.5-flash-lite"


def test_newer_models_get_the_resolution_with_each_part(service, film, still):
    call_model(service, build_request(segment_of(film, 0, 4)), media_resolution="low")
    call_model(service, build_request(segment_of(still)), media_resolution="low")
    for body in service.bodies:
        assert [part["mediaResolution"] for part in media_parts(body)] == [{"level": "MEDIA_RESOLUTION_LOW"}]
        assert "mediaResolution" not in body["generationConfig"]
    assert {entry.path.split("/")[1] for entry in service.ledger.calls()} == {"v1beta"}


def test_labels_and_sound_have_no_resolution(service, film):
    call_model(service, build_request(segment_of(film, 3, 6)), media_input="frames", media_resolution="high")
    parts = media_parts(service.bodies[0])
    images = [part for part in parts if part.get("inlineData", {}).get("mimeType") == "image/jpeg"]
    assert len(images) == 4
    assert [part for part in parts if "mediaResolution" in part] == images


def test_uploaded_files_get_the_resolution_too(service, film):
    call_model(service, build_request(segment_of(film, 3, 6)), media_input="files", media_resolution="high")
    (part,) = media_parts(service.bodies[0])
    assert part["mediaResolution"] == {"level": "MEDIA_RESOLUTION_HIGH"}
    assert "fileData" in part


def test_earlier_models_get_one_resolution_for_the_request(service, film):
    media = segment_of(film, 0, 4)
    _, (call,) = call_model(service, build_request(media), model=BEFORE_GEMINI_3, media_resolution="low")
    assert service.bodies[0]["generationConfig"]["mediaResolution"] == "MEDIA_RESOLUTION_LOW"
    assert "mediaResolution" not in media_parts(service.bodies[0])[0]
    assert call.video_tokens == 4 * 66


@pytest.mark.parametrize(("resolution", "tokens"), [("low", 280), ("medium", 560), (None, 1120), ("ultra_high", 2240)])
def test_resolution_determines_the_tokens_of_an_image(service, still, resolution, tokens):
    _, (call,) = call_model(service, build_request(segment_of(still)), media_resolution=resolution)
    assert call.image_tokens == tokens


def test_video_has_at_most_high_resolution(service, film):
    _, (call,) = call_model(service, build_request(segment_of(film, 0, 4)), media_resolution="ultra_high")
    assert media_parts(service.bodies[0])[0]["mediaResolution"] == {"level": "MEDIA_RESOLUTION_HIGH"}
    assert call.video_tokens == 4 * 280


@pytest.mark.parametrize("model", [BEFORE_GEMINI_3, "gemini-9-of-tomorrow"])
def test_ultra_high_resolution_is_invalid_for_other_families(model):
    with pytest.raises(
        SettingsError, match="has no media_resolution 'ultra_high'; use high, or a model from Gemini 3 on"
    ):
        check_family(ModelSettings(model, media_resolution="ultra_high"))
