"""Search over HTTP: who finds what, in which order, and in the bodies that clients read."""

import base64
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pydantic import TypeAdapter

from promptreel.api.app import PREFIX, create_app
from promptreel.api.config import ApiConfig
from promptreel.api.db.events import record_event
from promptreel.api.db.models import RunRecord
from promptreel.api.search import ranking
from promptreel.api.search.block import MARKER
from promptreel.api.search.build import SEARCH
from promptreel.api.search.words import MAX_QUERY_WORDS
from promptreel.api.web.auth import create_account, create_key
from promptreel.providers.clip import ClipEmbedder
from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL
from promptreel.providers.text_embedding import WordLlamaEmbedder, texts_of
from promptreel.providers.weights import is_installed
from promptreel.schemas.field_paths import render_text
from promptreel.schemas.settings import ImageEmbeddingSettings, ModelSettings, TextEmbeddingSettings
from promptreel.schemas.wire.search import ImageResultBody, MultimodalResultBody, SearchResultBody
from tests.api_server import ApiServer, assert_error, ok_json
from tests.pipeline_runs import wait_for
from tests.search_runs import SCENES, Segment, Shelf, segment_id, settings_with
from tests.tiny_models import make_clip_folder

FILMS = {
    "vid_harbour": [
        Segment(
            summary="A red crane lifts a container onto a ship",
            scene={"location": "harbour"},
            people=[{"name": "Ada Lovelace"}, {"name": "Grace Hopper"}],
            tags=["crane", "SKU-4471"],
            secret="zebra",
        ),
        Segment(summary="Workers eat lunch beside a truck", scene={"location": "canteen"}, tags=["lunch"], year=1999),
        Segment(summary="A dog sleeps in the sun", scene={"location": "harbour"}, tags=["animal", "dog"]),
    ],
    "vid_kitchen": [
        Segment(summary="A chef cuts onions", transcript="first we peel the onions with a sharp knife"),
        Segment(summary="The soup boils in a pot", transcript="let it simmer for an hour", people=[{"name": "Bo"}]),
    ],
}
TOPICS = {"vid_harbour": "loading cargo at the port", "vid_kitchen": "how to cook onion soup"}


class Searcher:
    """An account with a shelf of runs; calls give the answer's body."""

    def __init__(self, app):
        with app.state.database.write() as session:
            account_id = create_account(session, "made for a test").account_id
            _, key = create_key(session, account_id, "k", ["read"])
        self.shelf = Shelf(app.state.database, app.state.storage, account_id)
        self.http = TestClient(app, headers={"X-API-Key": key}, raise_server_exceptions=False)

    def post(self, path, **body):
        return self.http.post(PREFIX + path, json=body)

    def text(self, index_id, query, **body):
        return ok_json(self.post(f"/indexes/{index_id}/search", query=query, **body))

    def film(self, films=FILMS, **options):
        """(index, run) with these results."""
        index_id = self.shelf.index()
        topics = mine(TOPICS if films is FILMS else {}, self)
        return index_id, self.shelf.run(index_id, mine(films, self), topics=topics, **options)


def mine(by_video, searcher):
    """The same with ids of one account's own media."""
    return {f"{video_id}_{searcher.shelf.account_id[-6:]}": value for video_id, value in by_video.items()}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    app = create_app(ApiConfig(data_dir=str(data), supervise=False, default_model="signals"))
    yield app
    if getattr(app.state, "search", None) is not None:
        app.state.search.library.stop()
    app.state.database.close()


@pytest.fixture
def searcher(app):
    return Searcher(app)


def found(hits):
    """(video, number of the segment or None) of each hit."""
    return [
        (hit["video_id"].rsplit("_", 1)[0], int(hit["segment_id"][-5:]) if hit["segment_id"] else None) for hit in hits
    ]


# ------------------------------------------------------------------------------------------------ text


def test_queries_by_meaning_word_or_name_find_the_segment(searcher):
    index_id, _ = searcher.film()
    for query, wanted in (
        ("a hoist on a vessel", ("vid_harbour", 0)),
        ("SKU-4471", ("vid_harbour", 0)),
        ("grace hopper", ("vid_harbour", 0)),
        ("a puppy takes a nap", ("vid_harbour", 2)),
        ("sharp knife", ("vid_kitchen", 0)),
        ("1999", ("vid_harbour", 1)),
        ("zebra", ("vid_harbour", 0)),  # not embedded by its prompt, but among the words of the whole
        ("how to cook onion soup", ("vid_kitchen", None)),
    ):
        assert found(searcher.text(index_id, query))[0] == wanted, query


def test_similarity_is_highest_cosine_of_texts(searcher):
    index_id, _ = searcher.film()
    query = "a ship in the harbour"
    embedder = WordLlamaEmbedder()
    asked = embedder.embed([query])[0]
    expected = {}
    for video_id, segments in FILMS.items():
        for number, segment in enumerate(segments):
            text = render_text(segment.metadata, SCENES.leaves)
            texts = texts_of(segment.metadata, text, segment.transcript, SCENES.leaves, ("secret",))
            cosines = embedder.embed([part.text for part in texts]) @ asked
            expected[video_id, number] = (1 + float(cosines.max())) / 2
    hits = searcher.text(index_id, query, top_k=100)
    told = {
        place: hit["similarity_score"] for place, hit in zip(found(hits), hits, strict=True) if place[1] is not None
    }
    assert told == pytest.approx(expected, abs=1e-5)
    assert len(hits) == len(expected) + len(TOPICS)


def test_hit_follows_schema_and_identifies_its_segment(searcher):
    index_id, run_id = searcher.film()
    hits = searcher.text(index_id, "people at work")
    TypeAdapter(list[SearchResultBody]).validate_python(hits, strict=True)
    assert set(hits[0]) == set(SearchResultBody.model_fields)
    assert [hit["reranked_score"] for hit in hits] == sorted((hit["reranked_score"] for hit in hits), reverse=True)
    for hit in hits:
        assert hit["run_id"] == hit["source_run_id"] == hit["prompt_run_id"] == run_id
        assert (hit["source_index_id"], hit["prompt_id"]) == (index_id, "prompt_1")
        segments = ok_json(searcher.http.get(f"{PREFIX}/videos/{hit['video_id']}/segments", params={"run_id": run_id}))
        by_id = {segment["segment_id"]: segment for segment in segments["data"]}
        if hit["result_type"] == "segment":
            segment = by_id[hit["segment_id"]]
            assert hit["result_id"] == f"segment:{hit['segment_id']}:{run_id}"
            assert hit["metadata"] == segment["metadata"] == hit["extracted_metadata"]
            assert all(hit[name] == segment[name] for name in ("start_time", "end_time", "metadata_text"))
            assert hit["preview_segment_id"] is None
        else:
            assert hit["result_id"] == f"video:{hit['video_id']}:{run_id}"
            assert (hit["segment_id"], hit["start_time"], hit["end_time"]) == (None, None, None)
            preview = by_id[hit["preview_segment_id"]]
            assert (hit["preview_start_time"], hit["preview_end_time"]) == (preview["start_time"], preview["end_time"])


def test_synthesis_previews_most_similar_segment(searcher):
    index_id, _ = searcher.film()
    for query, number in (("a dog sleeps", 2), ("crane", 0), ("lunch", 1)):
        (hit,) = [h for h in searcher.text(index_id, query) if h["result_id"].startswith("video:vid_harbour")]
        assert hit["preview_segment_id"].endswith(f"{number:05d}")


def test_hits_report_matching_values(searcher):
    index_id, _ = searcher.film()
    hit = searcher.text(index_id, "Grace Hopper")[0]
    best = hit["matched_field_instances"][0]
    assert (best["field_path"], best["field_instance_path"]) == ("people[].name", "people[1].name")
    assert (best["value_preview"], best["score"]) == ("Grace Hopper", 1.0)
    assert hit["matched_field_paths"][0] == "people[].name"
    assert hit["field_scores"]["people[].name"] == hit["field_instance_scores"]["people[1].name"] == 1.0
    assert hit["field_instance_scores"]["people[0].name"] < 1
    shares = searcher.text(index_id, "hopper crane unheardof zzz", search_fields=["tags"])[0]["field_instance_scores"]
    assert set(shares) == {"tags[0]", "tags[1]"}


def test_search_fields_restrict_rankings_and_matches(searcher):
    index_id, _ = searcher.film()
    everywhere = searcher.text(index_id, "harbour")
    assert found(everywhere)[0][0] == "vid_harbour"
    hits = searcher.text(index_id, "harbour", search_fields=["scene.location"])
    assert sorted(found(hits)[:2]) == [("vid_harbour", 0), ("vid_harbour", 2)]
    assert {path for hit in hits for path in hit["matched_field_paths"]} == {"scene.location"}
    assert len(hits) == 3  # only three segments have a location
    assert hits == searcher.text(index_id, "harbour", search_fields=["scene.location", " scene.location "])
    assert found(searcher.text(index_id, "onions", search_fields=["transcription"])) == [
        ("vid_kitchen", 0),
        ("vid_kitchen", 1),
    ]
    assert searcher.text(index_id, "dog", search_fields=["tags[]"]) == searcher.text(
        index_id, "dog", search_fields=["tags"]
    )
    assert found(searcher.text(index_id, "soup", search_fields=["topic"]))[0] == ("vid_kitchen", None)
    # Known, but never embedded: a number, and a field that its prompt has switched off.
    assert searcher.text(index_id, "1999", search_fields=["year"]) == []
    assert searcher.text(index_id, "zebra", search_fields=["secret"]) == []


def test_unknown_search_field_is_422_with_known_fields(searcher):
    index_id, _ = searcher.film()
    for name in ("colour", "scene", "people.name"):
        error = assert_error(
            searcher.post(f"/indexes/{index_id}/search", query="a", search_fields=["tags", name]),
            422,
            "validation_failed",
        )
        assert all(word in error["message"] for word in (repr(name), "people[].name", "transcription", "topic", "tags"))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": " "},
        {"query": "a", "top_k": 0},
        {"query": "a", "top_k": 101},
        {"query": "a\ud800"},
        {"query": "x" * 5001},
        {"query": ["a"]},
        {"query": "a", "run_ids": [""]},
    ],
)
def test_invalid_body_is_422(searcher, body):
    content = json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    response = searcher.http.post(f"{PREFIX}/indexes/any/search", content=content, headers=headers)
    assert_error(response, 422, "validation_failed")


def test_null_counts_as_absent_and_unknown_keys_are_ignored(searcher):
    index_id, run_id = searcher.film()
    body = {"top_k": None, "search_fields": None, "run_ids": None, "index_ids": None, "rerank": True}
    assert searcher.text(index_id, "dog", **body) == searcher.text(index_id, "dog", top_k=30)
    assert searcher.text(index_id, "dog", run_ids=[]) == searcher.text(index_id, "dog", run_ids=[run_id])


@pytest.mark.parametrize(
    "query", ["!!!", "…", "\u0000", "' OR 1=1 --", 'AND (a* "b', "a" * 5000, "w " * 2500, "日本", "🦓"]
)
def test_unusual_queries_are_accepted(searcher, query):
    index_id, _ = searcher.film()
    response = searcher.post(f"/indexes/{index_id}/search", query=query)
    assert response.status_code == (422 if "\0" in query else 200)
    assert MAX_QUERY_WORDS < 2500


def test_search_without_texts_returns_nothing(searcher):
    empty = searcher.shelf.index()
    assert searcher.text(empty, "anything", search_fields=["any"]) == []
    index_id, _ = searcher.film({"vid_empty": [Segment()]}, embed=False)
    assert [hit for hit in searcher.text(index_id, "anything") if hit["result_type"] == "segment"] == []


# ------------------------------------------------------------------------------------------------ whose


def test_other_accounts_data_is_not_found(app, searcher):
    other = Searcher(app)
    index_id, run_id = searcher.film()
    other_index, other_run = other.film()
    assert {hit["run_id"] for hit in searcher.text(index_id, "dog")} == {run_id}
    for path, body, code in (
        (f"/indexes/{other_index}/search", {"query": "dog"}, "resource_index_not_found"),
        (f"/indexes/{index_id}/search", {"query": "dog", "index_ids": [other_index]}, "resource_index_not_found"),
        (f"/indexes/{index_id}/search", {"query": "dog", "run_ids": [other_run]}, "resource_run_not_found"),
        (f"/indexes/{other_index}/image-search", {"image_data": picture()}, "resource_index_not_found"),
        (f"/indexes/{other_index}/multimodal-search", {"text_query": "dog"}, "resource_index_not_found"),
        ("/search/multi-run", {"query": "dog", "run_ids": [run_id, other_run]}, "resource_run_not_found"),
        ("/search/multi-run", {"query": "dog", "index_id": other_index}, "resource_index_not_found"),
        (f"/playground/search?run_id={other_run}", {"query": "dog"}, "resource_run_not_found"),
    ):
        assert_error(searcher.post(path, **body), 404, code)
    assert ok_json(searcher.post("/playground/search", query="dog")) == []


def test_search_scope_is_sufficient_and_missing_key_is_401(app, searcher):
    index_id, _ = searcher.film()
    with app.state.database.write() as session:
        _, key = create_key(session, searcher.shelf.account_id, "k", ["search"])
    path = f"{PREFIX}/indexes/{index_id}/search"
    plain = TestClient(app)
    assert ok_json(plain.post(path, json={"query": "dog"}, headers={"X-API-Key": key}))
    assert_error(plain.post(path, json={"query": "dog"}), 401, "authentication_required")


def test_run_ids_and_index_ids_select_runs(searcher):
    index_id, first = searcher.film()
    second = searcher.shelf.run(index_id, mine({"vid_harbour": [Segment(summary="A dog barks")]}, searcher))
    other_index, other = searcher.film({"vid_other": [Segment(summary="A dog digs")]})
    runs = lambda hits: {hit["run_id"] for hit in hits}  # noqa: E731
    assert runs(searcher.text(index_id, "dog")) == {first, second}
    assert runs(searcher.text(index_id, "dog", run_ids=[second])) == {second}
    assert runs(searcher.text("ignored", "dog", index_ids=[other_index])) == {other}
    assert runs(searcher.text(index_id, "dog", index_ids=[index_id, other_index])) == {first, second, other}
    error = assert_error(
        searcher.post(f"/indexes/{index_id}/search", query="dog", run_ids=[other]), 422, "validation_failed"
    )
    assert other_index in error["message"]


def test_unfinished_run_is_skipped_and_409_if_named(app, searcher):
    index_id, run_id = searcher.film()
    pending = searcher.shelf.run(index_id, mine({"vid_harbour": [Segment(summary="A dog barks")]}, searcher))
    with app.state.database.write() as session:
        run = session.get(RunRecord, pending)
        run.status, run.manifest_number = "processing", None
    assert {hit["run_id"] for hit in searcher.text(index_id, "dog")} == {run_id}
    path = f"/indexes/{index_id}/search"
    assert assert_error(searcher.post(path, query="dog", run_ids=[pending]), 409, "run_not_finished")["details"] == {
        "run_id": pending,
        "status": "processing",
    }


def test_playground_is_searched_separately(searcher):
    index_id, _ = searcher.film()
    alone = mine({"vid_alone": [Segment(summary="A dog in a garden")]}, searcher)
    run_id = searcher.shelf.run(None, alone)
    again = searcher.shelf.run(None, alone)
    assert {hit["run_id"] for hit in ok_json(searcher.post("/playground/search", query="dog"))} == {run_id, again}
    hits = ok_json(searcher.post(f"/playground/search?run_id={run_id}", query="dog", top_k=5))
    assert [(hit["run_id"], hit["source_index_id"]) for hit in hits] == [(run_id, None)]
    assert run_id not in {hit["run_id"] for hit in searcher.text(index_id, "dog")}
    assert_error(
        searcher.post(f"/playground/search?run_id={searcher.film()[1]}", query="dog"), 422, "validation_failed"
    )


def test_deleted_media_does_not_affect_other_hits(app, searcher):
    many = {f"vid_{number:02d}": [Segment(summary=f"A dog number {number}")] for number in range(12)}
    index_id, _ = searcher.film(many)
    before = searcher.text(index_id, "dog", top_k=12)
    assert len(before) == 12
    for hit in before[:5]:
        searcher.shelf.delete(hit["video_id"])
    left = {hit["video_id"].rsplit("_", 1)[0] for hit in before[5:]}
    other = Searcher(app)
    other_index, _ = other.film({video_id: segments for video_id, segments in many.items() if video_id in left})
    for top_k in (4, 7, 100):
        hits, expected = searcher.text(index_id, "dog", top_k=top_k), other.text(other_index, "dog", top_k=top_k)
        assert found(hits) == found(expected)
        assert [hit["reranked_score"] for hit in hits] == [hit["reranked_score"] for hit in expected]
    several = ok_json(searcher.post("/search/multi-run", query="dog", index_id=index_id))
    assert {place[0] for place in found(several)} <= left


def test_deleted_media_beyond_ranking_depth_is_not_found(searcher, monkeypatch):
    monkeypatch.setattr(ranking, "_MIN_DEPTH", 1)
    index_id, _ = searcher.film(
        {f"vid_{number:02d}": [Segment(summary=f"A dog number {number}")] for number in range(12)}
    )
    for hit in searcher.text(index_id, "dog", top_k=12)[:10]:
        searcher.shelf.delete(hit["video_id"])
    assert len(searcher.text(index_id, "dog", top_k=1)) == 1
    assert len(searcher.text(index_id, "dog", top_k=2)) == 2


# ------------------------------------------------------------------------------------------------ several runs


@pytest.fixture
def three_runs(searcher):
    """(index, runs oldest first): the same two segments, described better in each run."""
    index_id = searcher.shelf.index()
    runs = []
    for summary in ("a dog", "a dog on a lawn", "a brown dog on a lawn"):
        films = mine({"vid_dog": [Segment(summary=summary), Segment(summary="rain falls")]}, searcher)
        runs.append(searcher.shelf.run(index_id, films))
    return index_id, runs


def test_hits_of_several_runs_are_joined_by_aggregation(searcher, three_runs):
    index_id, runs = three_runs
    ask = lambda **body: ok_json(searcher.post("/search/multi-run", query="a dog", **body))  # noqa: E731
    every = ask(run_ids=runs, aggregation="all", top_k=1)
    assert sorted(hit["run_id"] for hit in every) == sorted(runs)
    assert every[0]["run_id"] == runs[0]  # its words are nearest to the query
    assert {hit["segment_id"][-1] for hit in every} == {"0"}
    every = ask(run_ids=runs, aggregation="all", top_k=50)
    assert len(every) == 6
    best = ask(run_ids=runs, top_k=50)
    assert [hit["segment_id"][-1] for hit in best] == ["0", "1"]
    assert best[0] == every[0]
    assert ask(index_id=index_id, top_k=50) == best
    weighted = ask(run_ids=runs[::-1], aggregation="weighted", top_k=50)
    score = {hit["result_id"]: hit for hit in every}
    assert {hit["run_id"] for hit in weighted} == {runs[2]}  # half as much for each run that is older
    ages = {run_id: age for age, run_id in enumerate(reversed(runs))}
    for hit in weighted:
        for name in ("reranked_score", "similarity_score"):
            assert hit[name] == pytest.approx(score[hit["result_id"]][name] * 0.5 ** ages[hit["run_id"]], abs=1e-6)
    older = ask(run_ids=runs[:1], aggregation="weighted", top_k=50)
    assert older[0]["similarity_score"] == pytest.approx(1, abs=0.02)  # the only run is the newest


@pytest.mark.parametrize(
    "body", [{"query": "a"}, {"query": "a", "run_ids": []}, {"query": "a", "run_ids": ["r"], "aggregation": "worst"},
             {"query": "a", "run_ids": ["r"], "top_k": 51}],
)  # fmt: skip
def test_multi_run_search_without_runs_is_422(searcher, body):
    assert_error(searcher.post("/search/multi-run", **body), 422, "validation_failed")


# ------------------------------------------------------------------------------------------------ models


def test_run_of_unavailable_model_is_found_by_words_with_warning(searcher):
    rng = np.random.default_rng(5)
    unit = lambda texts: (lambda v: v / np.linalg.norm(v, axis=1, keepdims=True))(  # noqa: E731
        rng.standard_normal((len(texts), 16)).astype(np.float32)
    )
    gone = TextEmbeddingSettings(model="gemini-embedding-001")
    nowhere = ModelSettings(model=DEFAULT_GEMINI_MODEL, base_url="http://127.0.0.1:9")
    settings = settings_with(text_embedding=gone, model=nowhere)
    index_id, run_id = searcher.film(settings=settings, embed=unit, model="gemini-embedding-001")
    known = searcher.shelf.run(index_id, mine({"vid_harbour": [Segment(summary="A puppy plays")]}, searcher))
    response = searcher.post(f"/indexes/{index_id}/search", query="dog onions")
    assert "gemini-embedding-001" in response.headers["X-Search-Warning"]
    hits = ok_json(response)
    assert {hit["run_id"] for hit in hits} == {run_id, known}  # one by words, the other by meaning
    assert all(hit["similarity_score"] is None for hit in hits if hit["run_id"] == run_id)
    assert "X-Search-Warning" not in searcher.post(f"/indexes/{index_id}/search", query="dog", run_ids=[known]).headers


def test_vectors_of_another_model_version_are_not_compared(searcher):
    index_id, _ = searcher.film(model="wordllama:0.0.1")
    response = searcher.post(f"/indexes/{index_id}/search", query="dog")
    assert "wordllama:0.0.1" in response.headers["X-Search-Warning"]
    assert found(ok_json(response)) == [("vid_harbour", 2)]


# ------------------------------------------------------------------------------------------------ images


def picture(kind="JPEG", size=(64, 48), seed=0, **options):
    """A picture of random blocks as base64."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8))
    out = io.BytesIO()
    small.resize(size, Image.Resampling.NEAREST).save(out, kind, **options)
    return base64.b64encode(out.getvalue()).decode()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The settings of a CLIP with random weights, and it."""
    if not (is_installed("torch") and is_installed("open_clip")):
        pytest.skip("torch or open-clip is not installed: pip install 'promptreel[clip]'")
    model = f"local-dir:{make_clip_folder(tmp_path_factory.mktemp('clip') / 'mine')}"
    return settings_with(image_embedding=ImageEmbeddingSettings(model=model)), ClipEmbedder(model)


def framed(clip, tmp_path, seeds, **films):
    """Segments whose frames are the pictures of these seeds, two in each, in order."""
    files = []
    for seed in seeds:
        files.append(tmp_path / f"{seed}.png")
        files[-1].write_bytes(base64.b64decode(picture("PNG", seed=seed)))
    vectors = [(clip[1].name, vector) for vector in clip[1].embed_images(files)]
    return [
        Segment(summary=f"scene {number}", frames=vectors[2 * number : 2 * number + 2])
        for number in range(len(seeds) // 2)
    ]


def test_image_finds_its_segment(searcher, clip, tmp_path):
    seeds = range(12)
    index_id, _ = searcher.film({"vid_film": framed(clip, tmp_path, seeds)}, settings=clip[0])
    vectors = [vector for segment in framed(clip, tmp_path, seeds) for _, vector in segment.frames]
    for seed in (0, 5, 11):
        data = picture("PNG", seed=seed)
        hits = ok_json(searcher.post(f"/indexes/{index_id}/image-search", image_data=data))
        TypeAdapter(list[ImageResultBody]).validate_python(hits, strict=True)
        assert set(hits[0]) == set(ImageResultBody.model_fields)
        cosines = [float(vectors[seed].astype(np.float64) @ vector) for vector in vectors]
        best = {number: max(cosines[2 * number : 2 * number + 2]) for number in range(6)}
        assert [int(hit["segment_id"][-5:]) for hit in hits] == sorted(best, key=lambda n: -round(best[n], 6))
        assert hits[0]["similarity_score"] == hits[0]["matched_image_score"] == pytest.approx(1, abs=1e-4)
        assert hits[0]["matched_image_timestamp"] == (seed // 2) * 10 + seed % 2
    assert len(ok_json(searcher.post(f"/indexes/{index_id}/image-search", image_data=data, top_k=2))) == 2


def test_jpeg_png_and_webp_are_decoded_upright(searcher, clip, tmp_path):
    index_id, _ = searcher.film({"vid_film": framed(clip, tmp_path, range(8))}, settings=clip[0])
    ask = lambda data: ok_json(searcher.post(f"/indexes/{index_id}/image-search", image_data=data))  # noqa: E731
    for kind, options in (("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"lossless": True})):
        assert ask(picture(kind, seed=3, **options))[0]["matched_image_timestamp"] == 11
    upright = Image.open(io.BytesIO(base64.b64decode(picture("PNG", seed=3))))
    sideways, exif, out = upright.rotate(90, expand=True), Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # the camera was held so that the picture must be turned back by 90 degrees
    sideways.save(out, "PNG", exif=exif)
    assert ask(base64.b64encode(out.getvalue()).decode())[0]["matched_image_score"] == pytest.approx(1, abs=1e-3)


def broken(content):
    return base64.b64encode(content).decode()


BOMB = picture("PNG", size=(9000, 9000))
TRUNCATED = base64.b64decode(picture("JPEG", size=(640, 480)))[:200]
PICTURE, GIF = picture("PNG"), picture("GIF")


@pytest.mark.parametrize(
    "image_data",
    [
        "",
        "not base64!",
        "data:image/png;base64," + PICTURE,
        broken(b""),
        broken(b"text"),
        broken(TRUNCATED),
        GIF,
        BOMB,
    ],
    ids=["empty", "no base64", "data URL", "nothing", "text", "truncated", "gif", "bomb"],
)
def test_invalid_or_oversized_image_is_422(searcher, image_data):
    index_id, _ = searcher.film()
    for path in ("image-search", "multimodal-search"):
        response = searcher.post(f"/indexes/{index_id}/{path}", image_data=image_data)
        assert "image_data" in assert_error(response, 422, "validation_failed")["message"]


def test_image_with_too_many_bytes_is_413(searcher):
    index_id, _ = searcher.film()
    assert_error(
        searcher.post(f"/indexes/{index_id}/image-search", image_data="A" * (15 << 20)), 413, "media_too_large"
    )


def test_missing_clip_weights_are_422_with_fix(searcher, tmp_path):
    gone = settings_with(image_embedding=ImageEmbeddingSettings(model=f"local-dir:{tmp_path}/gone"))
    vector = np.eye(4, dtype=np.float32)[0]
    for films in ({"vid_a": [Segment(summary="a")]}, {"vid_b": [Segment(summary="a", frames=[("clip:gone", vector)])]}):
        index_id, _ = searcher.film(films, settings=gone)
        for path in ("image-search", "multimodal-search"):
            response = searcher.post(f"/indexes/{index_id}/{path}", image_data=picture())
            assert "gone" in assert_error(response, 422, "image_search_unavailable")["message"]


def test_runs_without_image_embeddings_give_a_warning(searcher, clip):
    index_id, _ = searcher.film(settings=clip[0])
    response = searcher.post(f"/indexes/{index_id}/image-search", image_data=picture())
    assert ok_json(response) == []
    assert "enable_image_embedding" in response.headers["X-Search-Warning"]


# ------------------------------------------------------------------------------------------------ both


def test_text_and_image_are_fused_by_formula(searcher, clip, tmp_path):
    index_id, _ = searcher.film({"vid_film": framed(clip, tmp_path, range(12))}, settings=clip[0])
    data, query = picture("PNG", seed=5), "scene 4"
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


def test_text_or_image_alone_is_sufficient(searcher, clip, tmp_path):
    index_id, _ = searcher.film({"vid_film": framed(clip, tmp_path, range(4))}, settings=clip[0])
    path = f"/indexes/{index_id}/multimodal-search"
    hits = ok_json(searcher.post(path, text_query="scene 1", text_weight=1, image_weight=0))
    assert {hit["match_type"] for hit in hits} == {"text_only"}
    assert [hit["text_rank"] for hit in hits] == list(range(1, len(hits) + 1))
    hits = ok_json(searcher.post(path, image_data=picture("PNG", seed=3)))
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


# ------------------------------------------------------------------------------------------------ together


def test_queries_during_commits_see_one_manifest(searcher):
    """Every segment of manifest n says n: an answer that mixed two would tell."""
    video_ids = list(mine({f"vid_{number}": None for number in range(4)}, searcher))
    told = lambda number: {v: [Segment(summary=f"dog of state{number}")] * 3 for v in video_ids}  # noqa: E731
    index_id = searcher.shelf.index()
    run_id = searcher.shelf.run(index_id, told(1), shards=20)
    seen, stop, wrong = [], threading.Event(), []

    def ask():
        while not stop.is_set():
            hits = searcher.text(index_id, "dog", top_k=100)
            states = {hit["metadata"]["summary"] for hit in hits}
            seen.append(states)
            if len(hits) != 12 or len(states) != 1:
                wrong.append((len(hits), states))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2, 8):
        searcher.shelf.recommit(run_id, told(number), attempt=number, shards=20)
    until_newest = 200
    while {"dog of state7"} not in seen[-4:] and until_newest:
        until_newest -= 1
        threading.Event().wait(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert {"dog of state7"} in seen


ALIKE = [
    ("the ship sails across the ocean", "a boat travels over the sea"),
    ("a doctor treats a patient", "a physician cares for a sick person"),
    ("children play football in the park", "kids kick a ball on the grass"),
    ("the chef bakes bread", "a cook makes a loaf in the oven"),
    ("a car drives down the highway", "an automobile speeds along the motorway"),
    ("snow covers the mountain", "the peak is white in winter"),
    ("the orchestra performs a symphony", "musicians play classical music on stage"),
    ("a teacher explains mathematics", "an instructor gives a lesson on algebra"),
    ("police arrest a thief", "officers catch a robber"),
    ("the farmer harvests wheat", "crops are gathered on the farm"),
]


def test_fused_recall_is_at_least_that_of_each_ranking(app, searcher):
    """A few hundred texts; queries that say the same otherwise, that name an exact token, and that do both."""
    rng = np.random.default_rng(11)
    fillers = ["red", "large", "old", "near the wall", "at night", "in the city", "on monday", "with two people"]
    segments, queries = [], []
    for number in range(300):
        text, paraphrase = ALIKE[number % len(ALIKE)]
        token = f"item {rng.integers(10**6):06d}"
        segments.append(Segment(summary=f"{text} {rng.choice(fillers)} {token}"))
        if number % 4 == 0:
            queries.append((token, {number}))
        if number < len(ALIKE):
            alike = set(range(number, 300, len(ALIKE)))
            queries.append((paraphrase, alike))
            queries.append((f"{paraphrase} {token}", {number}))
    index_id, _ = searcher.film({"vid_many": segments})
    service = app.state.search
    asked = {"semantic": [], "lexical": [], "joined": []}
    for query, relevant in queries:
        hits = searcher.text(index_id, query, top_k=10)
        rankings = parts_of(service, searcher, index_id, query)
        rankings["joined"] = [int(hit["segment_id"][-5:]) for hit in hits if hit["segment_id"]]
        for name, order in rankings.items():
            asked[name].append(len(set(order[:10]) & relevant) / min(10, len(relevant)))
    recall = {name: sum(values) / len(values) for name, values in asked.items()}
    assert recall["joined"] >= max(recall["semantic"], recall["lexical"]), recall
    assert recall["joined"] > 0.9, recall


def parts_of(service, searcher, index_id, query):
    """The two rankings before they are joined, as numbers of segments."""
    from promptreel.api.search.ranking import Warnings, depth_for
    from promptreel.api.search.scope import runs_in_indexes
    from promptreel.api.search.text import rank_texts, searched_blocks
    from promptreel.api.web.auth import Principal

    with searcher.shelf.database.read() as session:
        scope = runs_in_indexes(session, Principal(searcher.shelf.account_id, "k", ("read",)), [index_id], None)
    searched = searched_blocks(service.library.indexes(scope.committed()))
    made = rank_texts(searched, query, scope, service._vectors, depth_for(10), Warnings())
    return {
        "semantic": [row for _, row in made.semantic[0].positions],
        "lexical": [row for _, row in made.lexical.positions],
    }


# ------------------------------------------------------------------------------------------------ with the service


def test_index_of_finished_run_is_built_before_any_search(tmp_path):
    with ApiServer(tmp_path / "data", supervise=False) as server:
        person = Searcher(server.app)
        _, run_id = person.film()
        folder = tmp_path / "data" / SEARCH / run_id
        assert not folder.exists()
        with server.app.state.database.write() as session:
            record_event(session, person.shelf.account_id, "prompt_run.completed", run_id=run_id)
        wait_for(lambda: list(folder.glob(f"*/{MARKER}")), 30)
        library = server.app.state.search.library
        wait_for(lambda: run_id in library._open, 30)
        threads = list(library._threads)
    assert len(threads) == 2
    assert not any(thread.is_alive() for thread in threads)


# ------------------------------------------------------------------------------------------------ published clients

CALLS = """
import json, os
import videovector
given = json.loads(os.environ["GIVEN"])
with videovector.VideoVector(api_key=given["key"], base_url=given["base_url"]) as client:
    hits = client.search.text(index_id=given["index_id"], query="a dog", top_k=5, search_fields=["summary"])
    assert hits[0].segment_id == given["dog"], hits[0]
    assert hits[0].matched_field_instances[0].field_instance_path == "summary"
    hits = client.search.text(index_id=given["index_id"], query="onion soup", run_ids=[given["run_id"]])
    assert {hit.result_type for hit in hits} == {"segment", "video"}
    hits = client.search.multi_run(query="a dog", run_ids=[given["run_id"]], top_k=3) if hasattr(
        client.search, "multi_run") else client.search.across_runs(query="a dog", run_ids=[given["run_id"]], top_k=3)
    assert hits[0].segment_id == given["dog"]
    hits = client.search.multimodal(index_id=given["index_id"], text_query="a dog", text_weight=1.0, image_weight=0.0)
    assert hits[0].match_type == "text_only" and hits[0].text_rank == 1 and hits[0].fused_score > 0
    assert client.search.playground(query="a dog") == []
    try:
        client.search.text(index_id=given["index_id"], query="a dog", search_fields=["no such field"])
    except videovector.ValidationError as error:
        assert "no such field" in str(error)
    else:
        raise AssertionError("an unknown field was taken")
    try:
        client.search.image(index_id=given["index_id"], image_data="AAAA")
    except videovector.ValidationError:
        pass
    else:
        raise AssertionError("no picture was taken for one")
print("done")
"""


@pytest.mark.parametrize("version", ["1.1.0", "2.0.0"])
def test_published_clients_search(tmp_path, version):
    folder = Path(os.environ.get("PROMPTREEL_TEST_CLIENTS") or Path(sys.prefix) / "clients") / version
    if not (folder / "videovector").is_dir():
        pytest.skip(f"the client videovector {version} is not in {folder}; ./run_local.sh test installs it")
    with ApiServer(tmp_path / "data", supervise=False) as server:
        person = Searcher(server.app)
        index_id, run_id = person.film()
        (dog,) = [v for v in mine(FILMS, person) if v.startswith("vid_harbour")]
        given = {"base_url": server.base_url + PREFIX, "key": person.http.headers["X-API-Key"], "index_id": index_id}
        given |= {"run_id": run_id, "dog": segment_id(dog, 2)}
        environment = {**os.environ, "PYTHONPATH": str(folder), "GIVEN": json.dumps(given)}
        done = subprocess.run(
            [sys.executable, "-c", CALLS], env=environment, capture_output=True, text=True, timeout=60
        )
    assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr
