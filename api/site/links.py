"""Paths of the pages of prompts, indexes, runs, items and segments."""

from __future__ import annotations

from urllib.parse import quote, urlencode


def prompt_path(prompt_id: str) -> str:
    """Return the path of the page of a prompt."""
    return f"/prompts/{quote(prompt_id, safe='')}"


def index_path(index: str) -> str:
    """Return the path of the page of an index, or of the playground."""
    return f"/indexes/{quote(index, safe='')}"


def run_path(run_id: str) -> str:
    """Return the path of the page of a run."""
    return f"/runs/{quote(run_id, safe='')}"


def item_path(run_id: str, video_id: str, segment_id: str | None = None) -> str:
    """Return the path of the page of an item of a run, at one of its segments if it is given."""
    path = f"{run_path(run_id)}/items/{quote(video_id, safe='')}"
    if segment_id is None:
        return path
    return f"{path}?{urlencode({'segment_id': segment_id})}#s-{quote(segment_id, safe='')}"
