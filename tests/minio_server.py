"""A real MinIO server for tests on a free local port; tests/build_minio.sh builds it."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2 as httpx

from tests.pipeline_runs import wait_for
from tests.s3_server import ACCESS_KEY, SECRET_KEY

MINIO_VARIABLE = "PROMPTREEL_TEST_MINIO"


def find_minio():
    """Return the path of the MinIO binary; None if it is not installed."""
    configured = os.environ.get(MINIO_VARIABLE)
    installed = Path(sys.prefix) / "servers" / "minio"
    found = configured or (str(installed) if installed.is_file() else shutil.which("minio"))
    return Path(found) if found else None


class MinioServer:
    """Runs during the `with` block, with an empty bucket `bucket`."""

    def __init__(self, binary, folder):
        self._binary, self._folder = binary, folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._address = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{self._address}"

    def __enter__(self):
        (self._folder / "bucket").mkdir()  # each folder in the data directory is a bucket
        environment = {**os.environ, "MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY,
                       "MINIO_BROWSER": "off", "MINIO_UPDATE": "off", "HOME": str(self._folder)}  # fmt: skip
        command = [str(self._binary), "server", "--quiet", "--address", self._address, str(self._folder)]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, env=environment, **quiet)
        wait_for(self._answers, 60)
        return self

    def __exit__(self, *error):
        self._process.terminate()
        self._process.wait(timeout=30)

    def _answers(self):
        assert self._process.poll() is None, "MinIO did not start"
        time.sleep(0.1)
        try:
            return httpx.get(f"{self.url}/minio/health/ready").status_code == 200
        except httpx.TransportError:
            return False
