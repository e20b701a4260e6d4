"""The SDK documentation matches the code."""

import re
from pathlib import Path

from promptreel import PromptReel, sdk
from tests.sdk.bodies import KEY
from tests.sdk.client_methods import public_methods

DOCUMENT = Path(__file__).parents[2] / "docs" / "sdk.md"


def test_documented_examples_run_as_written(real_service, clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PROMPTREEL_API_KEY", real_service.new_key())
    monkeypatch.setenv("PROMPTREEL_BASE_URL", real_service.base_url)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dock.mp4").write_bytes(clip.read_bytes())
    sync_example, async_example = [
        code for code in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL) if "dock.mp4" in code
    ]
    exec(compile(sync_example, "sdk.md", "exec"), {})
    exec(compile(async_example, "sdk.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 2
    assert all(re.match(r"\d+\.\d+ \d+\.\d+ \{'duration_seconds': ", line) for line in lines)


def test_every_documented_name_exists():
    text = DOCUMENT.read_text()
    with PromptReel(KEY) as client:
        methods = public_methods(client)
        for group, names in re.findall(r"^\| `client\.([\w.]+)` \| (.+?) \|$", text, re.MULTILINE):
            documented = re.findall(r"`(\w+)`", names)
            existing = [path.rsplit(".", 1)[1] for path in methods if path.rsplit(".", 1)[0] == group]
            assert sorted(documented) == sorted(existing), group
    errors = {name for name in sdk.__all__ if name.endswith(("Error", "Failed", "TimedOut"))}
    assert set(re.findall(r"`(\w+(?:Error|Failed|TimedOut))`", text)) == errors | {"ValueError", "TypeError"}


def test_documented_error_tree_matches_the_classes():
    tree = Path(sdk.errors.__file__).read_text().split('"""')[1]
    documented = set(re.findall(r"── (\w+)", tree)) | {"PromptReelError"}
    classes = {name for name, kind in vars(sdk).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert documented == classes
    depth = {
        name: len(kind.__mro__) - len(sdk.PromptReelError.__mro__)
        for name, kind in vars(sdk).items()
        if name in classes
    }
    for line in tree.splitlines():
        if match := re.match(r"^(.*?)(?:[├└]── )?(\w+) {2,}", line):
            assert depth[match[2]] == (line.index(match[2]) - 4) // 4, line
