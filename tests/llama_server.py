"""llama.cpp's server with a tiny random model on a free local port; tests/build_llama_server.sh builds it."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2 as httpx

from tests.pipeline_runs import wait_for
from tests.tiny_gguf import write_tiny_gguf, write_tiny_mmproj

LLAMA_VARIABLE = "PROMPTREEL_TEST_LLAMA_SERVER"


def find_llama_server():
    """Return the path of the server's binary; None if it is not installed."""
    configured = os.environ.get(LLAMA_VARIABLE)
    installed = Path(sys.prefix) / "servers" / "llama-server"
    found = configured or (str(installed) if installed.is_file() else shutil.which("llama-server"))
    return Path(found) if found else None


class LlamaServer:
    """Runs during the `with` block. `sees`: the model takes pictures."""

    def __init__(self, binary, folder, *, sees):
        self._binary, self._folder, self._sees = binary, folder, sees
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self):
        model = write_tiny_gguf(self._folder / "tiny.gguf")
        command = [self._binary, "-m", model, "--host", "127.0.0.1", "--port", self._port, "-t", 1, "--no-warmup"]
        if self._sees:
            command += ["--mmproj", write_tiny_mmproj(self._folder / "vision.gguf")]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen([str(word) for word in command], cwd=self._folder, **quiet)
        wait_for(self._answers, 60)
        return self

    def __exit__(self, *error):
        self._process.terminate()
        self._process.wait(timeout=30)

    def _answers(self):
        assert self._process.poll() is None, "llama-server did not start"
        time.sleep(0.1)
        try:
            return httpx.get(f"{self.base_url}/models").status_code == 200
        except httpx.TransportError:
            return False
