"""Answers as JSON."""

from __future__ import annotations

import json
from typing import Any

import orjson
from fastapi.responses import JSONResponse


class JsonResponse(JSONResponse):
    """JSON by orjson; what that cannot write (whole numbers beyond 64 bits, lone surrogates) by the standard library."""

    def render(self, content: Any) -> bytes:
        try:
            return orjson.dumps(content)
        except TypeError:
            return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
