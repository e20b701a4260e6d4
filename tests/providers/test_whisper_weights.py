"""Weights of the Whisper transcriber: found, pulled, missing or corrupt."""

import shutil

import pytest

from promptreel.providers.weights import MODELS_VARIABLE
from promptreel.providers.whisper import find_weights, pull_weights
from promptreel.schemas.errors import ModelError, SettingsError
from tests.providers.whisper_calls import SECOND, spans, transcriber
from tests.tiny_models import WORDS


def test_failed_load_is_retried(tmp_path, tiny, noise, loads):
    folder = shutil.copytree(tiny, tmp_path / "model")
    content = (folder / "model.bin").read_bytes()
    (folder / "model.bin").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"model: cannot be loaded .*; pull or convert them again") as raised:
        transcriber(folder).transcribe(noise, spans((10, 15)), 90 * SECOND)
    assert raised.value.code == "weights_missing"
    (folder / "model.bin").write_bytes(content)
    assert transcriber(folder).transcribe(noise, spans((10, 15)), 90 * SECOND).words
    assert len(loads) == 2


@pytest.mark.parametrize("name", ["tokenizer.json", "vocabulary.json"])
def test_corrupt_model_files_are_a_model_error(tmp_path, tiny, noise, name):
    folder = shutil.copytree(tiny, tmp_path / "model")
    (folder / name).write_text("{ not JSON")
    with pytest.raises(ModelError, match="cannot be loaded"):
        transcriber(folder).transcribe(noise, spans((10, 15)), 90 * SECOND)


@pytest.mark.parametrize("name", ["tokenizer.json", "model.bin", "config.json"])
def test_incomplete_model_folder_is_rejected_offline(tmp_path, tiny, noise, name, offline):
    folder = shutil.copytree(tiny, tmp_path / "model")
    (folder / name).unlink()
    found = find_weights(str(folder))
    assert not found.available
    assert name in found.reason
    assert "CTranslate2" in found.fix
    with pytest.raises(ModelError, match=f"lacks {name}"):
        transcriber(folder).transcribe(noise, spans((10, 15)), 90 * SECOND)


def test_missing_folder_is_named(tmp_path, offline):
    found = find_weights(str(tmp_path / "nowhere"))
    assert not found.available
    assert str(tmp_path / "nowhere") in found.reason


def test_unknown_model_name_lists_the_known_names(offline, monkeypatch, tmp_path):
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    found = find_weights("huge")
    assert not found.available
    assert "'huge'" in found.reason
    assert "large-v3" in found.reason
    with pytest.raises(SettingsError, match="large-v3"):
        pull_weights("huge")


def test_missing_public_model_names_the_pull_command(offline, monkeypatch, tmp_path, noise):
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    found = find_weights("base")
    assert (found.available, found.size_bytes) == (False, 0)
    assert found.fix == "run: promptreel models pull whisper:base"
    with pytest.raises(ModelError, match="promptreel models pull whisper:base") as raised:
        transcriber("base").transcribe(noise, spans((10, 15)), 90 * SECOND)
    assert (raised.value.code, raised.value.retryable) == ("weights_missing", True)


def test_pulled_model_is_found_by_name_offline(offline, monkeypatch, tmp_path, tiny, noise):
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    repository = tmp_path / "models--Systran--faster-whisper-base"  # the layout of the hub's library
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copytree(tiny, repository / "snapshots" / ("0" * 40))
    found = find_weights("base")
    assert (found.available, found.source) == (True, "models folder")
    assert found.size_bytes > 1_000_000
    model = transcriber("base")
    assert model.name == "whisper:base"
    assert tuple(word.text for word in model.transcribe(noise, spans((40, 46)), 90 * SECOND).words) == WORDS


def test_folder_does_not_shadow_a_public_model(offline, monkeypatch, tmp_path, tiny):
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()  # e.g. of media
    found = find_weights("base")
    assert found.reason == "the weights of whisper model 'base' are not on this machine"
    assert found.fix == "run: promptreel models pull whisper:base; for the folder base write ./base"
    assert find_weights("./base").reason.startswith("base lacks model.bin")
    snapshot = tmp_path / "models" / "models--Systran--faster-whisper-base" / "snapshots" / ("0" * 40)
    shutil.copytree(tiny, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    assert find_weights("base").path == snapshot
    shutil.copytree(tiny, tmp_path / "base", dirs_exist_ok=True)
    assert find_weights("base").path == snapshot
    assert transcriber("base").name == "whisper:base"
    assert (find_weights("./base").source, transcriber("./base").name[:13]) == ("path", "whisper:base-")


def test_unknown_name_of_a_folder_says_how_to_use_the_folder(offline, monkeypatch, tmp_path, tiny):
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny, tmp_path / "mine")
    found = find_weights("mine")
    assert not found.available
    assert "for the folder mine write ./mine" in found.fix
    assert find_weights("./mine").available


def test_local_weights_are_identified_by_content(tmp_path, tiny):
    folder = shutil.copytree(tiny, tmp_path / "tiny")
    assert transcriber(folder).name == transcriber(tiny).name
    content = bytearray((folder / "model.bin").read_bytes())
    content[-1] ^= 1
    (folder / "model.bin").write_bytes(content)
    assert transcriber(folder).name != transcriber(tiny).name
    assert transcriber(folder).name.startswith("whisper:tiny-")


@pytest.mark.parametrize("change", [{"language": "de"}, {"compute_type": "float32"}, {"beam_size": 2}])
def test_settings_that_affect_transcripts_are_in_the_fingerprint(tiny, change):
    assert transcriber(tiny, **change).fingerprint() != transcriber(tiny).fingerprint()
