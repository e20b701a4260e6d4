"""Image and multimodal search over HTTP."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from promptreel.schemas.settings import ImageEmbeddingSettings
from promptreel.schemas.wire.search import ImageResultBody, MultimodalResultBody
from tests.api.search_calls import random_image, segments_with_frames
from tests.api_server import assert_error, ok_json
from tests.search_runs import Segment, settings_with

pytest_plugins = ["tests.api.search_fixtures"]


def test_image_finds_its_segment(searcher, search_clip, tmp_path):
    seeds = range(12)
    index_id, _ = searcher.create_run(
        {"vid_film": segments_with_frames(search_clip[1], tmp_path, seeds)}, settings=search_clip[0]
    )
    vectors = [
        vector for segment in segments_with_frames(search_clip[1], tmp_path, seeds) for _, vector in segment.frames
    ]
    for seed in (0, 5, 11):
        data = random_image("PNG", seed=seed)
        hits = ok_json(searcher.post(f"/indexes/{index_id}/image-search", image_data=data))
        TypeAdapter(list[ImageResultBody]).validate_python(hits, strict=True)
        assert set(hits[0]) == set(ImageResultBody.model_fields)
        cosines = [float(vectors[seed].astype(np.float64) @ vector) for vector in vectors]
        best = {number: max(cosines[2 * number : 2 * number + 2]) for number in range(6)}
        assert [int(hit["segment_id"][-5:]) for hit in hits] == sorted(best, key=lambda n: -round(best[n], 6))
        assert hits[0]["similarity_score"] == hits[0]["matched_image_score"] == pytest.approx(1, abs=1e-4)
        assert hits[0]["matched_image_timestamp"] == (seed // 2) * 10 + seed % 2
    assert len(ok_json(searcher.post(f"/indexes/{index_id}/image-search", image_data=data, top_k=2))) == 2


def test_jpeg_png_and_webp_are_decoded_upright(searcher, search_clip, tmp_path):
    index_id, _ = searcher.create_run(
        {"vid_film": segments_with_frames(search_clip[1], tmp_path, range(8))}, settings=search_clip[0]
    )
    search = lambda data: ok_json(searcher.post(f"/indexes/{index_id}/image-search", image_data=data))  # noqa: E731
    for kind, options in (("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"lossless": True})):
        assert search(random_image(kind, seed=3, **options))[0]["matched_image_timestamp"] == 11
    upright = Image.open(io.BytesIO(base64.b64decode(random_image("PNG", seed=3))))
    sideways, exif, out = upright.rotate(90, expand=True), Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # EXIF orientation: rotate by 90 degrees
    sideways.save(out, "PNG", exif=exif)
    assert search(base64.b64encode(out.getvalue()).decode())[0]["matched_image_score"] == pytest.approx(1, abs=1e-3)


def encoded(content):
    return base64.b64encode(content).decode()


BOMB = random_image("PNG", size=(9000, 9000))


TRUNCATED = base64.b64decode(random_image("JPEG", size=(640, 480)))[:200]


PICTURE, GIF = random_image("PNG"), random_image("GIF")


@pytest.mark.parametrize(
    "image_data",
    [
        "",
        "not base64!",
        "data:image/png;base64," + PICTURE,
        encoded(b""),
        encoded(b"text"),
        encoded(TRUNCATED),
        GIF,
        BOMB,
    ],
    ids=["empty", "no base64", "data URL", "nothing", "text", "truncated", "gif", "bomb"],
)
def test_invalid_or_oversized_image_is_422(searcher, image_data):
    index_id, _ = searcher.create_run()
    for path in ("image-search", "multimodal-search"):
        response = searcher.post(f"/indexes/{index_id}/{path}", image_data=image_data)
        assert "image_data" in assert_error(response, 422, "validation_failed")["message"]


def test_image_with_too_many_bytes_is_413(searcher):
    index_id, _ = searcher.create_run()
    assert_error(
        searcher.post(f"/indexes/{index_id}/image-search", image_data="A" * (15 << 20)), 413, "media_too_large"
    )


def test_missing_clip_weights_are_422_with_fix(searcher, tmp_path):
    gone = settings_with(image_embedding=ImageEmbeddingSettings(model=f"local-dir:{tmp_path}/gone"))
    vector = np.eye(4, dtype=np.float32)[0]
    for films in ({"vid_a": [Segment(summary="a")]}, {"vid_b": [Segment(summary="a", frames=[("clip:gone", vector)])]}):
        index_id, _ = searcher.create_run(films, settings=gone)
        for path in ("image-search", "multimodal-search"):
            response = searcher.post(f"/indexes/{index_id}/{path}", image_data=random_image())
            assert "gone" in assert_error(response, 422, "image_search_unavailable")["message"]


def test_runs_without_image_embeddings_give_a_warning(searcher, search_clip):
    index_id, _ = searcher.create_run(settings=search_clip[0])
    response = searcher.post(f"/indexes/{index_id}/image-search", image_data=random_image())
    assert ok_json(response) == []
    assert "enable_image_embedding" in response.headers["X-Search-Warning"]


def test_text_and_image_are_fused_by_formula(searcher, search_clip, tmp_path):
    index_id, _ = searcher.create_run(
        {"vid_film": segments_with_frames(search_clip[1], tmp_path, range(12))}, settings=search_clip[0]
    )
    data, query = random_image("PNG", seed=5), "scene 4"
    by_text = [hit["result_id"] for hit in searcher.text(index_id, query, top_k=20)]
    by_image = ok_json(searcher.post(f"/indexes/{index_id}/image-search", image_data=data))
    by_image = [hit["result_id"] for hit in by_image]
    for text_weight, image_weight in ((0.5, 0.5), (0.8, 0.2), (0.0, 1.0), (0.605, 0.4)):
        weights = {"text_weight": text_weight, "image_weight": image_weight}
        path = f"/indexes/{index_id}/multimodal-search"
        hits = ok_json(searcher.post(path, text_query=query, image_data=data, **weights))
        TypeAdapter(list[MultimodalResultBody]).validate_python(hits, strict=True)
        assert set(hits[0]) == set(MultimodalResultBody.model_fields)
        for hit in hits:
            ranks = {"text": by_text, "image": by_image}
            ranks = {n: r.index(hit["result_id"]) + 1 if hit["result_id"] in r else None for n, r in ranks.items()}
            assert (hit["text_rank"], hit["image_rank"]) == (ranks["text"], ranks["image"])
            fused = sum(
                weight / (60 + rank)
                for weight, rank in ((text_weight, ranks["text"]), (image_weight, ranks["image"]))
                if rank is not None
            )
            assert hit["fused_score"] == pytest.approx(fused)
            both = None not in ranks.values()
            assert hit["match_type"] == ("both" if both else "text_only" if ranks["text"] else "image_only")
            assert (hit["text_score"] is None, hit["image_score"] is None) == (not ranks["text"], not ranks["image"])
        assert [hit["fused_score"] for hit in hits] == sorted((hit["fused_score"] for hit in hits), reverse=True)


def test_text_or_image_alone_is_sufficient(searcher, search_clip, tmp_path):
    index_id, _ = searcher.create_run(
        {"vid_film": segments_with_frames(search_clip[1], tmp_path, range(4))}, settings=search_clip[0]
    )
    path = f"/indexes/{index_id}/multimodal-search"
    hits = ok_json(searcher.post(path, text_query="scene 1", text_weight=1, image_weight=0))
    assert {hit["match_type"] for hit in hits} == {"text_only"}
    assert [hit["text_rank"] for hit in hits] == list(range(1, len(hits) + 1))
    hits = ok_json(searcher.post(path, image_data=random_image("PNG", seed=3)))
    assert {hit["match_type"] for hit in hits} == {"image_only"}
    assert hits[0]["matched_image_timestamp"] == 11


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text_query": " "},
        {"text_query": "a", "text_weight": 0.5, "image_weight": 0.4},
        {"text_query": "a", "text_weight": 0.52, "image_weight": 0.5},
        {"text_query": "a", "text_weight": 1.2, "image_weight": -0.2},
    ],
)
def test_invalid_weights_and_empty_queries_are_422(searcher, body):
    assert_error(searcher.post("/indexes/any/multimodal-search", **body), 422, "validation_failed")
