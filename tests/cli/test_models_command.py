"""`promptreel doctor` and `promptreel models`: what is there, what is missing and its fix, and fetching what is missing
from a hub that answers, refuses, or says nothing."""

import http.server
import json
import shutil
import socket
import sys
import threading
import time

import pytest

from promptreel.cli import models
from promptreel.providers.weights import is_installed
from tests.pipeline_runs import promptreel, start
from tests.tiny_models import make_whisper

REPOSITORY = "Systran/faster-whisper-base"
COMMIT = "0" * 40
NEEDS_CLIP = pytest.mark.skipif(
    not (is_installed("torch") and is_installed("open_clip")),
    reason="torch or open-clip is not installed: pip install 'promptreel[clip]'",
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_whisper(tmp_path_factory.mktemp("whisper") / "tiny")


class Hub(http.server.BaseHTTPRequestHandler):
    """The model hub with one model in it."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        folder = self.server.folder
        if self.path == "/":
            return self.send(b"", {}, with_body)
        if self.path.startswith(f"/api/models/{REPOSITORY}"):
            paths = sorted(folder.iterdir())
            if "/tree/" in self.path:
                tree = [{"type": "file", "path": p.name, "size": p.stat().st_size, "oid": "1"} for p in paths]
                return self.send(json.dumps(tree).encode(), {}, with_body)
            body = {"id": REPOSITORY, "sha": COMMIT, "siblings": [{"rfilename": path.name} for path in paths]}
            return self.send(json.dumps(body).encode(), {}, with_body)
        path = folder / self.path.rsplit("/", 1)[-1]
        if not self.path.startswith(f"/{REPOSITORY}/resolve/") or not path.is_file():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        return self.send(path.read_bytes(), {"ETag": f'"{path.name}"', "X-Repo-Commit": COMMIT}, with_body)

    def send(self, body, headers, with_body):
        self.send_response(200)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub(tiny):
    """The address of a hub that has the tiny model under the name of the base one."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.folder = tiny
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def silent_hub():
    """The address of a hub that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def no_hub():
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def environment(folder, hub="http://127.0.0.1:9"):
    plain = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    return {**plain, "PROMPTREEL_MODELS": str(folder), "HF_ENDPOINT": hub, "HF_HOME": str(folder / "home")}


def listed(folder):
    code, out, err = promptreel("models", "list", "--json", env=environment(folder))
    assert code == 0, err
    return {row["name"]: row for row in json.loads(out)}


def test_the_list_shows_what_is_missing_with_the_command_that_fixes_it_and_doctor_says_the_same(tmp_path):
    rows = listed(tmp_path)
    speech, texts = rows["transcription (base)"], rows["text embedding (wordllama)"]
    assert speech["state"] == "missing"
    assert speech["fix"] == "run: promptreel models pull whisper:base"
    assert "not on this machine" in speech["detail"]
    assert (texts["state"], texts["fix"]) == ("ok", "")
    assert " MB from wordllama " in texts["detail"]
    pictures = rows["image embedding (ViT-B-32:datacomp_xl_s13b_b90k)"]
    assert pictures["state"] == "missing"
    assert "promptreel[clip]" in pictures["fix"] or "models pull clip:ViT-B-32" in pictures["fix"]
    code, out, err = promptreel("doctor", "--json", "--data-dir", tmp_path, env=environment(tmp_path))
    assert code == 0, err  # what is missing breaks no run
    told = {row["name"]: row for row in json.loads(out)}
    assert {name: told[name] for name in rows} == rows


def test_a_pulled_model_is_listed_with_its_size_and_its_place(tmp_path, hub, tiny):
    code, out, err = promptreel("models", "pull", "whisper:base", env=environment(tmp_path, hub))
    assert code == 0, err
    size = sum(path.stat().st_size for path in tiny.iterdir())
    assert f"whisper:base: {size / 1e6:.0f} MB in {tmp_path}" in out
    # From here on without a hub.
    row = listed(tmp_path)["transcription (base)"]
    assert (row["state"], row["fix"]) == ("ok", "")
    assert f"{size / 1e6:.0f} MB from models folder: {tmp_path}" in row["detail"]
    code, again, err = promptreel("models", "pull", "whisper:base", env=environment(tmp_path))
    assert (code, again) == (0, out), err
    shutil.rmtree(tmp_path / "models--Systran--faster-whisper-base")
    assert listed(tmp_path)["transcription (base)"]["state"] == "missing"


@pytest.mark.parametrize("name", ["whisper:base", pytest.param("clip:ViT-B-32:openai", marks=NEEDS_CLIP)])
def test_without_a_network_a_pull_fails_by_name_and_says_what_to_do(tmp_path, no_hub, name):
    code, out, err = promptreel("models", "pull", name, env=environment(tmp_path, no_hub))
    assert (code, out) == (1, "")
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert f"{name}: the model hub {no_hub} cannot be reached" in line
    assert "PROMPTREEL_MODELS" in line
    assert "Traceback" not in err


def pull_impatiently(name, env):
    """(exit code, output, errors) of a pull that takes half a second for silence."""
    code = "import promptreel.cli.models as m; m.HUB_TIMEOUT_S = 0.5; from promptreel.cli.main import main; main()"
    child = start([sys.executable, "-c", code, "models", "pull", name], env=env)
    out, err = child.communicate(timeout=60)
    return child.returncode, out, err


def test_a_hub_that_never_answers_is_given_up(tmp_path, silent_hub):
    code, out, err = pull_impatiently("whisper:base", environment(tmp_path, silent_hub))
    assert (code, out) == (1, "")
    assert f"the model hub {silent_hub} cannot be reached" in err
    assert models.HUB_TIMEOUT_S <= 30


def test_a_hub_that_falls_silent_after_its_first_answer_is_given_up(tmp_path, hub, monkeypatch):
    answer = Hub.answer
    monkeypatch.setattr(
        Hub, "answer", lambda self, with_body: answer(self, with_body) if self.path == "/" else time.sleep(90)
    )
    code, out, err = pull_impatiently("whisper:base", environment(tmp_path, hub))
    assert (code, out) == (1, "")
    assert "whisper model 'base': cannot be fetched" in err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("base", "use whisper:NAME"),
        ("whisper:", "use whisper:NAME"),
        ("voice:base", "use whisper:NAME"),
        ("whisper:huge", "large-v3"),
        pytest.param("clip:ViT-B-32", "names no weights", marks=NEEDS_CLIP),
        pytest.param("clip:ViT-B-32:nobodys", "knows no weights 'nobodys'", marks=NEEDS_CLIP),
    ],
)
def test_a_name_that_is_none_is_refused_without_asking_the_hub(tmp_path, silent_hub, name, said):
    code, out, err = promptreel("models", "pull", name, env=environment(tmp_path, silent_hub))
    assert (code, out) == (2, "")
    assert said in err
