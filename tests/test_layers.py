"""Who may import whom, read from the sources without running them."""

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import setuptools

ROOT = Path(__file__).parent.parent

# Packages that each package may import, beside itself.
MAY_IMPORT = {
    "schemas": set(),
    "media": {"schemas"},
    "providers": {"schemas", "media"},
    "tables": {"schemas"},
    "transforms": {"schemas", "media", "providers", "tables"},
    "pipelines": {"schemas", "media", "providers", "tables", "transforms"},
    "promptreel": {"schemas", "media", "providers", "tables"},
    "api": {"schemas", "media", "providers", "tables"},
}
# What starts or foresees a pipeline, or serves, reaches further, but only inside a function.
REACH_FURTHER = {
    "promptreel/cli/run.py": {"pipelines"},
    "promptreel/cli/estimate.py": {"pipelines"},
    "promptreel/cli/serve.py": {"api"},
    "api/estimates.py": {"pipelines"},
}
# Slow to import, or an extra: only where a provider or detector is set up.
HEAVY = {"torch", "ctranslate2", "faster_whisper", "google", "onnxruntime", "open_clip", "scenedetect", "wordllama"}
BEAM_FREE = {"schemas", "media", "providers", "tables"}


def modules():
    return sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def imports(path):
    """(package, line, whether it happens when the module is imported) of every import in a file."""
    tree = ast.parse(path.read_text(), path)
    inner = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _is_type_checking(node):
            inner.update(id(part) for part in ast.walk(node))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            names = [node.module]
        for name in names:
            yield name.split(".")[0], node.lineno, id(node) not in inner


def _is_type_checking(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_one_way(path):
    name = path.relative_to(ROOT).as_posix()
    package = name.split("/")[0]
    for imported, line, at_import in imports(path):
        place = f"{name}:{line} imports {imported}"
        if imported in MAY_IMPORT and imported != package:
            reaches = imported in REACH_FURTHER.get(name, ()) and not at_import
            assert imported in MAY_IMPORT[package] or reaches, place
        assert imported not in ("tests", "benchmarks"), place
        if imported in HEAVY:
            assert not at_import, f"{place} when it is imported; do it where it is needed"
        if imported == "apache_beam":
            assert package not in BEAM_FREE, place
            assert package not in ("promptreel", "api"), place


def test_the_reading_commands_import_neither_beam_nor_a_model_library():
    code = "import sys, promptreel.cli.main; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "promptreel" in loaded
    assert not loaded & (HEAVY | {"apache_beam", "pipelines", "transforms"})


def test_setup_names_every_package_and_its_data(monkeypatch):
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
    runpy.run_path(str(ROOT / "setup.py"))
    files = [path for package in MAY_IMPORT for path in (ROOT / package).rglob("*") if path.is_file()]
    code = {_package_of(path) for path in files if path.suffix == ".py"}
    assert sorted(given["packages"]) == sorted(code)
    for path in files:
        if path.suffix not in (".py", ".pyc"):
            patterns = given["package_data"].get(_package_of(path), [])
            assert any(path.match(pattern) for pattern in patterns), f"{path} is not in setup.py's package_data"


def _package_of(path):
    return path.relative_to(ROOT).parent.as_posix().replace("/", ".")
