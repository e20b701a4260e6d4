"""Allowed imports between packages, checked statically."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from promptreel.cli.commands import COMMANDS, load_command

ROOT = Path(__file__).parent.parent

# Packages that each package may import besides itself.
MAY_IMPORT = {
    "schemas": set(),
    "media": {"schemas"},
    "providers": {"schemas", "media"},
    "tables": {"schemas"},
    "transforms": {"schemas", "media", "providers", "tables"},
    "pipelines": {"schemas", "media", "providers", "tables", "transforms"},
    "pages": {"schemas", "tables"},
    "promptreel": {"schemas", "media", "providers", "tables", "pages"},
    "api": {"schemas", "media", "providers", "tables", "pages"},
}
# Modules that start or estimate a pipeline, or start the service, may import these packages inside functions.
FUNCTION_IMPORTS = {
    "promptreel/cli/run.py": {"pipelines"},
    "promptreel/cli/estimate.py": {"pipelines"},
    "promptreel/cli/serve.py": {"api"},
    "promptreel/cli/open.py": {"api"},
    "promptreel/cli/service_settings.py": {"api"},
    "api/runs/estimates.py": {"pipelines"},
}
# Subpackages of the service that each may import.
SUBPACKAGES = {
    "config": set(),
    "db": {"config"},
    "web": {"config", "db"},
    "uploads": {"config", "db", "web"},
    "runs": {"config", "db", "web", "uploads"},
    "jobs": {"config", "db", "web", "uploads", "runs"},
    "search": {"config", "db", "web", "uploads", "runs"},
    "sql": {"config", "db", "web", "uploads", "runs", "search"},
    "routes": {"config", "db", "web", "uploads", "runs", "jobs", "search", "sql"},
    "site": {"config", "db", "web", "uploads", "runs", "jobs", "search", "sql", "routes"},
    "app": {"config", "db", "web", "uploads", "runs", "jobs", "search", "sql", "routes", "site"},
    "local_app": {"config", "db", "web", "runs", "jobs", "site", "app"},
}
# Slow to import or optional: only imported when a provider or detector is set up.
HEAVY = {"torch", "ctranslate2", "faster_whisper", "google", "onnxruntime", "open_clip", "scenedetect", "wordllama"}
BEAM_FREE = {"schemas", "media", "providers", "tables", "pages"}
# Packages that the SDK may import: those of `pip install promptreel` without extras.
SDK_IMPORTS = {"httpx2", "pydantic", "pydantic_core", "promptreel", "schemas"}


def modules():
    return sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def imports(path):
    """Yield (package, line, whether it is at module level) of each import in a file.

    For a module of promptreel, the package is the name of its folder.
    """
    tree = ast.parse(path.read_text(), path)
    inner = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _is_type_checking(node):
            inner.update(id(part) for part in ast.walk(node))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            yield _package_named(name), node.lineno, id(node) not in inner


def _package_named(module):
    top, _, rest = module.partition(".")
    assert top not in MAY_IMPORT or top == "promptreel", f"{module}: import promptreel.{module}"
    part = rest.partition(".")[0]
    return part if top == "promptreel" and part in MAY_IMPORT else top


def _is_type_checking(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_follow_the_layers(path):
    name = path.relative_to(ROOT).as_posix()
    package = name.split("/")[0]
    for imported, line, at_import in imports(path):
        location = f"{name}:{line} imports {imported}"
        if imported in MAY_IMPORT and imported != package:
            is_function_import = imported in FUNCTION_IMPORTS.get(name, ()) and not at_import
            assert imported in MAY_IMPORT[package] or is_function_import, location
        assert imported not in ("tests", "benchmarks"), location
        if imported in HEAVY:
            assert not at_import, f"{location} at module level; import it where it is needed"
        if imported == "apache_beam":
            assert package not in BEAM_FREE, location
            assert package not in ("promptreel", "api"), location


@pytest.mark.parametrize(
    "path", sorted((ROOT / "api").rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_service_subpackages_follow_the_layers(path):
    subpackage = path.relative_to(ROOT / "api").with_suffix("").parts[0]
    for node in ast.walk(ast.parse(path.read_text(), path)):
        module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        if module.startswith("promptreel.api."):
            imported = module.split(".")[2]
            assert imported == subpackage or imported in SUBPACKAGES[subpackage], (
                f"{path}:{node.lineno} imports {module}"
            )


def test_class_names_are_unique():
    """Ignores case and leading underscores. `Page` exists in the API and in the SDK."""
    locations = {}
    for path in modules():
        for node in ast.parse(path.read_text(), path).body:
            if isinstance(node, ast.ClassDef):
                locations.setdefault(node.name.lstrip("_").casefold(), []).append(f"{path}:{node.lineno}")
    shared = {name: lines for name, lines in locations.items() if len(lines) > 1}
    assert set(shared) == {"page"}, shared


def test_cli_main_imports_no_beam_and_no_model_library():
    code = "import sys, promptreel.cli.main; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "promptreel" in loaded
    assert not loaded & (HEAVY | {"apache_beam", "pipelines", "transforms"})


def test_sdk_only_imports_base_dependencies():
    for path in sorted((ROOT / "promptreel" / "sdk").rglob("*.py")) + sorted((ROOT / "schemas" / "wire").rglob("*.py")):
        for imported, line, _ in imports(path):
            assert imported in SDK_IMPORTS | sys.stdlib_module_names, f"{path}:{line} imports {imported}"


@pytest.mark.parametrize("name", COMMANDS)
def test_command_loads_by_name(name):
    command = load_command(name)
    assert command.name == name
    assert command.help
