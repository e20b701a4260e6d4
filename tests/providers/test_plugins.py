"""Providers of other packages: found by the prefix of the model's name, with a clear error if they cannot be used."""

import importlib.metadata
import sys

import pytest

from promptreel.cli.doctor import plugin_checks
from promptreel.providers import plugins
from promptreel.providers.registry import provider_of
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.settings import ModelSettings, RunSettings
from tests.pipeline_runs import CHECKOUT

ECHO = """
from tests.models import ScriptedModel

def build_provider(settings):
    provider = ScriptedModel({"n": 1})
    provider.name = settings.model.model
    return provider
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package with one module and entry points of the group, for this test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.installed_plugins.cache_clear()

    def add(package, source, **entry_points):
        monkeypatch.delitem(sys.modules, package, raising=False)
        (tmp_path / f"{package}.py").write_text(source)
        info = tmp_path / f"{package}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        lines = [f"{name} = {value}" for name, value in entry_points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{plugins.GROUP}]", *lines]))
        importlib.invalidate_caches()
        plugins.installed_plugins.cache_clear()

    yield add
    plugins.installed_plugins.cache_clear()


def provider_named(name):
    return provider_of(RunSettings(model=ModelSettings(name)))


@pytest.mark.parametrize("name", ["echo:tiny", "echo:a:b/c", "echo"])
def test_model_of_another_package_is_found_by_its_prefix(install, name):
    install("echo_models", ECHO, echo="echo_models:build_provider")
    assert provider_named(name).name == name


def test_unknown_prefix_is_rejected_with_the_installed_ones(install):
    install("echo_models", ECHO, echo="echo_models:build_provider")
    with pytest.raises(SettingsError, match=r"'other:x'; use .* or 'echo:NAME' \(echo_models\)"):
        provider_named("other:x")


@pytest.mark.parametrize(
    ("source", "value", "cause"),
    [
        (
            "import not_installed_here",
            "broken_models:build",
            "ModuleNotFoundError: No module named 'not_installed_here'",
        ),
        ("1 / 0", "broken_models:build", "ZeroDivisionError: division by zero"),
        ("", "broken_models:build", "AttributeError: module 'broken_models' has no attribute 'build'"),
        ("build = 3", "broken_models:build", "'broken_models:build' is not callable"),
        ("build = lambda settings: None", "broken_models:build", "returned NoneType, not a Provider"),
    ],
)
def test_plugin_that_cannot_be_used_is_named_with_its_package(install, source, value, cause):
    install("broken_models", source, broken=value)
    with pytest.raises(SettingsError, match=r"'broken' of package broken_models 1\.2 ") as caught:
        provider_named("broken:x")
    assert cause in str(caught.value)
    assert "update or uninstall broken_models" in str(caught.value)


def test_broken_plugin_does_not_affect_other_models(install):
    install("broken_models", "1 / 0", broken="broken_models:build")
    assert provider_named("signals").name == "signals"


def test_prefix_of_two_packages_is_rejected_with_both(install):
    install("echo_models", ECHO, echo="echo_models:build_provider")
    install("other_echo", ECHO, echo="other_echo:build_provider")
    with pytest.raises(SettingsError, match="'echo' is registered by echo_models and other_echo; uninstall one"):
        provider_named("echo:x")


def test_built_in_providers_register_like_any_other():
    declared = (CHECKOUT / "setup.py").read_text()
    for name in ("gemini", "openai", "signals"):
        (entry,) = plugins.installed_plugins()[name]
        assert entry.dist.name == "promptreel"
        assert f'"{name} = {entry.value}"' in declared


def test_outdated_installation_is_named(install, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: ())
    with pytest.raises(SettingsError, match="promptreel's own providers are not registered; install promptreel again"):
        provider_named("signals")


def test_doctor_lists_the_providers_of_other_packages(install):
    install("echo_models", ECHO, echo="echo_models:build_provider")
    install("broken_models", "1 / 0", broken="broken_models:build")
    checks = {check.name: (check.state, check.detail) for check in plugin_checks()}
    assert checks["model echo:NAME"] == ("ok", "from package echo_models")
    state, detail = checks["model broken:NAME"]
    assert state == "missing"
    assert "ZeroDivisionError" in detail
