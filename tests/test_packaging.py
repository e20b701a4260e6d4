"""The installed package: one import name, few base dependencies, and no modules that user folders can shadow."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.api_server import ApiServer
from tests.pipeline_runs import CHECKOUT, make_image

FOLDERS = ("schemas", "media", "providers", "tables", "transforms", "pipelines", "pages", "api")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    files = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    for name in files.splitlines():
        if (CHECKOUT / name).is_file() and not name.startswith(("tests/", "benchmarks/", "docs/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((CHECKOUT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--disable-pip-version-check",
        "--no-deps",
        "-w",
        folder,
        source,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No matching distribution found for setuptools" in done.stderr:
        pytest.skip("the build needs setuptools from a package registry, which cannot be reached")
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_wheel_contains_one_complete_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"promptreel"}
    for folder in ("promptreel", *FOLDERS):
        inside = Path("promptreel") if folder == "promptreel" else Path("promptreel", folder)
        for path in (CHECKOUT / folder).rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                assert (inside / path.relative_to(CHECKOUT / folder)).as_posix() in names, path


@pytest.fixture(scope="module")
def base(wheel, tmp_path_factory):
    """Python of an environment with the wheel without extras, and an unrelated package named `schemas`."""
    folder = tmp_path_factory.mktemp("base")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    constraints = CHECKOUT / "constraints.txt"
    command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", constraints, wheel]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 and "No matching distribution" in done.stderr:
        pytest.skip("the base installation needs a package registry, which cannot be reached")
    assert done.returncode == 0, done.stderr
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "schemas").mkdir()
    (site / "schemas" / "__init__.py").write_text("FOREIGN = True\n")
    return python


def run_python(python, code, **options):
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_base_installation_only_has_sdk_dependencies(base, tmp_path):
    listed = json.loads(subprocess.check_output([base, "-m", "pip", "list", "--format", "json"], text=True))
    names = {entry["name"].lower() for entry in listed}
    assert "promptreel" in names
    assert not names & {"apache-beam", "av", "duckdb", "google-genai", "numpy", "pyarrow", "fastapi", "torch"}
    code = (
        "import schemas; assert schemas.FOREIGN; from promptreel import PromptReel; "
        "PromptReel(api_key='k', base_url='http://127.0.0.1:1').close()"
    )
    run_python(base, code, cwd=tmp_path)


def test_command_names_its_missing_extra(base, tmp_path):
    program = base.parent / "promptreel"
    assert "estimate" in subprocess.check_output([program, "--help"], text=True, cwd=tmp_path)
    for words, extra in ((["runs"], "run"), (["serve"], "api")):
        done = subprocess.run([program, *words], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 2
        assert f"pip install 'promptreel[{extra}]'" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.fixture
def colliding(tmp_path):
    """A folder with user modules named like the product's folders; importing one exits the process."""
    folder = tmp_path / "project"
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise SystemExit('the wrong module was imported')\n")
    for name in ("schemas.py", "tables.py", "numpy.py"):
        (folder / name).write_text("raise SystemExit('the wrong module was imported')\n")
    return folder


def test_commands_work_next_to_colliding_modules(colliding):
    make_image(colliding / "still.png")
    program = Path(sys.executable).parent / "promptreel"

    def run(*words):
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [program, *words], cwd=colliding, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("run", "still.png", "--model", "signals", "--prompt", "measure", "--data-dir", "data")
    assert "still.png" in run("sql", "SELECT name FROM media", "--data-dir", "data")
    assert json.loads(run("runs", "--json", "--data-dir", "data"))


def test_service_works_next_to_colliding_modules(colliding, tmp_path, monkeypatch):
    monkeypatch.chdir(colliding)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    image = make_image(tmp_path / "still.png")
    with ApiServer(tmp_path / "data") as server:
        caller = server.caller()
        video_id = caller.video(image)
        run_id = caller.start(caller.prompt(), {"type": "videos", "video_ids": [video_id]})
        assert caller.wait(run_id)["status"] == "completed"
