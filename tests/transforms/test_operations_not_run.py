"""An operation that was requested but did not run is named by the manifest, the item, the row and the commands."""

import json

import pytest

from tests.cli.in_process import invoke
from tests.pipeline_runs import (
    check_counts,
    make_audio,
    make_image,
    make_video,
    manifest_of,
    run_media,
    settings_for,
    with_models,
)
from tests.transforms.test_embed_texts import MEASURED

WHISPER = "no transcription: /nowhere/whisper does not exist; check the path"
SILENT, BLIND = "no transcription: the item has no sound", "no image_embedding: the item has no pictures"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    make_video(folder / "film.mp4", 2)
    make_video(folder / "mute.mp4", 1, "smptebars", sound=False)
    make_audio(folder / "tone.flac", 1)
    make_image(folder / "still.png")
    return folder


@pytest.fixture(scope="module")
def without_weights(folder, tmp_path_factory):
    """(data folder, run id, rows) of a run whose local models are all missing."""
    data = tmp_path_factory.mktemp("data")
    models = {"whisper": "/nowhere/whisper", "clip": "local-dir:/nowhere/clip", "text": "sentence-transformers:none"}
    run_id = run_media(data, folder, with_models(settings_for(), **models), MEASURED)
    return data, run_id, check_counts(data, run_id)


def test_missing_weights_are_named_on_run_item_and_segment(without_weights):
    data, run_id, rows = without_weights
    manifest = manifest_of(data, run_id)
    assert [warning.split(":")[0] for warning in manifest.warnings] == [
        "no image_embedding", "no text_embedding", "no transcription",
    ]  # fmt: skip
    clip, text, _ = manifest.warnings
    expected = {
        "film.mp4": [clip, text, WHISPER], "mute.mp4": [clip, text, SILENT],
        "tone.flac": [BLIND, text, WHISPER], "still.png": [clip, text, SILENT],
    }  # fmt: skip
    names = {row["video_id"]: row["name"] for row in rows["media"]}
    assert {row["name"]: sorted(row["warnings"]) for row in rows["media"]} == expected
    for row in rows["segments"]:
        name = names[row["video_id"]]
        assert sorted(row["warnings"]) == expected[name]
        assert row["transcription"] == ("unavailable" if WHISPER in expected[name] else None)
        assert row["image_embedding"] == ("unavailable" if clip in expected[name] else None)
        assert row["status"] == "succeeded"
    assert manifest.status == "completed"
    assert (manifest.counts["transcription.unavailable"], manifest.counts["image_embedding.unavailable"]) == (3, 4)


def test_commands_show_which_operations_did_not_run(without_weights):
    data, run_id, _ = without_weights
    code, out, _ = invoke("runs", "--data-dir", data, "--json")
    (listed,) = json.loads(out)
    assert (code, listed["warnings"]) == (0, list(manifest_of(data, run_id).warnings))
    code, out, _ = invoke("runs", "--data-dir", data)
    assert "warning" in out
    code, out, _ = invoke("results", run_id, "--data-dir", data, "--json", "--media", "film.mp4")
    assert (code, {row["warning"].split("; no ")[0] for row in json.loads(out)}) == (0, {listed["warnings"][0]})
    assert all(WHISPER in row["warning"] for row in json.loads(out))


def test_flag_without_effect_on_any_item_is_a_warning_of_the_run(folder, tmp_path):
    settings = with_models(settings_for(), clip="local-dir:/nowhere/clip")
    run_id = run_media(tmp_path, folder / "tone.flac", settings, MEASURED)
    assert manifest_of(tmp_path, run_id).warnings == ("no image_embedding: no item has pictures",)
    (row,) = check_counts(tmp_path, run_id)["media"]
    assert row["warnings"] == [BLIND]


def test_disabled_operation_is_no_warning(folder, tmp_path):
    run_id = run_media(tmp_path, folder / "mute.mp4", with_models(settings_for()), MEASURED)
    assert manifest_of(tmp_path, run_id).warnings == ()
    assert {tuple(row["warnings"]) for row in check_counts(tmp_path, run_id)["segments"]} == {()}
