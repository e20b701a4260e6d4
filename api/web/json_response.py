"""JSON responses."""

from __future__ import annotations

import json
from typing import Any

import orjson
from fastapi.responses import JSONResponse


class JsonResponse(JSONResponse):
    """Renders with orjson, or with `json` what orjson rejects (integers beyond 64 bits, lone surrogates)."""

    def render(self, content: Any) -> bytes:
        try:
            return orjson.dumps(content)
        except TypeError:
            return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
