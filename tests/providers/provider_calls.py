"""Calls of any provider through the call policy, without waits between attempts."""

import asyncio
import random

from promptreel.providers.answers import generate_checked
from promptreel.providers.call_policy import CallPolicy, CallSubject, CallTally, Halted
from promptreel.schemas.errors import ModelError
from promptreel.schemas.settings import CallSettings
from tests.models import MemorySink


class NoJitter(random.Random):
    """Draws the minimum, so that retries do not wait."""

    def uniform(self, a, b):
        return a


def call_provider(provider, requests, *, calls=CallSettings(max_attempts=3, deadline_s=20, max_outage_s=0), one_by_one=False):
    """Call the model for each request; return (answers or failures, call records)."""
    sink = MemorySink()

    async def call_one(policy, number, request):
        subject = CallSubject("run_a", "vid_a", f"seg_{number}", f"key_{number}")
        try:
            return await generate_checked(provider, policy, request, subject, CallTally())
        except (ModelError, Halted) as failure:
            return failure

    async def scenario():
        await provider.open()
        try:
            policy = CallPolicy(provider, calls, sink, jitter=NoJitter())
            coroutines = [call_one(policy, number, request) for number, request in enumerate(requests)]
            if one_by_one:
                return [await coroutine for coroutine in coroutines]
            return list(await asyncio.gather(*coroutines))
        finally:
            await provider.close()

    return asyncio.run(scenario()), sink.ended
