"""A real PostgreSQL server for tests, from the distribution's package, on a free local port."""

import getpass
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path

import psycopg

from tests.pipeline_runs import wait_for


def find_binaries():
    """Return the binary folder of the newest installed server; None if none is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return found[-1].parent if found else None


class PostgresServer:
    """Runs during the `with` block. PostgreSQL does not run as root, so root runs it as another user."""

    def __init__(self, binaries):
        self._binaries = binaries
        self._user = getpass.getuser() if os.geteuid() else _unprivileged_user()
        # Outside the tests' own folders, which other users cannot access.
        self._folder = Path(tempfile.mkdtemp(prefix="promptreel-postgres-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._url = f"postgresql://{self._user}@127.0.0.1:{self._port}"

    def __enter__(self):
        if not os.geteuid():
            shutil.chown(self._folder, self._user)
        data = self._folder / "data"
        self._as_user("initdb", "--auth=trust", "--no-sync", "--encoding=UTF8", f"--pgdata={data}", wait=True)
        options = ("-c", "fsync=off", "-c", "max_connections=200", "-c", "listen_addresses=127.0.0.1")
        self._process = self._as_user("postgres", "-D", data, "-p", self._port, "-k", self._folder, *options)
        wait_for(self._answers, 30)
        return self

    def __exit__(self, *error):
        self._process.terminate()
        self._process.wait(timeout=30)
        shutil.rmtree(self._folder, ignore_errors=True)

    def new_database(self):
        """Create an empty database; return its URL."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(f"{self._url}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"{self._url}/{name}"

    def _as_user(self, program, *arguments, wait=False):
        command = [str(self._binaries / program), *map(str, arguments)]
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "cwd": "/"}
        if not os.geteuid():
            options |= {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid, "extra_groups": []}
        if not wait:
            return subprocess.Popen(command, **{**options, "stderr": subprocess.DEVNULL})
        done = subprocess.run(command, check=False, **options)
        assert done.returncode == 0, done.stderr.decode()
        return done

    def _answers(self):
        assert self._process.poll() is None, "the database server did not start"
        try:
            psycopg.connect(f"{self._url}/postgres", connect_timeout=1).close()
        except psycopg.OperationalError:
            return False
        return True


def _unprivileged_user():
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise RuntimeError("no user 'postgres' or 'nobody' to run the database server as")
