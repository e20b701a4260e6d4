"""The service's settings of local models: used by its runs, and checked when it starts."""

import importlib

import pytest

from promptreel.api.config import ApiConfig
from promptreel.api.db.models import RunRecord
from tests.api_server import ApiServer, ok_json
from tests.cli.in_process import invoke
from tests.pipeline_runs import make_image

MODELS = {
    "transcription_model": "small",
    "transcription_language": "de",
    "image_embedding_model": "ViT-B-16:laion2b_s34b_b88k",
    "text_embedding_model": "clip",
}


def test_runs_use_the_models_of_the_service(tmp_path):
    with ApiServer(tmp_path / "data", supervise=False, **MODELS) as server:
        caller = server.caller()
        caller.video(make_image(tmp_path / "c.png"))
        run = ok_json(caller.execute(caller.prompt(), {"type": "playground"}, enable_image_embedding=True), 202)
        with server.app.state.database.read() as session:
            settings = session.get(RunRecord, run["run_id"]).settings
    assert settings["transcription"] == {
        "enabled": False, "model": "small", "language": "de", "compute_type": "int8", "beam_size": 1
    }  # fmt: skip
    assert settings["image_embedding"]["model"] == MODELS["image_embedding_model"]
    assert settings["image_embedding"]["enabled"] is True
    assert settings["text_embedding"] == {"enabled": True, "model": "clip"}


def serve(tmp_path, monkeypatch, **environment):
    """Start `promptreel serve` up to its first request; return exit code and standard error."""
    monkeypatch.setattr(importlib.import_module("uvicorn"), "run", lambda *arguments, **options: None)
    variables = {f"PROMPTREEL_{name}": value for name, value in environment.items()}
    environment = {"GEMINI_API_KEY": "", "GOOGLE_API_KEY": "", **variables}
    code, _, err = invoke("serve", "--data-dir", tmp_path / "data", "--port", "0", env=environment)
    return code, err


def test_serve_warns_about_models_without_weights(tmp_path, monkeypatch):
    missing = str(tmp_path / "whisper")
    code, err = serve(tmp_path, monkeypatch, TRANSCRIPTION_MODEL=missing, IMAGE_EMBEDDING_MODEL="ViT-B-32")
    assert code == 0, err
    assert f"warning: PROMPTREEL_TRANSCRIPTION_MODEL is '{missing}', but" in err
    assert "warning: PROMPTREEL_IMAGE_EMBEDDING_MODEL is 'ViT-B-32', but" in err
    assert "PROMPTREEL_TEXT_EMBEDDING_MODEL" not in err


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("TEXT_EMBEDDING_MODEL", "word2vec", "no provider for text embedding model 'word2vec'"),
        ("TEXT_EMBEDDING_MODEL", "gemini-embedding-001", "GEMINI_API_KEY"),
        ("TRANSCRIPTION_LANGUAGE", "english", "ISO 639-1"),
    ],
)
def test_serve_rejects_models_that_no_run_could_use(tmp_path, monkeypatch, name, value, reason):
    code, err = serve(tmp_path, monkeypatch, **{name: value})
    assert code == 2
    assert f"PROMPTREEL_{name}" in err
    assert reason in err
    assert "Traceback" not in err


def test_defaults_are_those_of_the_command_line():
    config = ApiConfig()
    assert (config.transcription_model, config.transcription_language) == ("base", None)
    assert config.text_embedding_model == "wordllama"
