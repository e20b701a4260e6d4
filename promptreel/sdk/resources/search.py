"""Search over results: by text, image, both, or conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from promptreel.schemas.wire.filter import FilterHit
from promptreel.schemas.wire.search import ImageResultBody, MultimodalResultBody, SearchResultBody
from promptreel.sdk.calls import search as calls
from promptreel.sdk.calls.search import Image
from promptreel.sdk.pages import AsyncPage, Page
from promptreel.sdk.resources.base import AsyncResource, Resource
from promptreel.sdk.resources.sql import AsyncSql, Sql
from promptreel.sdk.sender import AsyncSender, Sender


class Search(Resource):
    """Search over results: by text, image, both, conditions, or SQL (`search.sql`)."""

    def __init__(self, sender: Sender) -> None:
        super().__init__(sender)
        self.sql = Sql(sender)

    def text(
        self,
        index_id: str,
        query: str,
        *,
        top_k: int | None = None,
        search_fields: Sequence[str] | None = None,
        run_ids: Sequence[str] | None = None,
        index_ids: Sequence[str] | None = None,
    ) -> list[SearchResultBody]:
        """Search by meaning and keywords, best match first.

        Args:
            search_fields: field paths to search; all if None.
            run_ids: runs to search; all if None.
            index_ids: indexes to search instead of `index_id`.
        """
        return self._send(
            calls.text(index_id, query, top_k=top_k, search_fields=search_fields, run_ids=run_ids, index_ids=index_ids)
        )

    def image(
        self,
        index_id: str,
        image: Image,
        *,
        top_k: int | None = None,
        run_ids: Sequence[str] | None = None,
        index_ids: Sequence[str] | None = None,
    ) -> list[ImageResultBody]:
        """Search for frames similar to an image (JPEG, PNG or WebP, as bytes or a path), best match first."""
        return self._send(calls.image(index_id, image, top_k=top_k, run_ids=run_ids, index_ids=index_ids))

    def multimodal(
        self,
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
    ) -> list[MultimodalResultBody]:
        """Search by text, image, or both. The weights must add up to 1.

        Raises:
            ValueError: `text_query` and `image` are both None.
        """
        return self._send(
            calls.multimodal(
                index_id,
                text_query=text_query,
                image=image,
                text_weight=text_weight,
                image_weight=image_weight,
                top_k=top_k,
                search_fields=search_fields,
                run_ids=run_ids,
                index_ids=index_ids,
            )
        )

    def multi_run(
        self,
        query: str,
        *,
        run_ids: Sequence[str] | None = None,
        index_id: str | None = None,
        aggregation: Literal["best", "all", "weighted"] | None = None,
        top_k: int | None = None,
    ) -> list[SearchResultBody]:
        """Search several runs, or all runs of an index, with `top_k` hits per run.

        Args:
            aggregation: `best` returns the best hit of each segment, `all` every hit; `weighted` favours newer runs.
        """
        return self._send(
            calls.multi_run(query, run_ids=run_ids, index_id=index_id, aggregation=aggregation, top_k=top_k)
        )

    def filter(
        self,
        index_id: str,
        conditions: Sequence[Mapping[str, Any]],
        *,
        page_size: int | None = None,
        run_ids: Sequence[str] | None = None,
        index_ids: Sequence[str] | None = None,
    ) -> Page[FilterHit]:
        """Page through results that match all conditions. Pass "playground" as `index_id` for media outside any index.

        Args:
            conditions: one to four of `{"field": ..., "operator": ..., "type": ..., "value": ...}`. The operators
                `is_empty` and `is_not_empty` take no value.
        """
        return self._first_page(
            calls.filter_results(index_id, conditions, page_size=page_size, run_ids=run_ids, index_ids=index_ids)
        )


class AsyncSearch(AsyncResource):
    """Search over results: by text, image, both, conditions, or SQL (`search.sql`)."""

    def __init__(self, sender: AsyncSender) -> None:
        super().__init__(sender)
        self.sql = AsyncSql(sender)

    async def text(
        self,
        index_id: str,
        query: str,
        *,
        top_k: int | None = None,
        search_fields: Sequence[str] | None = None,
        run_ids: Sequence[str] | None = None,
        index_ids: Sequence[str] | None = None,
    ) -> list[SearchResultBody]:
        """Search by meaning and keywords; see `Search.text`."""
        return await self._send(
            calls.text(index_id, query, top_k=top_k, search_fields=search_fields, run_ids=run_ids, index_ids=index_ids)
        )

    async def image(
        self,
        index_id: str,
        image: Image,
        *,
        top_k: int | None = None,
        run_ids: Sequence[str] | None = None,
        index_ids: Sequence[str] | None = None,
    ) -> list[ImageResultBody]:
        """Search for frames similar to an image (JPEG, PNG or WebP, as bytes or a path), best match first."""
        return await self._send(calls.image(index_id, image, top_k=top_k, run_ids=run_ids, index_ids=index_ids))

    async def multimodal(
        self,
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
    ) -> list[MultimodalResultBody]:
        """Search by text, image, or both; see `Search.multimodal`."""
        return await self._send(
            calls.multimodal(
                index_id,
                text_query=text_query,
                image=image,
                text_weight=text_weight,
                image_weight=image_weight,
                top_k=top_k,
                search_fields=search_fields,
                run_ids=run_ids,
                index_ids=index_ids,
            )
        )

    async def multi_run(
        self,
        query: str,
        *,
        run_ids: Sequence[str] | None = None,
        index_id: str | None = None,
        aggregation: Literal["best", "all", "weighted"] | None = None,
        top_k: int | None = None,
    ) -> list[SearchResultBody]:
        """Search several runs; see `Search.multi_run`."""
        return await self._send(
            calls.multi_run(query, run_ids=run_ids, index_id=index_id, aggregation=aggregation, top_k=top_k)
        )

    async def filter(
        self,
        index_id: str,
        conditions: Sequence[Mapping[str, Any]],
        *,
        page_size: int | None = None,
        run_ids: Sequence[str] | None = None,
        index_ids: Sequence[str] | None = None,
    ) -> AsyncPage[FilterHit]:
        """Page through the results that match all conditions; see `Search.filter`."""
        return await self._first_page(
            calls.filter_results(index_id, conditions, page_size=page_size, run_ids=run_ids, index_ids=index_ids)
        )
