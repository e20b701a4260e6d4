"""The provider in docs/providers.md works as a package of its own, and passes the tests that the page describes."""

import re
import subprocess
import sys

from tests.pipeline_runs import CHECKOUT

PAGE = CHECKOUT / "docs" / "providers.md"


def test_example_passes_its_conformance_tests(tmp_path):
    page = PAGE.read_text()
    modules = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page, re.DOTALL))
    assert list(modules) == ["promptreel_echo.py", "test_echo.py"]
    for name, source in modules.items():
        (tmp_path / name).write_text(source)
    group, entry = re.search(r'entry-points\."(.*?)"\]\n(.*?)\n', page).groups()
    info = tmp_path / "promptreel_echo-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: promptreel-echo\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{entry.replace(chr(34), '')}\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_echo.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert int(passed.group(1)) > 45
