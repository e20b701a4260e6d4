"""The reference of the API, rendered from its OpenAPI description. Like the description, it needs no key."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from promptreel.api.site.api_reference import error_rows, reference_errors, reference_operations, reference_tags
from promptreel.api.web.auth import KnownCaller
from promptreel.api.web.errors import ApiError
from promptreel.api.web.page import page
from promptreel.api.web.paths import API_PREFIX

router = APIRouter()


@router.get("/docs")
def reference_page(request: Request, caller: KnownCaller) -> Response:
    """Show all operations by tag, and what they share."""
    description = request.app.openapi()
    return page(
        request,
        "docs.html",
        info=description["info"],
        tags=reference_tags(description),
        errors=reference_errors(description),
        error_rows=error_rows(description),
        base_url=(request.app.state.config.public_url or str(request.base_url).rstrip("/")) + API_PREFIX,
        openapi_url=request.app.openapi_url,
    )


@router.get("/docs/{tag}")
def tag_page(tag: str, request: Request, caller: KnownCaller) -> Response:
    """Show the operations of a tag."""
    description = request.app.openapi()
    operations = reference_operations(description, tag)
    if not operations:
        raise ApiError(404, "endpoint_not_supported", tag)
    tags = [found.name for found in reference_tags(description)]
    return page(request, "docs_tag.html", tag=tag, tags=tags, operations=operations)
