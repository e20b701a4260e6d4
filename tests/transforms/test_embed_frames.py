"""Image embeddings in the pipeline: selected frames, vectors and outcomes."""

import json
import shutil
import threading
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from promptreel.pipelines.runner import execute_run
from promptreel.providers import clip, local_models
from promptreel.providers.weights import is_installed
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.tables.stop_signal import clear_stop, request_stop
from promptreel.tables.storage import open_storage
from tests.pipeline_runs import (
    check_counts,
    comparable_rows,
    create_run,
    kill,
    make_audio,
    make_image,
    make_media,
    manifest_of,
    promptreel,
    run_media,
    settings_for,
    start_runner,
    wait_for,
    with_models,
)
from tests.tiny_models import CLIP_CONFIG, make_clip_folder

pytestmark = pytest.mark.skipif(
    not (is_installed("torch") and is_installed("open_clip")),
    reason="torch or open-clip is not installed: pip install 'promptreel[clip]'",
)

DIMENSION = CLIP_CONFIG["embed_dim"]
MEASURE = prompt_from_dict(
    {
        "name": "measured",
        "prompt_text": "Measure the segment.",
        "json_schema": {"type": "object", "properties": {"duration_seconds": {"type": "number"}}},
    }
)
# 12 s: 2 s of black, 4 s of a moving pattern, 4 s of a still picture, 2 s of another moving pattern.
FILM = (
    "color=c=black:s=320x180:r=10:d=2[a];testsrc2=s=320x180:r=10:d=4[b];"
    "smptebars=s=320x180:r=10:d=4[c];mandelbrot=s=320x180:r=10,trim=duration=2,setsar=1[d];"
    "[a][b][c][d]concat=n=4,format=yuv420p"
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_clip_folder(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    make_media(folder / "film.mp4", FILM, "-c:v", "libx264", "-preset", "ultrafast")
    make_audio(folder / "tone.flac", 2)
    make_image(folder / "still.png")
    return folder


@pytest.fixture
def loads(monkeypatch):
    """Record the names of the CLIP models loaded during the test, which starts with none loaded."""
    monkeypatch.setattr(local_models, "_models", {})
    names = []
    load = clip._load
    monkeypatch.setattr(clip, "_load", lambda *arguments: names.append(arguments[0]) or load(*arguments))
    return names


def frame_settings(folder, window_s=4):
    return with_models(settings_for(window_s=window_s), clip=f"local-dir:{folder}")


@pytest.fixture(scope="module")
def embedded(media, tiny, tmp_path_factory):
    """(data folder, run id, rows by table) of a run with 4 s segments."""
    data = tmp_path_factory.mktemp("data")
    run_id = run_media(data, media, frame_settings(tiny), MEASURE)
    return data, run_id, check_counts(data, run_id)


def names_of(rows):
    return {row["video_id"]: row["name"] for row in rows["media"]}


def test_vectors_are_float32_unit_vectors_of_the_models_dimension(embedded, tiny):
    data, run_id, rows = embedded
    for part in manifest_of(data, run_id).parts:
        if part.table == "image_embeddings":
            schema = pq.read_schema(data / "runs" / run_id / part.file)
            assert schema.field("vector").type == pa.list_(pa.float32(), DIMENSION)
            assert not schema.field("vector").nullable
    vectors = np.array([row["vector"] for row in rows["image_embeddings"]])
    assert vectors.shape == (len(rows["image_embeddings"]), DIMENSION)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    name = clip.ClipEmbedder(f"local-dir:{tiny}").name
    assert {(row["model"], row["dimension"]) for row in rows["image_embeddings"]} == {(name, DIMENSION)}


def test_vectors_equal_those_of_the_stored_frames(embedded, tiny):
    data, _, rows = embedded
    files = [data / row["file"] for row in rows["image_embeddings"] if row["same_as_us"] is None]
    direct = clip.ClipEmbedder(f"local-dir:{tiny}").embed_images(files)
    found = [row["vector"] for row in rows["image_embeddings"] if row["same_as_us"] is None]
    assert np.array(found) == pytest.approx(direct, abs=1e-5)
    assert len({tuple(vector) for vector in found}) >= 4


def sharpness(path):
    """Mean absolute difference of neighboring pixels, a different measure from the product's."""
    grey = np.asarray(Image.open(path).convert("L"), np.float64)
    return np.abs(np.diff(grey)).mean()


def test_each_segment_has_its_first_sharp_and_middle_frames(embedded):
    data, _, rows = embedded
    frames = {row["segment_id"]: [] for row in rows["segments"]}
    for row in sorted(rows["frames"], key=lambda row: row["time_us"]):
        frames[row["segment_id"]].append(row)
    for segment in rows["segments"]:
        selected = [row for row in rows["image_embeddings"] if row["segment_id"] == segment["segment_id"]]
        if segment["media_type"] == "audio":
            assert (selected, segment["image_embedding"]) == ([], None)
            continue
        assert segment["image_embedding"] == "succeeded"
        assert 1 <= len(selected) <= 3
        assert all(row["start_us"] == segment["start_us"] for row in selected)
        times = [row["time_us"] for row in selected]
        assert times == sorted(set(times))
        sampled = frames[segment["segment_id"]]
        assert set(times) <= {row["time_us"] for row in sampled}
        assert {row["file"] for row in selected} <= {row["file"] for row in sampled}
        sharp = [sharpness(data / row["file"]) for row in sampled]
        first = next(row for row, value in zip(sampled, sharp, strict=True) if value > max(sharp) / 2)
        middle = min(sampled, key=lambda row: abs(2 * row["time_us"] - segment["start_us"] - segment["end_us"]))
        assert {first["time_us"], middle["time_us"]} <= set(times)
    (opening,) = [row for row in rows["segments"] if row["media_type"] == "video" and row["start_us"] == 0]
    selected = [row["time_us"] for row in rows["image_embeddings"] if row["segment_id"] == opening["segment_id"]]
    assert 2_000_000 in selected  # the first frame that is not black


def test_repeated_frame_shares_the_vector_of_the_earlier_one(embedded):
    _, _, rows = embedded
    film = sorted(
        (row for row in rows["image_embeddings"] if names_of(rows)[row["video_id"]] == "film.mp4"),
        key=lambda row: row["time_us"],
    )
    by_time = {row["time_us"]: row for row in film}
    still = [row for row in film if 6_000_000 <= row["time_us"] < 10_000_000]
    assert len(still) >= 3
    assert [row["same_as_us"] for row in still] == [None, *[still[0]["time_us"]] * (len(still) - 1)]
    assert len({row["segment_id"] for row in still}) == 2  # also across a segment boundary
    for row in film:
        if row["same_as_us"] is not None:
            source = by_time[row["same_as_us"]]
            assert source["same_as_us"] is None
            assert source["time_us"] < row["time_us"]
            assert row["vector"] == source["vector"]


def test_second_run_reuses_vectors_without_loading_the_model(media, embedded, tiny, tmp_path, loads):
    first = run_media(tmp_path, media, frame_settings(tiny), MEASURE)
    assert loads == [f"local-dir:{tiny}"]  # once for all items
    loads.clear()
    local_models._models.clear()
    second = run_media(tmp_path, media, frame_settings(tiny), MEASURE)
    assert loads == []
    assert comparable_rows(tmp_path, first) == comparable_rows(tmp_path, second)


def test_vectors_of_two_models_are_cached_separately(media, embedded, tiny, tmp_path):
    other = make_clip_folder(tmp_path / "other", seed=1)
    data, _, rows = embedded
    second = check_counts(data, run_media(data, media / "still.png", frame_settings(other), MEASURE))
    (row,) = second["image_embeddings"]
    (first,) = [candidate for candidate in rows["image_embeddings"] if candidate["file"] == row["file"]]
    assert row["model"] != first["model"]
    assert row["vector"] != first["vector"]


def test_missing_weights_skip_embedding_with_a_warning(media, tmp_path):
    words = ["run", media, "--data-dir", tmp_path, "--model", "signals", "--no-transcription", "--no-text-embedding"]
    missing = ["--image-embedding-model", "local-dir:/nowhere/clip", "--json"]
    code, out, err = promptreel(*words, *missing)
    assert code == 0, err
    summary = json.loads(out)
    (warning,) = summary["warnings"]
    assert warning.startswith("no image_embedding: /nowhere/clip has no open_clip_config.json")
    rows = check_counts(tmp_path, summary["run_id"])
    assert {row["name"]: row["warnings"] for row in rows["media"]} == {
        "film.mp4": [warning], "still.png": [warning],
        "tone.flac": ["no image_embedding: the item has no pictures"],
    }  # fmt: skip
    assert {row["image_embedding"] for row in rows["segments"]} == {None, "unavailable"}
    code, out, err = promptreel(*words, *missing, "--strict-models")
    assert (code, out) == (2, "")
    assert "strict_models: no image_embedding: /nowhere/clip has no" in err


def test_corrupt_weights_only_fail_the_embedding(media, tiny, tmp_path):
    corrupt = shutil.copytree(tiny, tmp_path / "corrupt")
    (corrupt / "open_clip_model.safetensors").write_bytes(b"not weights")
    run_id = run_media(tmp_path / "data", media, frame_settings(corrupt), MEASURE)
    rows = check_counts(tmp_path / "data", run_id)
    assert {(row["operation"], row["code"]) for row in rows["failures"]} == {("image_embedding", "weights_missing")}
    outcomes = Counter((row["media_type"], row["image_embedding"]) for row in rows["segments"])
    assert outcomes == {("video", "failed"): 3, ("image", "failed"): 1, ("audio", None): 1}
    assert {row["field_extraction"] for row in rows["segments"]} == {"succeeded"}
    assert manifest_of(tmp_path / "data", run_id).status == "completed_with_failures"


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Three moving films of 24 s each."""
    folder = tmp_path_factory.mktemp("films")
    for pattern in ("testsrc2", "mandelbrot", "testsrc"):
        make_media(folder / f"{pattern}.mp4", f"{pattern}=s=160x90:r=10,trim=duration=24", "-pix_fmt", "yuv420p")
    return folder


@pytest.fixture(scope="module")
def uninterrupted(films, tiny, tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    return comparable_rows(data, run_media(data, films, frame_settings(tiny, 1), MEASURE))


def stored_embeddings(data):
    files = (data / "cache" / "operations").rglob("*.json")
    return {path: path.stat().st_mtime_ns for path in files if '"vectors"' in path.read_text()}


def test_run_killed_while_embedding_resumes_to_the_same_tables(tmp_path, films, tiny, uninterrupted):
    run_id = create_run(tmp_path, films, frame_settings(tiny, 1), MEASURE)
    child = start_runner(tmp_path, run_id)
    wait_for(lambda: child.poll() is not None or stored_embeddings(tmp_path))
    kill(child)
    stored = stored_embeddings(tmp_path)
    assert manifest_of(tmp_path, run_id) is None
    assert stored
    execute_run(str(tmp_path), run_id)
    assert comparable_rows(tmp_path, run_id) == uninterrupted
    check_counts(tmp_path, run_id)
    assert {path: changed for path, changed in stored_embeddings(tmp_path).items() if path in stored} == stored


def test_stop_while_embedding_cancels_the_rest_and_resume_finishes(tmp_path, films, tiny, uninterrupted, monkeypatch):
    run_id = create_run(tmp_path, films, frame_settings(tiny, 1), MEASURE)
    storage = open_storage(tmp_path)
    embed, batches = clip.ClipEmbedder.embed_images, []

    def embed_and_stop(embedder, files):
        vectors = embed(embedder, files)
        batches.append(len(files))
        if len(batches) == 1:
            request_stop(storage, run_id, "test")
            threading.Event().wait(0.6)  # the stop file is polled twice a second
        return vectors

    with monkeypatch.context() as patch:
        patch.setattr(clip.ClipEmbedder, "embed_images", embed_and_stop)
        execute_run(str(tmp_path), run_id)
    assert len(batches) == 1  # the next batch was not started
    rows = check_counts(tmp_path, run_id)
    assert manifest_of(tmp_path, run_id).status == "cancelled"
    assert {row["image_embedding"] for row in rows["segments"]} == {"cancelled"}
    assert rows["image_embeddings"] == rows["failures"] == []
    clear_stop(storage, run_id)
    execute_run(str(tmp_path), run_id)
    assert manifest_of(tmp_path, run_id).status == "completed"
    assert comparable_rows(tmp_path, run_id) == uninterrupted
