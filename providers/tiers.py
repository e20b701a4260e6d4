"""Service tiers: which models have which, and flex calls with a fallback to the standard tier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from promptreel.providers.base import ModelAnswer, ModelRequest, Provider
from promptreel.providers.call_policy import CallPolicy, CallSink, CallSubject, CallTally, Halted, Verdict, unchecked
from promptreel.providers.service_health import ServiceHealth
from promptreel.schemas.errors import ModelError, SettingsError
from promptreel.schemas.settings import CallSettings, RunSettings, Tier
from promptreel.schemas.table_rows import LlmCallRow

# How the service rejects flex calls that it has no capacity for.
SHED_CODES: Final = frozenset({"model_unavailable", "rate_limited", "model_timeout", "quota_exhausted"})


def check_tier(provider: Provider, settings: RunSettings) -> None:
    """Reject a tier that the run's model does not have.

    Raises:
        SettingsError: names the tiers of the model.
    """
    tier = settings.model.tier
    if tier not in provider.tiers:
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
    """Standard calls of the operations that the service has no flex capacity for, after `max_attempts` flex calls each.

    The flex calls do not wait for an outage to end, and have their own health, so that they cannot halt the run.

    Args:
        options: of `CallPolicy`.
    """

    def __init__(
        self,
        provider: Provider,
        settings: CallSettings,
        sink: CallSink,
        *,
        check_run: Callable[[], None] = lambda: None,
        **options: Any,
    ) -> None:
        super().__init__(provider, settings, sink, check_run=check_run, **options)
        impatient = replace(settings, max_outage_s=0)
        flex = {**options, "health": ServiceHealth(0), "on_call": self._count_flex, "tier": "flex"}
        self._flex = CallPolicy(provider, impatient, sink, check_run=self.check_halted, **flex)
        self._flex._in_flight = self._in_flight  # one limit for both

    async def call(
        self,
        request: ModelRequest,
        prepared: Any,
        subject: CallSubject,
        tally: CallTally,
        check: Callable[[ModelAnswer], Verdict] = unchecked,
    ) -> ModelAnswer:
        try:
            return await self._flex.call(request, prepared, subject, tally, check)
        except ModelError as error:
            if error.code not in SHED_CODES:
                raise
        except Halted:
            self.check_halted()  # otherwise only the flex calls are halted
        return await super().call(request, prepared, subject, tally, check)

    def _count_flex(self, call: LlmCallRow) -> None:
        self._spent_tokens += call.total_tokens
        self._on_call(call)
