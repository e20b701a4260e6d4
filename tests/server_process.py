"""A real server in its own process on a free local port, from a binary that a script under tests/ builds."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2 as httpx

from tests.pipeline_runs import wait_for


def find_server(name, variable):
    """Return the path of a server's binary: from the environment variable, the virtual environment or the PATH, or None."""
    configured = os.environ.get(variable)
    installed = Path(sys.prefix) / "servers" / name
    found = configured or (str(installed) if installed.is_file() else shutil.which(name))
    return Path(found) if found else None


class ServerProcess:
    """Runs during the `with` block. Subclasses define `start`, which returns the process, and `ready_path`."""

    def __init__(self, binary, folder):
        self._binary, self._folder = binary, folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    def run(self, *words, **options):
        """Start the binary without input or output."""
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([str(word) for word in (self._binary, *words)], **quiet, **options)

    def __enter__(self):
        self._process = self.start()
        wait_for(self._answers, 60)
        return self

    def __exit__(self, *error):
        self._process.terminate()
        self._process.wait(timeout=30)

    def _answers(self):
        assert self._process.poll() is None, f"{self._binary} did not start"
        time.sleep(0.1)
        try:
            return httpx.get(f"{self.url}{self.ready_path}").status_code == 200
        except httpx.TransportError:
            return False
