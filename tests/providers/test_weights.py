"""Weights of local models, and the models shared by a process."""

import os
import threading

import pytest

from promptreel.providers import local_models
from promptreel.providers.local_models import cores, shared_model
from promptreel.providers.weights import (
    MODELS_VARIABLE,
    Weights,
    file_identity,
    is_installed,
    models_folder,
    package_version,
)


def test_size_of_weights_is_the_size_of_their_files(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.bin").write_bytes(b"12345")
    (tmp_path / "deep" / "b.bin").write_bytes(b"123")
    assert Weights("m", tmp_path, "path").size_bytes == 8
    assert Weights("m", tmp_path / "a.bin", "path").size_bytes == 5
    assert Weights("m", None, reason="gone", fix="pull").size_bytes == 0


def test_file_identity_depends_on_its_content(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"content")
    two.write_bytes(b"content")
    first = file_identity(one)
    assert first == file_identity(two)
    assert len(first) == 12
    one.write_bytes(b"another")  # same length
    os.utime(one, ns=(1, 1))
    assert file_identity(one) != first


def test_models_folder_is_set_by_a_variable_and_expands_home(monkeypatch):
    monkeypatch.delenv(MODELS_VARIABLE, raising=False)
    assert models_folder() is None
    monkeypatch.setenv(MODELS_VARIABLE, "")
    assert models_folder() is None
    monkeypatch.setenv(MODELS_VARIABLE, "~/models")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert models_folder() == "/home/somebody/models"


def test_installed_packages_are_found():
    assert is_installed("numpy")
    assert not is_installed("no_such_package")
    assert not is_installed("no_such_package.part")
    assert package_version("numpy").split(".")[0].isdigit()
    assert package_version("no-such-package") == ""


def test_model_is_loaded_once_while_other_threads_wait(monkeypatch):
    monkeypatch.setattr(local_models, "_models", {})
    started, may_end, loads, models = threading.Event(), threading.Event(), [], []

    def load():
        loads.append(1)
        started.set()
        assert may_end.wait(10)
        return object()

    threads = [threading.Thread(target=lambda: models.append(shared_model("m", load))) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert started.wait(10)
    assert shared_model("another", lambda: "ready") == "ready"  # another model does not wait
    may_end.set()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert len({id(model) for model in models}) == 1
    assert len(models) == 8


def test_failed_load_is_retried(monkeypatch):
    monkeypatch.setattr(local_models, "_models", {})
    with pytest.raises(RuntimeError, match="torn"):
        shared_model("m", lambda: (_ for _ in ()).throw(RuntimeError("torn")))
    assert shared_model("m", lambda: "whole") == "whole"


def test_cores_are_within_the_cores_of_the_machine():
    assert 1 <= cores() <= (os.cpu_count() or 1)
