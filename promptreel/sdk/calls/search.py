"""Search over results: by text, image, both, or conditions."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from promptreel.schemas.wire.filter import FilterHit
from promptreel.schemas.wire.search import ImageResultBody, MultimodalResultBody, SearchResultBody
from promptreel.sdk.request import Call, Listing, Request, omit_none, path_of

Image = bytes | str | os.PathLike[str]


def text(
    index_id: str,
    query: str,
    *,
    top_k: int | None = None,
    search_fields: Sequence[str] | None = None,
    run_ids: Sequence[str] | None = None,
    index_ids: Sequence[str] | None = None,
) -> Call[list[SearchResultBody]]:
    """Search by meaning and keywords, best match first."""
    body = omit_none(query=query, top_k=top_k, **_scope(search_fields, run_ids, index_ids))
    return Call(Request("POST", path_of("indexes", index_id, "search"), json=body), list[SearchResultBody])


def image(
    index_id: str,
    image: Image,
    *,
    top_k: int | None = None,
    run_ids: Sequence[str] | None = None,
    index_ids: Sequence[str] | None = None,
) -> Call[list[ImageResultBody]]:
    """Search for frames similar to an image (JPEG, PNG or WebP, as bytes or a path), best match first."""
    body = omit_none(image_data=_base64(image), top_k=top_k, **_scope(None, run_ids, index_ids))
    return Call(Request("POST", path_of("indexes", index_id, "image-search"), json=body), list[ImageResultBody])


def multimodal(
    index_id: str,
    *,
    text_query: str | None = None,
    image: Image | None = None,
    text_weight: float | None = None,
    image_weight: float | None = None,
    top_k: int | None = None,
    search_fields: Sequence[str] | None = None,
    run_ids: Sequence[str] | None = None,
    index_ids: Sequence[str] | None = None,
) -> Call[list[MultimodalResultBody]]:
    """Search by text, image, or both. The weights must add up to 1.

    Raises:
        ValueError: `text_query` and `image` are both None.
    """
    if text_query is None and image is None:
        raise ValueError("text_query and image are both None; pass at least one")
    body = omit_none(
        text_query=text_query,
        image_data=None if image is None else _base64(image),
        text_weight=text_weight,
        image_weight=image_weight,
        top_k=top_k,
        **_scope(search_fields, run_ids, index_ids),
    )
    return Call(
        Request("POST", path_of("indexes", index_id, "multimodal-search"), json=body), list[MultimodalResultBody]
    )


def multi_run(
    query: str,
    *,
    run_ids: Sequence[str] | None = None,
    index_id: str | None = None,
    aggregation: Literal["best", "all", "weighted"] | None = None,
    top_k: int | None = None,
) -> Call[list[SearchResultBody]]:
    """Search several runs, or all runs of an index, with `top_k` hits per run."""
    body = omit_none(
        query=query,
        run_ids=None if run_ids is None else list(run_ids),
        index_id=index_id,
        aggregation=aggregation,
        top_k=top_k,
    )
    return Call(Request("POST", "/search/multi-run", json=body), list[SearchResultBody])


def filter_results(
    index_id: str,
    conditions: Sequence[Mapping[str, Any]],
    *,
    page_size: int | None = None,
    run_ids: Sequence[str] | None = None,
    index_ids: Sequence[str] | None = None,
) -> Listing[FilterHit]:
    """Page through results that match all conditions. Pass "playground" as `index_id` for media outside any index."""
    body = omit_none(
        conditions=[dict(condition) for condition in conditions],
        page_size=page_size,
        **_scope(None, run_ids, index_ids),
    )
    return Listing(Request("POST", path_of("search", "filter", index_id), json=body), FilterHit)


def _scope(
    search_fields: Sequence[str] | None, run_ids: Sequence[str] | None, index_ids: Sequence[str] | None
) -> dict[str, list[str]]:
    lists = omit_none(search_fields=search_fields, run_ids=run_ids, index_ids=index_ids)
    return {name: list(values) for name, values in lists.items()}


def _base64(image: Image) -> str:
    content = image if isinstance(image, bytes) else Path(image).read_bytes()
    return base64.b64encode(content).decode()
