"""Test helpers for the API: a real server with its own data folder and database, and clients of its accounts.

Fixtures based on it are in tests/api_fixtures.py.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2 as httpx
import uvicorn

from promptreel.api.app import PREFIX, create_app
from promptreel.api.config import ApiConfig
from promptreel.api.runs.statuses import FINAL
from promptreel.api.web.auth import create_account, create_key
from promptreel.api.web.http_protocol import server_options
from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL
from tests.pipeline_runs import CHECKOUT, wait_for

MODEL = DEFAULT_GEMINI_MODEL
MEASURE = {
    "name": "lengths",
    "prompt_text": "Say how long the segment is.",
    "json_schema": {"type": "object", "properties": {"duration_seconds": {"type": "number"}}},
}
DESCRIBE = {
    "name": "describe",
    "description": "What is seen and heard.",
    "prompt_text": "Describe the segment with everything in it.",
    "json_schema": {
        "type": "object",
        "properties": {
            "summary": {"type": "string"},
            "people": {
                "type": "array",
                "items": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
            },
        },
        "required": ["summary", "people"],
    },
    "video_level": {
        "instructions_text": "Sum the item up.",
        "included_segment_fields": ["summary", "people[].name"],
        "json_schema": {"type": "object", "properties": {"topic": {"type": "string"}}, "required": ["topic"]},
    },
}
WINDOWS = {
    "video_segmentation_type": "fixed",
    "video_segment_duration": 1,
    "audio_segmentation_type": "fixed",
    "audio_segment_duration": 1,
    "enable_transcription": False,
    "enable_image_embedding": False,
}


class Caller:
    """A client with an API key, with paths relative to /api/v2, and methods for common requests."""

    def __init__(self, base_url, key, account_id=None):
        self.key = key
        self.account_id = account_id
        headers = {"X-API-Key": key} if key else {}
        self.http = httpx.Client(base_url=base_url + PREFIX, headers=headers, timeout=60)
        self.get, self.put, self.delete = self.http.get, self.http.put, self.http.delete
        self.request = self.http.request

    def post(self, path, json=None, *, key=None, **options):
        headers = {**options.pop("headers", {}), **({"Idempotency-Key": key} if key else {})}
        return self.http.post(path, json=json, headers=headers, **options)

    def index(self, name="films"):
        return ok_json(self.post("/indexes", {"name": name}), 201)["index_id"]

    def prompt(self, definition=MEASURE):
        return ok_json(self.post("/prompts", definition), 201)["prompt_id"]

    def upload(self, path, index_id=None, title=None, key=None):
        data = {"title": title or path.name, **({"index_id": index_id} if index_id else {})}
        with path.open("rb") as file:
            return self.post("/videos/upload", data=data, files={"file": (path.name, file)}, key=key)

    def video(self, path, index_id=None):
        return ok_json(self.upload(path, index_id), 201)["video_id"]

    def execute(self, prompt_id, target, key=None, **settings):
        body = {"prompt_id": prompt_id, "target": target, "processing_model": "signals", **WINDOWS, **settings}
        return self.post("/prompt-runs/execute", body, key=key)

    def start(self, prompt_id, target, **settings):
        return ok_json(self.execute(prompt_id, target, **settings), 202)["run_id"]

    def runs(self):
        """Return the newest runs by id."""
        return {run["run_id"]: run for run in ok_json(self.get("/prompt-runs"))}

    def run(self, run_id):
        return ok_json(self.get(f"/prompt-runs/{run_id}"))

    def wait(self, run_id, seconds=90):
        """Wait until the run has ended; return it."""
        wait_for(lambda: time.sleep(0.1) or self.run(run_id)["status"] in FINAL, seconds)
        return self.run(run_id)

    def retry(self, run_id, retry_id):
        return ok_json(self.get(f"/prompt-runs/{run_id}/retries/{retry_id}"))

    def wait_for_retry(self, run_id, retry_id):
        wait_for(lambda: time.sleep(0.1) or self.retry(run_id, retry_id)["status"] in ("completed", "failed"), 90)
        return self.retry(run_id, retry_id)


def ok_json(response, status=200):
    """Check the status of a response and return its body."""
    assert response.status_code == status, f"{response.request.url}: {response.status_code} {response.text}"
    return response.json()


def assert_error(response, status, code):
    """Check the status, code and format of an error response; return the error."""
    assert response.status_code == status, f"{response.request.url}: {response.status_code} {response.text}"
    body = response.json()
    assert set(body) == {"error"}
    error = body["error"]
    assert set(error) == {"code", "message", "details", "request_id", "timestamp"}
    assert error["code"] == code, error
    assert error["message"]
    assert error["details"] is None or isinstance(error["details"], dict)
    assert error["request_id"] == response.headers["X-Request-ID"]
    return error


def operations(caller):
    """Return (method, path) of every operation in the OpenAPI schema."""
    paths = ok_json(caller.get("/openapi.json"))["paths"]
    return [(method.upper(), path.removeprefix("/api/v2")) for path, verbs in paths.items() for method in verbs]


class ApiServer:
    """Runs the service in a thread of this process, on a free port, during the `with` block."""

    def __init__(self, data, **settings):
        defaults = {"max_running": 2, "heartbeat_s": 0.5, "default_model": "signals"}
        self.config = ApiConfig(data_dir=str(data), **{**defaults, **settings})
        self.app = create_app(self.config)
        self.data = Path(data)
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        options = server_options(self.config)
        config = uvicorn.Config(self.app, log_level="critical", timeout_graceful_shutdown=1, **options)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self):
        self._thread.start()
        wait_for(lambda: self._server.started or not self._thread.is_alive(), 30)
        assert self._thread.is_alive(), "the service did not start"
        return self

    def __exit__(self, *error):
        self._server.should_exit = True
        self._thread.join(timeout=30)
        self._socket.close()

    def caller(self, *scopes, account_id=None, expires_at=None):
        """Create a caller with a new key, by default of a new account."""
        with self.app.state.database.write() as session:
            account_id = account_id or create_account(session, "created for a test").account_id
            _, key = create_key(session, account_id, "test", list(scopes) or ["admin"], expires_at)
        return Caller(self.base_url, key, account_id)

    def stranger(self):
        """Create a caller without a key."""
        return Caller(self.base_url, None)

    def uploads(self):
        """Return the names of stored upload files."""
        return sorted(path.relative_to(self.data).as_posix() for path in self.data.glob("uploads/*/*"))


class ApiProcess:
    """Runs `promptreel serve` as a separate process that tests can kill."""

    def __init__(self, data, **environment):
        self.data = data
        self.environment = {f"PROMPTREEL_{name}": str(value) for name, value in environment.items()}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        command = [sys.executable, "-m", "promptreel", "serve", "--data-dir", str(self.data), "--port", str(self.port)]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "GEMINI_API_KEY": "any", **self.environment}
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, env=environment, cwd=CHECKOUT, **quiet)
        wait_for(self._answers, 60)
        return self

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=30)

    def _answers(self):
        assert self.process.poll() is None, "the service did not start"
        time.sleep(0.1)
        try:
            return httpx.get(self.base_url + "/healthz").status_code == 200
        except httpx.TransportError:
            return False
