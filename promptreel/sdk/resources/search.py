"""Search over results: by meaning, by image, by both, by conditions."""

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
    """Search over results: by meaning, by image, by both, by conditions, and by SQL (`search.sql`)."""

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
        """Searches by meaning and words; best first.

        Args:
            search_fields: field paths that are looked at; all where None.
            run_ids: runs whose results are searched; all where None.
            index_ids: indexes that are searched instead of `index_id`.
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
        """Searches for frames that resemble an image (JPEG, PNG or WebP: its bytes or its path); best first."""
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
        """Searches by text, image, or both; the weights add up to 1.

        Raises:
            ValueError: neither text nor image is given.
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
        """Searches several runs, or all of an index, with `top_k` hits of each.

        Args:
            aggregation: `best` keeps the best hit of each segment, `all` every one, `weighted` lets newer runs weigh more.
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
        """Pages through the results that meet all conditions; `index_id` is "playground" for media in no index.

        Args:
            conditions: one to four of `{"field": ..., "operator": ..., "type": ..., "value": ...}`; `is_empty` and
                `is_not_empty` take no value.
        """
        return self._first_page(
            calls.filter_results(index_id, conditions, page_size=page_size, run_ids=run_ids, index_ids=index_ids)
        )


class AsyncSearch(AsyncResource):
    """Search over results: by meaning, by image, by both, by conditions, and by SQL (`search.sql`)."""

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
        """Searches by meaning and words; best first.

        See `Search.text`.
        """
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
        """Searches for frames that resemble an image (JPEG, PNG or WebP: its bytes or its path); best first."""
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
        """Searches by text, image, or both; the weights add up to 1.

        See `Search.multimodal`.
        """
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
        """Searches several runs, or all of an index, with `top_k` hits of each.

        See `Search.multi_run`.
        """
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
        """Pages through the results that meet all conditions; `index_id` is "playground" for media in no index.

        See `Search.filter`.
        """
        return await self._first_page(
            calls.filter_results(index_id, conditions, page_size=page_size, run_ids=run_ids, index_ids=index_ids)
        )
