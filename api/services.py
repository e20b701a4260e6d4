"""What routes share: the service's parts, as typed dependencies; coroutines, for a plain function would take a thread."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from api.config import ApiConfig
from api.database import Database
from tables.storage import Storage


async def _database(request: Request) -> Database:
    return request.app.state.database  # type: ignore[no-any-return]


async def _config(request: Request) -> ApiConfig:
    return request.app.state.config  # type: ignore[no-any-return]


async def _storage(request: Request) -> Storage:
    return request.app.state.storage  # type: ignore[no-any-return]


Db = Annotated[Database, Depends(_database)]
Config = Annotated[ApiConfig, Depends(_config)]
DataFolder = Annotated[Storage, Depends(_storage)]
