"""The resources of both clients, one module per group of API routes."""

from promptreel.sdk.resources.api_keys import ApiKeys, AsyncApiKeys
from promptreel.sdk.resources.async_prompt_runs import AsyncPromptRuns
from promptreel.sdk.resources.base import AsyncResource, Resource
from promptreel.sdk.resources.events import AsyncEvents, Events
from promptreel.sdk.resources.indexes import AsyncIndexes, Indexes
from promptreel.sdk.resources.playground import AsyncPlayground, Playground
from promptreel.sdk.resources.prompt_runs import PromptRuns
from promptreel.sdk.resources.prompts import AsyncPrompts, Prompts
from promptreel.sdk.resources.search import AsyncSearch, Search
from promptreel.sdk.resources.service import AsyncAuth, AsyncRateLimits, Auth, RateLimits
from promptreel.sdk.resources.sql import AsyncSql, Sql
from promptreel.sdk.resources.videos import AsyncVideos, Videos

__all__ = [
    "ApiKeys",
    "AsyncApiKeys",
    "AsyncAuth",
    "AsyncEvents",
    "AsyncIndexes",
    "AsyncPlayground",
    "AsyncPromptRuns",
    "AsyncPrompts",
    "AsyncRateLimits",
    "AsyncResource",
    "AsyncSearch",
    "AsyncSql",
    "AsyncVideos",
    "Auth",
    "Events",
    "Indexes",
    "Playground",
    "PromptRuns",
    "Prompts",
    "RateLimits",
    "Resource",
    "Search",
    "Sql",
    "Videos",
]
