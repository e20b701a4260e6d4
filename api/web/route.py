"""Routes that reject JSON with repeated keys and misspelt query parameters, and name what they ignore in a header."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Coroutine, Iterable, Sequence
from typing import Any, Final, get_args

from fastapi import Request, Response, params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute

from promptreel.api.web.auth import identify
from promptreel.api.web.errors import invalid, name_ids
from promptreel.api.web.strict_json import parse_json
from promptreel.schemas.spelling import describe_unknown, nearest
from promptreel.schemas.wire.common import RequestModel, ignored_fields

WARNING_HEADER: Final = "X-Request-Warning"
_MISSPELT: Final = 0.8  # similarity at which an unknown query parameter is a misspelt one
_MAX_HEADER_CHARS: Final = 2000
_MAX_NAMED: Final = 20


class StrictRequest(Request):
    """A request whose JSON body may not have a key twice."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = parse_json(await self.body())
        return self._json


class ApiRoute(APIRoute):
    """A route of the API.

    A query parameter that is spelt almost like a known one is rejected: without the filter that was meant, a list is
    longer, and a search wider, than its caller wants. Other unknown query parameters, form fields and top-level fields
    of a body are ignored, as other API versions may define them, and named in the `X-Request-Warning` header.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        flat = get_flat_params(self.dependant)
        query_names = [field.alias for field in flat if isinstance(field.field_info, params.Query)]
        body_fields = self.dependant.body_params
        form_names = [field.alias for field in body_fields if isinstance(field.field_info, params.Form | params.File)]
        model = None if form_names or not body_fields else _request_model(body_fields[0].field_info.annotation)

        async def handle_strictly(received: Request) -> Response:
            request = StrictRequest(received.scope, received.receive)
            warnings = []
            if request.query_params:
                await _reject_misspelt(request, query_names)
                warnings += _unknown(request.query_params, query_names)
            response = await handle(request)
            if form_names:
                warnings += _unknown(await request.form(), form_names)
            elif model is not None and isinstance(decoded := getattr(request, "_json", None), dict):
                warnings += ignored_fields(model, decoded)
            if warnings:
                earlier = response.headers.get(WARNING_HEADER)
                response.headers[WARNING_HEADER] = _header("; ".join([*([earlier] if earlier else []), *warnings]))
            return response

        return handle_strictly


def _request_model(annotation: Any) -> type[RequestModel] | None:
    """Return the model of a body, also of an optional one; None if it is of another kind."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, RequestModel):
            return kind
    return None


async def _reject_misspelt(request: Request, known: list[str]) -> None:
    """Reject a query parameter that is spelt almost like a known one.

    Raises:
        ApiError: 422 naming both; 401 without a valid key, as for any other request.
    """
    for name in request.query_params:
        meant = None if name in known else nearest(name, known, _MISSPELT)
        if meant is not None:
            await identify(request)
            raise invalid(f"query.{name}: unknown query parameter; did you mean {meant!r}?", f"query.{name}")


def _unknown(names: Iterable[str], known: list[str]) -> list[str]:
    unknown = [name for name in dict.fromkeys(names) if name not in known]
    return [f"ignored: {describe_unknown(name, known)}" for name in unknown[:_MAX_NAMED]]


def omitted_header(requested: Sequence[str], found: Container[str]) -> dict[str, str]:
    """Return the header that names the ids of a batch that were not found; nothing if all were."""
    unknown = [identifier for identifier in dict.fromkeys(requested) if identifier not in found]
    return {WARNING_HEADER: _header(f"not found: {name_ids(unknown)}")} if unknown else {}


def _header(text: str) -> str:
    """Return text as ASCII on one line, for a header."""
    return json.dumps(text)[1:-1].replace('\\"', '"')[:_MAX_HEADER_CHARS]
