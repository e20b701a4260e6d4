"""API keys, rate limits and readiness."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from promptreel.schemas.wire.common import RequestModel, WireModel

Scope = Literal["admin", "write", "read", "search"]


class ApiKeyBody(WireModel):
    """An API key without its secret."""

    key_id: str
    key_prefix: str
    name: str
    scopes: list[str]
    created_at: str
    last_used_at: str | None = None
    revoked_at: str | None = None
    expires_at: str | None = None
    is_active: bool


class NewApiKey(ApiKeyBody):
    """An API key with its secret, which is returned only once."""

    key: str = Field(repr=False)


class CreateApiKey(RequestModel):
    """The API key to create."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "dashboard", "scopes": ["read"], "expires_in_days": 90}]}
    )

    name: str = Field(min_length=1, max_length=100)
    scopes: list[Scope] = Field(default=["read"], min_length=1)
    expires_in_days: int | None = Field(default=None, ge=1, le=365)


class RotatedApiKey(WireModel):
    """The API key that replaces the rotated one."""

    old_key_id: str
    new_key: NewApiKey


class RateCategory(WireModel):
    """Usage and limits of one request category. `reset_at` is the Unix time at which the current minute ends."""

    minute_used: int
    minute_limit: int
    minute_remaining: int
    hour_used: int
    hour_limit: int
    hour_remaining: int
    reset_at: int


class RateStatus(WireModel):
    """The caller's rate limits."""

    user_id: str
    plan_id: str
    categories: dict[str, RateCategory]


class Ready(WireModel):
    """The service is ready to accept requests."""

    ready: bool = True
