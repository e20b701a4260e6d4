"""Typed dependencies of the routes. They are coroutines because FastAPI runs plain functions in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Annotated, Final, TypeVar

from fastapi import Depends, FastAPI, Request

from promptreel.api.config import ApiConfig
from promptreel.api.db.engine import Database
from promptreel.tables.storage import Storage

Part = TypeVar("Part")

_creating: Final = threading.Lock()


def part_of(app: FastAPI, name: str, create: Callable[[], Part]) -> Part:
    """Return a component from the application's state, created on first use. Thread-safe."""
    with _creating:
        if getattr(app.state, name, None) is None:
            setattr(app.state, name, create())
        return getattr(app.state, name)  # type: ignore[no-any-return]


async def _database(request: Request) -> Database:
    return request.app.state.database  # type: ignore[no-any-return]


async def _config(request: Request) -> ApiConfig:
    return request.app.state.config  # type: ignore[no-any-return]


async def _storage(request: Request) -> Storage:
    return request.app.state.storage  # type: ignore[no-any-return]


Db = Annotated[Database, Depends(_database)]
Config = Annotated[ApiConfig, Depends(_config)]
DataFolder = Annotated[Storage, Depends(_storage)]
