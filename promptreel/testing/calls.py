"""Calls of a provider through the call policy, as a run makes them, without waits between attempts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from promptreel.providers.answers import CheckedAnswer, generate_checked
from promptreel.providers.base import ModelRequest, Provider
from promptreel.providers.call_policy import CallPolicy, CallSubject, CallTally, Halted
from promptreel.schemas.errors import ModelError
from promptreel.schemas.settings import CallSettings
from promptreel.schemas.table_rows import LlmCallRow

CALLS = CallSettings(max_attempts=3, max_calls_per_second=1000, deadline_s=20, max_outage_s=0)


class NoJitter(random.Random):
    """Draws the minimum, so that retries do not wait."""

    def uniform(self, a: float, b: float) -> float:
        return a


class CallRecords:
    """Stores the records of ended calls in memory."""

    def __init__(self) -> None:
        self.ended: list[LlmCallRow] = []

    def begin(self, call: LlmCallRow) -> None:
        pass

    def end(self, call: LlmCallRow) -> None:
        self.ended.append(call)

    async def answers(self, video_id: str, segment_id: str | None, operation_key: str) -> list[LlmCallRow]:
        return []


def call_provider(
    provider: Provider, requests: Sequence[ModelRequest], *, calls: CallSettings = CALLS, one_by_one: bool = False
) -> tuple[list[CheckedAnswer | ModelError | Halted], list[LlmCallRow]]:
    """Open the provider, call it for each request and close it; return (answers or failures, call records)."""
    records = CallRecords()

    async def call_one(policy: CallPolicy, number: int, request: ModelRequest) -> CheckedAnswer | ModelError | Halted:
        subject = CallSubject("run_a", "vid_a", f"seg_{number}", f"key_{number}")
        try:
            return await generate_checked(provider, policy, request, subject, CallTally())
        except (ModelError, Halted) as failure:
            return failure

    async def call_all() -> list[CheckedAnswer | ModelError | Halted]:
        await provider.open()
        try:
            policy = CallPolicy(provider, calls, records, jitter=NoJitter())
            coroutines = [call_one(policy, number, request) for number, request in enumerate(requests)]
            if one_by_one:
                return [await coroutine for coroutine in coroutines]
            return list(await asyncio.gather(*coroutines))
        finally:
            await provider.close()

    return asyncio.run(call_all()), records.ended
