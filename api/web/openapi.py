"""The API's own description: what FastAPI derives from the routes, and how callers show who they are."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI

_SCHEMES: Final = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "sk_live_ and 48 hex digits."},
    "bearer": {"type": "http", "scheme": "bearer", "description": "The same key, for clients that send bearer tokens."},
}
_WITHOUT_KEY: Final = frozenset({"/videos/{video_id}/content"})


def describe(app: FastAPI, prefix: str) -> None:
    """Adds the two ways to send a key to the description of every operation that needs one."""
    derive = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = derive()
            schema["components"]["securitySchemes"] = _SCHEMES
            for path, operations in schema["paths"].items():
                if path.removeprefix(prefix) not in _WITHOUT_KEY:
                    for operation in operations.values():
                        operation["security"] = [{name: []} for name in _SCHEMES]
        return app.openapi_schema or schema

    app.openapi = described  # type: ignore[method-assign]
