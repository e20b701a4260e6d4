"""Access to the Gemini service: API keys, the environment and Vertex AI."""

import json

import pytest

from promptreel.providers import gemini
from promptreel.providers.gemini import GeminiProvider
from promptreel.providers.gemini_client import KEY_VARIABLES
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.settings import ModelSettings
from tests.analysed_media import segment_of
from tests.providers.gemini_calls import MODEL, build_request, call_all, call_model


def test_missing_key_is_rejected_with_the_alternatives(monkeypatch):
    for name in KEY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingsError, match=r"GEMINI_API_KEY, or --vertex-project .* the built-in model signals"):
        GeminiProvider(ModelSettings(MODEL), 1.0).check_access()
    monkeypatch.setenv("GOOGLE_API_KEY", "made-up")
    GeminiProvider(ModelSettings(MODEL), 1.0).check_access()


def test_uploads_are_rejected_on_vertex():
    settings = ModelSettings(MODEL, media_input="files", vertex_project="p", vertex_location="l")
    with pytest.raises(SettingsError, match="Files API"):
        GeminiProvider(settings, 1.0).check_access()


def test_environment_sets_the_base_url_but_not_vertex(service, monkeypatch):
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", service.base_url)
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    (answer,), _ = call_all(None, [build_request()])
    assert answer.metadata == {"n": 1}
    (entry,) = service.ledger.calls()
    assert entry.path.endswith(f"/models/{MODEL}:generateContent")
    assert "publishers" not in entry.path


@pytest.fixture
def service_account(service, tmp_path, monkeypatch):
    """Application default credentials whose tokens come from the fake service."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    account = {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "1",
        "client_email": "made-up@example.com",
        "token_uri": f"{service.base_url}/token",
        "private_key": key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    }
    path = tmp_path / "account.json"
    path.write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    for name in KEY_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_vertex_call_uses_the_token_of_the_account(service, service_account, film):
    vertex = {"vertex_project": "p", "vertex_location": "europe-west1"}
    answer, (call,) = call_model(service, build_request(segment_of(film, 0, 2)), **vertex)
    assert answer.metadata == {"n": 1}
    assert call.video_tokens == 2 * 70
    (entry,) = service.ledger.calls()
    assert entry.path == (
        f"/v1beta1/projects/p/locations/europe-west1/publishers/google/models/{MODEL}:generateContent"
    )


def test_clip_too_large_for_vertex_fails_with_the_fix(service, service_account, film, monkeypatch):
    monkeypatch.setattr(gemini, "MAX_INLINE_BYTES", 1000)
    failure, _ = call_model(
        service, build_request(segment_of(film, 0, 2)), vertex_project="p", vertex_location="europe-west1"
    )
    assert failure.code == "model_bad_request"
    assert "shorter segments" in failure.message
