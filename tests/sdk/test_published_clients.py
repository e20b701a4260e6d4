"""The clients that are published for the prompt-run API work against this service as they are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from promptreel.providers.clip import find_weights
from promptreel.schemas.settings import ImageEmbeddingSettings
from tests.api_server import DESCRIBE, MODEL, ApiServer, ok_json
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import CHECKOUT

pytest_plugins = ["tests.api_fixtures"]

VERSIONS = ["1.1.0", "2.0.0"]
SCRIPT = Path(__file__).parents[1] / "published_client_calls.py"


def installed_client(version):
    """The folder that `./run_local.sh test` has installed a client into, beside the environment that runs the tests."""
    folder = Path(sys.prefix) / "clients" / version
    if not (folder / "videovector").is_dir():
        pytest.skip(f"the client videovector {version} is not in {folder}; ./run_local.sh test installs it")
    return folder


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory, api_media):
    """A server with a made-up model service behind it, `gemini`, whose faults a test sets."""
    before = os.environ.get("GEMINI_API_KEY")
    os.environ["GEMINI_API_KEY"] = "any"
    folder = tmp_path_factory.mktemp("poisoned")
    with FakeGemini() as gemini:
        options = {"media_roots": (api_media,), "model_base_url": gemini.base_url}
        with ApiServer(folder / "data", **options) as server:
            server.gemini = gemini
            yield server
    if before is None:
        del os.environ["GEMINI_API_KEY"]


def run_with_a_failed_segment(server, caller, media, name):
    """A finished run of which one segment has failed; by now the model would answer about it."""
    server.gemini.set_faults(Fault(text="0:02.00 to 0:03.00", answer="malformed"))
    video_id = caller.video(media / "a.mp4", caller.index("failed"))
    prompt_id = caller.prompt({**DESCRIBE, "name": name, "prompt_text": f"Describe the segment: {name}."})
    index_id = ok_json(caller.get(f"/videos/{video_id}"))["index_id"]
    run_id = caller.start(prompt_id, {"type": "index", "index_id": index_id}, processing_model=MODEL)
    assert caller.wait(run_id)["status"] == "completed_with_failures"
    server.gemini.set_faults()
    return {"run_id": run_id, "video_id": video_id}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_call_of_a_published_client_is_served(version, poisoned, api_media):
    folder = installed_client(version)
    caller = poisoned.caller()
    given = {
        "base_url": poisoned.base_url + "/api/v2",
        "key": caller.key,
        "media": str(api_media),
        "has_clip": find_weights(ImageEmbeddingSettings().model).available,
        "image_uri": (api_media / "c.png").as_uri(),
        "failed": run_with_a_failed_segment(poisoned, caller, api_media, f"describe for {version}"),
    }
    environment = {**os.environ, "PYTHONPATH": str(folder), "GIVEN": json.dumps(given)}
    command = [sys.executable, "-W", "error::DeprecationWarning:videovector", str(SCRIPT)]
    done = subprocess.run(
        command, env=environment, cwd=CHECKOUT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == version
