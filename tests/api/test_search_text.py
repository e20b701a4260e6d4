"""Text search over HTTP: hits, matches, fields, and embedding models."""

import json

import numpy as np
import pytest
from pydantic import TypeAdapter

from promptreel.api.app import PREFIX
from promptreel.api.search.words import MAX_QUERY_WORDS
from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL
from promptreel.providers.text_embedding import WordLlamaEmbedder, texts_of
from promptreel.schemas.field_paths import render_text
from promptreel.schemas.settings import ModelSettings, TextEmbeddingSettings
from promptreel.schemas.wire.search import SearchResultBody
from tests.api.search_calls import FILMS, TOPICS, for_account, hit_keys
from tests.api_server import assert_error, ok_json
from tests.search_runs import SCENES, Segment, settings_with

pytest_plugins = ["tests.api.search_fixtures"]


def test_queries_by_meaning_word_or_name_find_the_segment(searcher):
    index_id, _ = searcher.create_run()
    for query, expected in (
        ("a hoist on a vessel", ("vid_harbour", 0)),
        ("SKU-4471", ("vid_harbour", 0)),
        ("grace hopper", ("vid_harbour", 0)),
        ("a puppy takes a nap", ("vid_harbour", 2)),
        ("sharp knife", ("vid_kitchen", 0)),
        ("1999", ("vid_harbour", 1)),
        ("how to cook onion soup", ("vid_kitchen", None)),
    ):
        assert hit_keys(searcher.text(index_id, query))[0] == expected, query


def test_disabled_field_affects_no_hit_but_is_shown(searcher):
    with_field = {"vid_a": [Segment(summary="a crane", secret="zebra"), Segment(summary="a cook", secret="dog")]}
    without = {"vid_a": [Segment(summary="a crane"), Segment(summary="a cook")]}
    shown = {"similarity_score", "reranked_score", "matched_field_instances", "field_scores"}
    for query in ("zebra", "secret", "dog", "a crane"):
        found = []
        for films in (with_field, without):
            hits = searcher.text(searcher.create_run(films)[0], query)
            found.append(
                [(key, {name: hit[name] for name in shown}) for key, hit in zip(hit_keys(hits), hits, strict=True)]
            )
        assert found[0] == found[1], query
    hit = searcher.text(searcher.create_run(with_field)[0], "crane")[0]
    assert hit["metadata"]["secret"] == "zebra"
    assert hit["metadata_text"] == "summary: a crane\nsecret: zebra"


def test_similarity_is_highest_cosine_of_texts(searcher):
    index_id, _ = searcher.create_run()
    query = "a ship in the harbour"
    embedder = WordLlamaEmbedder()
    query_vector = embedder.embed([query])[0]
    expected = {}
    for video_id, segments in FILMS.items():
        for number, segment in enumerate(segments):
            text = render_text(segment.metadata, SCENES.leaves)
            texts = texts_of(segment.metadata, text, segment.transcript, SCENES.leaves, ("secret",))
            cosines = embedder.embed([part.text for part in texts]) @ query_vector
            expected[video_id, number] = (1 + float(cosines.max())) / 2
    hits = searcher.text(index_id, query, top_k=100)
    similarities = {
        key: hit["similarity_score"] for key, hit in zip(hit_keys(hits), hits, strict=True) if key[1] is not None
    }
    assert similarities == pytest.approx(expected, abs=1e-5)
    assert len(hits) == len(expected) + len(TOPICS)


def test_hit_follows_schema_and_identifies_its_segment(searcher):
    index_id, run_id = searcher.create_run()
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
    index_id, _ = searcher.create_run()
    for query, number in (("a dog sleeps", 2), ("crane", 0), ("lunch", 1)):
        (hit,) = [h for h in searcher.text(index_id, query) if h["result_id"].startswith("video:vid_harbour")]
        assert hit["preview_segment_id"].endswith(f"{number:05d}")


def test_hits_report_matching_values(searcher):
    index_id, _ = searcher.create_run()
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
    index_id, _ = searcher.create_run()
    everywhere = searcher.text(index_id, "harbour")
    assert hit_keys(everywhere)[0][0] == "vid_harbour"
    hits = searcher.text(index_id, "harbour", search_fields=["scene.location"])
    assert sorted(hit_keys(hits)[:2]) == [("vid_harbour", 0), ("vid_harbour", 2)]
    assert {path for hit in hits for path in hit["matched_field_paths"]} == {"scene.location"}
    assert len(hits) == 3  # only three segments have a location
    assert hits == searcher.text(index_id, "harbour", search_fields=["scene.location", " scene.location "])
    assert hit_keys(searcher.text(index_id, "onions", search_fields=["transcription"])) == [
        ("vid_kitchen", 0),
        ("vid_kitchen", 1),
    ]
    assert searcher.text(index_id, "dog", search_fields=["tags[]"]) == searcher.text(
        index_id, "dog", search_fields=["tags"]
    )
    assert hit_keys(searcher.text(index_id, "soup", search_fields=["topic"]))[0] == ("vid_kitchen", None)
    # Known fields without embeddings: a number, and a field that the prompt excludes.
    assert searcher.text(index_id, "1999", search_fields=["year"]) == []
    assert searcher.text(index_id, "zebra", search_fields=["secret"]) == []


def test_unknown_search_field_is_422_with_known_fields(searcher):
    index_id, _ = searcher.create_run()
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
    index_id, run_id = searcher.create_run()
    body = {"top_k": None, "search_fields": None, "run_ids": None, "index_ids": None, "rerank": True}
    assert searcher.text(index_id, "dog", **body) == searcher.text(index_id, "dog", top_k=30)
    assert searcher.text(index_id, "dog", run_ids=[]) == searcher.text(index_id, "dog", run_ids=[run_id])


@pytest.mark.parametrize(
    "query", ["!!!", "…", "\u0000", "' OR 1=1 --", 'AND (a* "b', "a" * 5000, "w " * 2500, "日本", "🦓"]
)
def test_unusual_queries_are_accepted(searcher, query):
    index_id, _ = searcher.create_run()
    response = searcher.post(f"/indexes/{index_id}/search", query=query)
    assert response.status_code == (422 if "\0" in query else 200)
    assert MAX_QUERY_WORDS < 2500


def test_search_without_texts_returns_nothing(searcher):
    empty = searcher.shelf.index()
    assert searcher.text(empty, "anything", search_fields=["any"]) == []
    index_id, _ = searcher.create_run({"vid_empty": [Segment()]}, embed=False)
    assert [hit for hit in searcher.text(index_id, "anything") if hit["result_type"] == "segment"] == []


def test_run_of_unavailable_model_is_found_by_words_with_warning(searcher):
    rng = np.random.default_rng(5)
    unit = lambda texts: (lambda v: v / np.linalg.norm(v, axis=1, keepdims=True))(  # noqa: E731
        rng.standard_normal((len(texts), 16)).astype(np.float32)
    )
    gone = TextEmbeddingSettings(model="gemini-embedding-001")
    nowhere = ModelSettings(model=DEFAULT_GEMINI_MODEL, base_url="http://127.0.0.1:9")
    settings = settings_with(text_embedding=gone, model=nowhere)
    index_id, run_id = searcher.create_run(settings=settings, embed=unit, model="gemini-embedding-001")
    known = searcher.shelf.run(index_id, for_account({"vid_harbour": [Segment(summary="A puppy plays")]}, searcher))
    response = searcher.post(f"/indexes/{index_id}/search", query="dog onions")
    assert "gemini-embedding-001" in response.headers["X-Search-Warning"]
    hits = ok_json(response)
    assert {hit["run_id"] for hit in hits} == {run_id, known}  # one by words, the other by embeddings
    assert all(hit["similarity_score"] is None for hit in hits if hit["run_id"] == run_id)
    assert "X-Search-Warning" not in searcher.post(f"/indexes/{index_id}/search", query="dog", run_ids=[known]).headers


def test_vectors_of_another_model_version_are_not_compared(searcher):
    index_id, _ = searcher.create_run(model="wordllama:0.0.1")
    response = searcher.post(f"/indexes/{index_id}/search", query="dog")
    assert "wordllama:0.0.1" in response.headers["X-Search-Warning"]
    assert hit_keys(ok_json(response)) == [("vid_harbour", 2)]
