"""The published clients of the prompt-run API work unchanged against this service."""

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
    """Return the folder in the test environment into which `./run_local.sh test` installs a client."""
    folder = Path(sys.prefix) / "clients" / version
    if not (folder / "videovector").is_dir():
        pytest.skip(f"the client videovector {version} is not in {folder}; ./run_local.sh test installs it")
    return folder


@pytest.fixture(scope="module")
def faulty_server(tmp_path_factory, api_media):
    """A server that calls a fake model service, `gemini`, whose faults a test sets."""
    original_key = os.environ.get("GEMINI_API_KEY")
    os.environ["GEMINI_API_KEY"] = "any"
    folder = tmp_path_factory.mktemp("faulty_server")
    with FakeGemini() as gemini:
        options = {"media_roots": (api_media,), "model_base_url": gemini.base_url}
        with ApiServer(folder / "data", **options) as server:
            server.gemini = gemini
            yield server
    if original_key is None:
        del os.environ["GEMINI_API_KEY"]


def run_with_failed_segment(server, caller, media, name):
    """Return a finished run with one failed segment, for which the model would now answer."""
    server.gemini.set_faults(Fault(text="0:02.00 to 0:03.00", answer="malformed"))
    video_id = caller.video(media / "a.mp4", caller.index("failed"))
    prompt_id = caller.prompt({**DESCRIBE, "name": name, "prompt_text": f"Describe the segment: {name}."})
    index_id = ok_json(caller.get(f"/videos/{video_id}"))["index_id"]
    run_id = caller.start(prompt_id, {"type": "index", "index_id": index_id}, processing_model=MODEL)
    assert caller.wait(run_id)["status"] == "completed_with_failures"
    server.gemini.set_faults()
    return {"run_id": run_id, "video_id": video_id}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_call_of_a_published_client_is_served(version, faulty_server, api_media):
    folder = installed_client(version)
    caller = faulty_server.caller()
    arguments = {
        "base_url": faulty_server.base_url + "/api/v2",
        "key": caller.key,
        "media": str(api_media),
        "has_clip": find_weights(ImageEmbeddingSettings().model).available,
        "image_uri": (api_media / "c.png").as_uri(),
        "failed": run_with_failed_segment(faulty_server, caller, api_media, f"describe for {version}"),
    }
    environment = {**os.environ, "PYTHONPATH": str(folder), "GIVEN": json.dumps(arguments)}
    command = [sys.executable, "-W", "error::DeprecationWarning:videovector", str(SCRIPT)]
    process = subprocess.run(
        command, env=environment, cwd=CHECKOUT, capture_output=True, text=True, timeout=300, check=False
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == version
