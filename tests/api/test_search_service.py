"""Search in a running service: concurrent commits, recall, index builds and the published clients."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from promptreel.api.app import PREFIX
from promptreel.api.db.events import record_event
from promptreel.api.search.block import MARKER
from promptreel.api.search.build import SEARCH
from tests.api.search_calls import FILMS, Searcher, for_account
from tests.api_server import ApiServer
from tests.pipeline_runs import wait_for
from tests.search_runs import Segment, segment_id

pytest_plugins = ["tests.api.search_fixtures"]


def test_queries_during_commits_see_one_manifest(searcher):
    """All segments of manifest n contain n, which reveals a response that mixes two manifests."""
    video_ids = list(for_account({f"vid_{number}": None for number in range(4)}, searcher))
    segments_of = lambda number: {v: [Segment(summary=f"dog of state{number}")] * 3 for v in video_ids}  # noqa: E731
    index_id = searcher.shelf.index()
    run_id = searcher.shelf.run(index_id, segments_of(1), shards=20)
    seen, stop, mixed = [], threading.Event(), []

    def poll():
        while not stop.is_set():
            hits = searcher.text(index_id, "dog", top_k=100)
            states = {hit["metadata"]["summary"] for hit in hits}
            seen.append(states)
            if len(hits) != 12 or len(states) != 1:
                mixed.append((len(hits), states))

    threads = [threading.Thread(target=poll) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2, 8):
        searcher.shelf.recommit(run_id, segments_of(number), attempt=number, shards=20)
    polls_left = 200
    while {"dog of state7"} not in seen[-4:] and polls_left:
        polls_left -= 1
        threading.Event().wait(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert not mixed
    assert {"dog of state7"} in seen


PARAPHRASES = [
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


def test_fused_recall_is_at_least_that_of_each_ranking(search_app, searcher):
    """A few hundred texts, queried by paraphrase, by exact token, and by both."""
    rng = np.random.default_rng(11)
    fillers = ["red", "large", "old", "near the wall", "at night", "in the city", "on monday", "with two people"]
    segments, queries = [], []
    for number in range(300):
        text, paraphrase = PARAPHRASES[number % len(PARAPHRASES)]
        token = f"item {rng.integers(10**6):06d}"
        segments.append(Segment(summary=f"{text} {rng.choice(fillers)} {token}"))
        if number % 4 == 0:
            queries.append((token, {number}))
        if number < len(PARAPHRASES):
            alike = set(range(number, 300, len(PARAPHRASES)))
            queries.append((paraphrase, alike))
            queries.append((f"{paraphrase} {token}", {number}))
    index_id, _ = searcher.create_run({"vid_many": segments})
    recalls = {"semantic": [], "lexical": [], "fused": []}
    for query, relevant in queries:
        hits = searcher.text(index_id, query, top_k=10)
        rankings = separate_rankings(search_app.state.search, searcher, index_id, query)  # set by the first query
        rankings["fused"] = [int(hit["segment_id"][-5:]) for hit in hits if hit["segment_id"]]
        for name, order in rankings.items():
            recalls[name].append(len(set(order[:10]) & relevant) / min(10, len(relevant)))
    recall = {name: sum(values) / len(values) for name, values in recalls.items()}
    assert recall["fused"] >= max(recall["semantic"], recall["lexical"]), recall
    assert recall["fused"] > 0.9, recall


def separate_rankings(service, searcher, index_id, query):
    """Return the two rankings before fusion, as numbers of segments."""
    from promptreel.api.search.ranking import Warnings, depth_for
    from promptreel.api.search.scope import runs_in_indexes
    from promptreel.api.search.text import rank_texts, searched_blocks
    from promptreel.api.web.auth import Principal

    with searcher.shelf.database.read() as session:
        scope = runs_in_indexes(session, Principal(searcher.shelf.account_id, "k", ("read",)), [index_id], None)
    searched = searched_blocks(service.library.indexes(scope.committed()))
    result = rank_texts(searched, query, scope, service._vectors, depth_for(10), Warnings())
    return {
        "semantic": [row for _, row in result.semantic[0].positions],
        "lexical": [row for _, row in result.lexical.positions],
    }


def test_index_of_finished_run_is_built_before_any_search(tmp_path):
    with ApiServer(tmp_path / "data", supervise=False) as server:
        owner = Searcher(server.app)
        _, run_id = owner.create_run()
        folder = tmp_path / "data" / SEARCH / run_id
        assert not folder.exists()
        with server.app.state.database.write() as session:
            record_event(session, owner.shelf.account_id, "prompt_run.completed", run_id=run_id)
        wait_for(lambda: list(folder.glob(f"*/{MARKER}")), 30)
        library = server.app.state.search.library
        wait_for(lambda: run_id in library._open, 30)
        threads = list(library._threads)
    assert len(threads) == 2
    assert not any(thread.is_alive() for thread in threads)


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
        raise AssertionError("an unknown field was accepted")
    try:
        client.search.image(index_id=given["index_id"], image_data="AAAA")
    except videovector.ValidationError:
        pass
    else:
        raise AssertionError("an invalid image was accepted")
print("done")
"""


@pytest.mark.parametrize("version", ["1.1.0", "2.0.0"])
def test_published_clients_search(tmp_path, version):
    folder = Path(os.environ.get("PROMPTREEL_TEST_CLIENTS") or Path(sys.prefix) / "clients") / version
    if not (folder / "videovector").is_dir():
        pytest.skip(f"the client videovector {version} is not in {folder}; ./run_local.sh test installs it")
    with ApiServer(tmp_path / "data", supervise=False) as server:
        owner = Searcher(server.app)
        index_id, run_id = owner.create_run()
        (dog,) = [v for v in for_account(FILMS, owner) if v.startswith("vid_harbour")]
        given = {"base_url": server.base_url + PREFIX, "key": owner.http.headers["X-API-Key"], "index_id": index_id}
        given |= {"run_id": run_id, "dog": segment_id(dog, 2)}
        environment = {**os.environ, "PYTHONPATH": str(folder), "GIVEN": json.dumps(given)}
        done = subprocess.run(
            [sys.executable, "-c", CALLS], env=environment, capture_output=True, text=True, timeout=60
        )
    assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr
