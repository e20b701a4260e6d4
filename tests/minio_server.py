"""A real MinIO server for tests on a free local port; tests/build_minio.sh builds it."""

import os

from tests.s3_server import ACCESS_KEY, SECRET_KEY
from tests.server_process import ServerProcess, find_server

MINIO_VARIABLE = "PROMPTREEL_TEST_MINIO"


def find_minio():
    """Return the path of the MinIO binary; None if it is not installed."""
    return find_server("minio", MINIO_VARIABLE)


class MinioServer(ServerProcess):
    """Runs during the `with` block, with an empty bucket `bucket`."""

    ready_path = "/minio/health/ready"

    def start(self):
        (self._folder / "bucket").mkdir()  # each folder in the data directory is a bucket
        environment = {**os.environ, "MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY,
                       "MINIO_BROWSER": "off", "MINIO_UPDATE": "off", "HOME": str(self._folder)}  # fmt: skip
        address = self.url.removeprefix("http://")
        return self.run("server", "--quiet", "--address", address, self._folder, env=environment)
