"""Selection of the Beam runner: the local one is pinned, others get their options, unknown ones are reported."""

import io
import shutil
import socket
import tarfile

import apache_beam as beam
import pytest
from apache_beam.internal.gcp import auth
from apache_beam.options.pipeline_options import DirectOptions, GoogleCloudOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from google.oauth2.credentials import Credentials

from promptreel.pipelines.beam_runners import LOCAL_RUNNER, create_pipeline, is_local
from promptreel.pipelines.prompt_run import PromptRun
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.settings import RunSettings
from promptreel.tables.request import RunRequest, TargetItem
from promptreel.transforms.context import RunContext
from tests.google_cloud import GoogleCloud
from tests.pipeline_runs import CHECKOUT
from tests.prompts import NESTED


@pytest.mark.parametrize("name", [LOCAL_RUNNER, "DirectRunner", "directrunner", "BundleBasedDirectRunner", "local"])
def test_local_names_select_the_in_process_runner_without_network(name, monkeypatch):
    def fail(*arguments, **more):
        raise AssertionError(f"attempted connection to {arguments}")

    monkeypatch.setattr(socket.socket, "connect", fail)
    assert is_local(name)
    pipeline = create_pipeline(name, [])
    assert type(pipeline.runner) is FnApiRunner
    options = pipeline.options.view_as(DirectOptions)
    assert (options.direct_num_workers, options.direct_running_mode) == (1, "in_memory")


def test_other_runner_gets_its_options():
    pipeline = create_pipeline("PortableRunner", ["--job_endpoint=localhost:1", "--environment_type=LOOPBACK"])
    assert type(pipeline.runner).__name__ == "PortableRunner"
    assert not is_local("PortableRunner")
    assert pipeline.options.get_all_options()["job_endpoint"] == "localhost:1"
    assert pipeline.options.view_as(StandardOptions).runner == "PortableRunner"


def test_unknown_runner_is_a_settings_error():
    with pytest.raises(SettingsError, match="'NoSuchRunner'"):
        create_pipeline("NoSuchRunner", [])


def step_names(pipeline, *, distributed):
    request = RunRequest("run_a", NESTED, RunSettings(), ("x",), "2026-01-01T00:00:00+00:00")
    context = RunContext("memory://unused", request, 1, 4, distributed=distributed)
    _ = pipeline | "PromptRun" >> PromptRun(context, [TargetItem("gs://b/a.mp4", "a.mp4")])
    proto = pipeline.to_runner_api()
    return [transform.unique_name for transform in proto.components.transforms.values()]


def test_pipeline_spreads_segments_only_across_machines():
    names = step_names(beam.Pipeline(runner=FnApiRunner()), distributed=False)
    steps = ["ReadMedia", "SegmentMedia", "ExtractFields", "SynthesizeMedia", "WriteTables", "CommitManifest"]
    assert {f"PromptRun/{step}" for step in steps} <= set(names)
    assert not any("Spread segments" in name for name in names)
    assert any("Spread segments" in name for name in step_names(beam.Pipeline(runner=FnApiRunner()), distributed=True))


DATAFLOW = [
    "--project=my-project",
    "--region=us-central1",
    "--temp_location=gs://my-bucket/tmp",
    "--staging_location=gs://my-bucket/staging",
]


def test_dataflow_accepts_the_pipeline():
    pipeline = create_pipeline("DataflowRunner", [*DATAFLOW, "--dry_run=True", "--no_auth"])
    assert pipeline.options.view_as(GoogleCloudOptions).project == "my-project"
    step_names(pipeline, distributed=True)
    graph = pipeline.run().job.proto_pipeline
    names = [transform.unique_name for transform in graph.components.transforms.values()]
    assert any(name.startswith("PromptRun/CommitManifest") for name in names)


@pytest.fixture
def google(monkeypatch):
    """Fake Cloud Storage and Dataflow, with credentials."""
    timeout = socket.getdefaulttimeout()  # Beam sets a process-wide one, and caches its credentials
    monkeypatch.setattr(auth._Credentials, "_credentials_init", False)
    monkeypatch.setattr(auth._Credentials, "_credentials", None)
    monkeypatch.setattr("google.auth.default", lambda **more: (Credentials("a-token"), "my-project"))
    with GoogleCloud() as cloud:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", cloud.url)
        yield cloud
    socket.setdefaulttimeout(timeout)


def test_dataflow_job_is_submitted_with_the_code(tmp_path, google):
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "requirements-run.txt"):
        shutil.copy(CHECKOUT / name, tmp_path)
    for name in ("schemas", "media", "providers", "tables", "transforms", "pipelines", "pages", "api", "promptreel"):
        shutil.copytree(CHECKOUT / name, tmp_path / name)
    options = [*DATAFLOW, f"--setup_file={tmp_path}/setup.py", f"--dataflow_endpoint={google.url}"]
    pipeline = create_pipeline("DataflowRunner", options)
    step_names(pipeline, distributed=True)
    result = pipeline.run()
    result.wait_until_finish()
    assert (result.state, result.job_id()) == ("DONE", "job-1")
    ((path, job),) = google.jobs
    assert path == "/v1b3/projects/my-project/locations/us-central1/jobs"
    assert google.tokens == {"Bearer a-token"}
    assert job["environment"]["sdkPipelineOptions"]["options"]["temp_location"].startswith("gs://my-bucket/tmp")
    staged = {address.rsplit("/", 1)[-1]: content for address, content in google.objects.items()}
    assert all(address.startswith("gs://my-bucket/staging/") for address in google.objects)
    assert b"PromptRun/CommitManifest" in staged["pipeline.pb"]
    with tarfile.open(fileobj=io.BytesIO(staged["workflow.tar.gz"])) as archive:
        packed = archive.getnames()
    for name in ("setup.py", "requirements-run.txt", "pipelines/prompt_run.py", "promptreel/prompts/measure.json"):
        assert any(part.endswith(f"/{name}") for part in packed), name
