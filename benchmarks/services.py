"""Run services as separate processes on free local ports."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_CHECKOUT: Final = Path(__file__).resolve().parents[1]
_SERVICE_ENVIRONMENT: Final = {
    "PROMPTREEL_SUPERVISE": "0",
    **{f"PROMPTREEL_RATE_{name}": "100000000" for name in ("SEARCH", "READ", "WRITE", "UPLOAD")},
}


@contextmanager
def promptreel_serving(data: Path) -> Iterator[tuple[int, int]]:
    """Run `promptreel serve` on a data folder, without rate limits or supervisor; yield (port, process id)."""
    port = free_port()
    command = ["-m", "promptreel", "serve", "--data-dir", str(data), "--port", str(port)]
    with serving(command, port, _SERVICE_ENVIRONMENT) as pid:
        yield port, pid


@contextmanager
def serving(arguments: Sequence[str], port: int, environment: Mapping[str, str]) -> Iterator[int]:
    """Run a Python command that listens on a port during the `with` block; yield its process id."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=_CHECKOUT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise RuntimeError(
                    f"{' '.join(arguments)} exited with {process.returncode} before it accepted connections"
                )
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
            except OSError:
                time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)


def post(port: int, path: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> Any:
    """Post a JSON body; return the decoded response."""
    head = {**headers, "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), head)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{path}: {error.code} {error.read().decode()}") from error


def free_port() -> int:
    """Return a currently unused port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
