"""Service tiers: which models have which, and flex calls with a fallback to the standard tier."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from promptreel.providers.base import ModelAnswer, ModelRequest, Provider
from promptreel.providers.call_policy import CallPolicy, CallSink, CallSubject, CallTally, Halted, Verdict, unchecked
from promptreel.schemas.errors import ModelError, SettingsError
from promptreel.schemas.settings import CallSettings, RunSettings
from promptreel.schemas.table_rows import LlmCallRow
from promptreel.schemas.tiers import Tier

# How the service rejects flex calls that it has no capacity for.
SHED_CODES: Final = frozenset({"model_unavailable", "rate_limited", "model_timeout", "quota_exhausted"})
# How long flex calls wait while the service rejects all of them, and how long no others are made then.
FLEX_PATIENCE_S: Final = 60.0
FLEX_PAUSE_S: Final = 300.0


def check_tier(provider: Provider, settings: RunSettings) -> None:
    """Reject a tier that the run's model does not have. A built-in model makes no calls, so a tier has no effect.

    Raises:
        SettingsError: names the tiers of the model.
    """
    tier = settings.model.tier
    if provider.is_called and tier not in provider.tiers:
        service = " on Vertex AI" if settings.model.vertex_project else ""
        raise SettingsError(f"model {provider.name!r}{service} has no tier {tier!r}; use {' or '.join(provider.tiers)}")


def tier_of(provider: Provider, settings: RunSettings) -> Tier:
    """Return the tier of a provider's calls in a run: that of the run, or "standard" if the provider, e.g. an embedding
    model, does not have it."""
    return settings.model.tier if settings.model.tier in provider.tiers else "standard"


def check_tier_options(settings: RunSettings) -> None:
    """Reject options of another tier in a new run. A resume that changes the tier leaves them without effect.

    Raises:
        SettingsError: names the option and its tier.
    """
    tier, calls = settings.model.tier, settings.calls
    if calls.flex_fallback and tier != "flex":
        raise SettingsError(f"--flex-fallback needs --tier flex, but the tier is {tier}")
    if calls.batch_deadline_s is not None and tier != "batch":
        raise SettingsError(f"--batch-deadline needs --tier batch, but the tier is {tier}")


class FlexWithFallback(CallPolicy):
    """Flex calls, and standard calls of the operations that the service has no flex capacity for.

    An operation whose flex calls were rejected `max_attempts` times is called at the standard tier. If the service grants
    no flex call at all for FLEX_PATIENCE_S, all operations are, for FLEX_PAUSE_S. The flex calls have their own health, so
    that they cannot halt the run.

    Args:
        options: of `CallPolicy`.
    """

    def __init__(self, provider: Provider, settings: CallSettings, sink: CallSink, **options: Any) -> None:
        super().__init__(provider, settings, sink, **options)
        self._options = options
        self._flex: CallPolicy | None = None
        self._shed_until = float("-inf")

    async def call(
        self,
        request: ModelRequest,
        prepared: Any,
        subject: CallSubject,
        tally: CallTally,
        check: Callable[[ModelAnswer], Verdict] = unchecked,
    ) -> ModelAnswer:
        flex = self._flex_policy()
        if flex is not None:
            try:
                return await flex.call(request, prepared, subject, tally, check)
            except ModelError as error:
                if error.code not in SHED_CODES:
                    raise
            except Halted:
                self.check_halted()  # otherwise only the flex calls are halted
                if self._flex is flex:
                    self._flex, self._shed_until = None, time.monotonic() + FLEX_PAUSE_S
        return await super().call(request, prepared, subject, tally, check)

    def _flex_policy(self) -> CallPolicy | None:
        """Return the policy of flex calls; None while the service has no capacity for them."""
        if self._flex is None and time.monotonic() >= self._shed_until:
            settings = replace(self._settings, max_outage_s=FLEX_PATIENCE_S)
            own = {"check_run": self.check_halted, "on_call": self._count_flex, "health": None, "tier": "flex"}
            self._flex = CallPolicy(self._provider, settings, self._sink, **{**self._options, **own})
            self._flex._in_flight = self._in_flight  # one limit for both
        return self._flex

    def _count_flex(self, call: LlmCallRow) -> None:
        self._spent_tokens += call.total_tokens
        self._on_call(call)
