"""Run the public API's own Python clients in separate processes against a test server."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

CLIENTS = ["1.1.0", "2.0.0"]  # versions
_HEAD = """
import json, os, sys
import videovector
given = json.loads(os.environ["GIVEN"])
def report(*values):
    print(json.dumps(values))
client = videovector.VideoVector(api_key=given["key"], base_url=given["base_url"])
"""


def run_client(version, caller, program, **given):
    """Run a program with a `client` and the values `given`; return what it passes to `report`.

    Skips the test if this client version is not installed.
    """
    folder = Path(sys.prefix) / "clients" / version
    if not (folder / "videovector").is_dir():
        pytest.skip(f"the client videovector {version} is not in {folder}; ./run_local.sh test installs it")
    given |= {"key": caller.key, "base_url": str(caller.http.base_url).rstrip("/")}
    environment = {**os.environ, "PYTHONPATH": str(folder), "GIVEN": json.dumps(given)}
    command = [sys.executable, "-c", _HEAD + textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
