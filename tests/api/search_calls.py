"""Helpers of search tests; their fixtures are in `tests/api/search_fixtures.py`."""

import base64
import io

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image

from promptreel.api.app import PREFIX
from promptreel.api.web.auth import create_account, create_key
from tests.api_server import ok_json
from tests.search_runs import Segment, Shelf

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
    """An account with runs; its methods call the API."""

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

    def create_run(self, films=FILMS, **options):
        """Create an index with a finished run; return (index id, run id)."""
        index_id = self.shelf.index()
        topics = for_account(TOPICS if films is FILMS else {}, self)
        return index_id, self.shelf.run(index_id, for_account(films, self), topics=topics, **options)


def for_account(by_video, searcher):
    """Make the video ids unique to the account of a searcher."""
    return {f"{video_id}_{searcher.shelf.account_id[-6:]}": value for video_id, value in by_video.items()}


def hit_keys(hits):
    """Return (video, number of the segment or None) of each hit."""
    return [
        (hit["video_id"].rsplit("_", 1)[0], int(hit["segment_id"][-5:]) if hit["segment_id"] else None) for hit in hits
    ]


def random_image(kind="JPEG", size=(64, 48), seed=0, **options):
    """Return an image of random blocks as base64."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8))
    out = io.BytesIO()
    small.resize(size, Image.Resampling.NEAREST).save(out, kind, **options)
    return base64.b64encode(out.getvalue()).decode()


def segments_with_frames(embedder, tmp_path, seeds):
    """Return segments whose frames are the images of these seeds in order, two per segment."""
    files = []
    for seed in seeds:
        files.append(tmp_path / f"{seed}.png")
        files[-1].write_bytes(base64.b64decode(random_image("PNG", seed=seed)))
    vectors = [(embedder.name, vector) for vector in embedder.embed_images(files)]
    return [
        Segment(summary=f"scene {number}", frames=vectors[2 * number : 2 * number + 2])
        for number in range(len(seeds) // 2)
    ]
