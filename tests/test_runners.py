"""Which Beam runner executes a run: the local one is pinned, others get their options, unknown ones are named."""

import importlib.util
import socket

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import DirectOptions, GoogleCloudOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from promptreel.pipelines.prompt_run import PromptRun
from promptreel.pipelines.runners import LOCAL, is_local, make_pipeline
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.settings import RunSettings
from promptreel.tables.request import RunRequest, TargetItem
from promptreel.transforms.context import RunContext
from tests.prompts import NESTED


@pytest.mark.parametrize("name", [LOCAL, "DirectRunner", "directrunner", "BundleBasedDirectRunner", "local"])
def test_local_names_mean_the_runner_in_this_process_and_no_network(name, monkeypatch):
    def refuse(*arguments, **more):
        raise AssertionError(f"a connection to {arguments} was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert is_local(name)
    pipeline = make_pipeline(name, [])
    assert type(pipeline.runner) is FnApiRunner
    options = pipeline.options.view_as(DirectOptions)
    assert (options.direct_num_workers, options.direct_running_mode) == (1, "in_memory")


def test_another_runner_is_given_its_options():
    pipeline = make_pipeline("PortableRunner", ["--job_endpoint=localhost:1", "--environment_type=LOOPBACK"])
    assert type(pipeline.runner).__name__ == "PortableRunner"
    assert not is_local("PortableRunner")
    assert pipeline.options.get_all_options()["job_endpoint"] == "localhost:1"
    assert pipeline.options.view_as(StandardOptions).runner == "PortableRunner"


def test_an_unknown_runner_is_a_settings_error_that_names_it():
    with pytest.raises(SettingsError, match="'NoSuchRunner'"):
        make_pipeline("NoSuchRunner", [])


def recipe(pipeline, *, distributed):
    request = RunRequest("run_a", NESTED, RunSettings(), ("x",), "2026-01-01T00:00:00+00:00")
    context = RunContext("memory://unused", request, 1, 4, distributed=distributed)
    _ = pipeline | "PromptRun" >> PromptRun(context, [TargetItem("gs://b/a.mp4", "a.mp4")])
    proto = pipeline.to_runner_api()
    return [transform.unique_name for transform in proto.components.transforms.values()]


def test_the_recipe_has_the_steps_of_its_picture_and_spreads_segments_only_across_machines():
    with_steps = recipe(beam.Pipeline(runner=FnApiRunner()), distributed=False)
    steps = ["ReadMedia", "SegmentMedia", "ExtractFields", "SynthesizeMedia", "WriteTables", "CommitManifest"]
    assert {f"PromptRun/{step}" for step in steps} <= set(with_steps)
    assert not any("Spread segments" in name for name in with_steps)
    assert any("Spread segments" in name for name in recipe(beam.Pipeline(runner=FnApiRunner()), distributed=True))


def test_dataflow_takes_the_recipe():
    if importlib.util.find_spec("apache_beam.io.gcp.gcsio") is None or importlib.util.find_spec("apitools") is None:
        pytest.skip("apache-beam[gcp] is not installed: the translation for Dataflow is not tried")
    options = ["--project=p-x1", "--region=us-central1", "--dry_run=True", "--no_auth"]
    options += ["--temp_location=gs://bucketx/tmp", "--staging_location=gs://bucketx/stg"]
    pipeline = make_pipeline("DataflowRunner", options)
    assert pipeline.options.view_as(GoogleCloudOptions).project == "p-x1"
    recipe(pipeline, distributed=True)
    graph = pipeline.run().job.proto_pipeline
    names = [transform.unique_name for transform in graph.components.transforms.values()]
    assert any(name.startswith("PromptRun/CommitManifest") for name in names)
