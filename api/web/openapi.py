"""OpenAPI: adds authentication to the schema that FastAPI generates."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI

_SCHEMES: Final = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "`sk_live_` and 48 hex digits."},
    "bearer": {"type": "http", "scheme": "bearer", "description": "The same key as a bearer token."},
}
_WITHOUT_KEY: Final = frozenset({"/videos/{video_id}/content"})


def describe(app: FastAPI, prefix: str) -> None:
    """Add both security schemes to every operation that needs a key."""
    generate = app.openapi

    def schema_with_security() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            schema["components"]["securitySchemes"] = _SCHEMES
            for path, operations in schema["paths"].items():
                if path.removeprefix(prefix) not in _WITHOUT_KEY:
                    for operation in operations.values():
                        operation["security"] = [{name: []} for name in _SCHEMES]
        return app.openapi_schema or schema

    app.openapi = schema_with_security  # type: ignore[method-assign]
