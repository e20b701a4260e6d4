"""The call policy of a session by the tier of its calls: live calls, flex calls with a fallback, or a batch lane."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

from promptreel.providers.base import Provider
from promptreel.providers.batch_lane import BatchLane
from promptreel.providers.batch_policy import BatchPolicy
from promptreel.providers.batch_watch import BatchWatch
from promptreel.providers.call_policy import CallPolicy, CallSink
from promptreel.providers.tiers import FlexWithFallback, tier_of
from promptreel.schemas.tiers import Tier
from promptreel.tables.batch_groups import BatchGroups
from promptreel.tables.storage import Storage
from promptreel.transforms.context import RunContext


class CallLane:
    """The policy of one session, and the batch lane behind it if the calls are batch calls.

    Args:
        options: of `CallPolicy`; `health` is required.
    """

    policy: CallPolicy

    def __init__(
        self, context: RunContext, storage: Storage, provider: Provider, sink: CallSink, **options: Any
    ) -> None:
        self._context = context
        self._stopped: Callable[[], bool] = options["stopped"]
        self._resources = contextlib.ExitStack()
        self._lane: BatchLane | None = None
        tier, calls = tier_of(provider, context.request.settings), context.request.settings.calls
        live: Callable[..., CallPolicy] = functools.partial(CallPolicy, tier="standard" if tier == "batch" else tier)
        if tier == "flex" and calls.flex_fallback:
            live = FlexWithFallback
        groups = BatchGroups(storage, context.run_id, context.attempt)
        if tier == "batch" or ("batch" in provider.tiers and groups.open_groups()):
            self.policy = self._open_batch(tier, storage, groups, provider, sink, live, options)
        else:
            self.policy = live(provider, calls, sink, **options)

    async def open(self) -> None:
        """Load the batch jobs of earlier attempts. Raises StorageError."""
        if self._lane is not None:
            await self._lane.open()

    async def close(self) -> None:
        """Stop the batch lane; a stopped run also cancels the jobs of earlier attempts that no call waits for."""
        if self._lane is not None:
            is_stopped = self._context.commit_only is None and self._stopped()
            await self._lane.close(cancels_jobs=is_stopped)
        self._resources.close()

    def expect_more(self, is_expected: bool) -> None:
        """Set whether further calls arrive; see `BatchLane.expect_more`."""
        if self._lane is not None:
            self._lane.expect_more(is_expected)

    def _open_batch(
        self,
        tier: Tier,
        storage: Storage,
        groups: BatchGroups,
        provider: Provider,
        sink: CallSink,
        live: Callable[..., CallPolicy],
        options: dict[str, Any],
    ) -> CallPolicy:
        """Open the lane. A resume that changed the tier only reads the jobs of earlier attempts: their answers so far."""
        calls = self._context.request.settings.calls
        jobs = provider.batch_jobs()
        assert jobs is not None, f"{provider.name} has the tier but no jobs"
        watch = BatchWatch(
            jobs,
            groups,
            check_halted=self._check_halted,
            halt=options["health"].halt_calls,
            patience_s=calls.max_outage_s,
            deadline_s=calls.batch_deadline_s if tier == "batch" else 0.0,
        )
        folder = self._resources.enter_context(storage.work_folder())
        self._lane = BatchLane(watch, groups, folder, self._check_halted, is_past_deadline=tier != "batch")
        return BatchPolicy(provider, calls, sink, lane=self._lane, live=live, **options)

    def _check_halted(self) -> None:
        self.policy.check_halted()
