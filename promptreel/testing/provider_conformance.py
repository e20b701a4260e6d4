"""The tests that every provider passes. Subclass one of the two classes in a test module, see docs/providers.md.

class TestEcho(ServiceConformance):
    model = "echo:tiny"

    def completion_body(self, completion):
        return {"text": completion.text, ...}
"""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from promptreel.providers.answers import CheckedAnswer
from promptreel.providers.base import ModelAnswer, ModelRequest, Provider
from promptreel.providers.registry import provider_of
from promptreel.schemas.errors import ModelError, SettingsError
from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.ids import canonical_json
from promptreel.schemas.media import MediaType
from promptreel.schemas.settings import CallSettings, ModelSettings, RunSettings
from promptreel.testing.calls import call_provider
from promptreel.testing.fault_cases import CASES, Completion, Reply
from promptreel.testing.fault_server import FaultServer
from promptreel.testing.sample_media import sample_segment
from promptreel.testing.wrong_shapes import wrong_shapes

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
TOKENS = ("input_tokens", "output_tokens", "thought_tokens", "cached_tokens", "total_tokens")


class ProviderConformance:
    """What promptreel expects of every provider.

    Attributes:
        model: a model's name, for which the provider is registered.
        model_settings: further fields of `ModelSettings`.
        schema: JSON Schema that the provider can fill.
        media_types: those that the provider takes; remove what it does not.
        environment: variables that the provider needs; their values are secrets.
    """

    model: ClassVar[str]
    model_settings: ClassVar[Mapping[str, Any]] = {}
    schema: ClassVar[Mapping[str, Any]] = SCHEMA
    media_types: ClassVar[tuple[MediaType, ...]] = ("video", "audio", "image")
    environment: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture(autouse=True)
    def set_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)

    @pytest.fixture
    def settings(self) -> RunSettings:
        return RunSettings(model=ModelSettings(model=self.model, **self.model_settings))

    @pytest.fixture
    def provider(self, settings: RunSettings) -> Provider:
        return provider_of(settings)

    def request_with(self, media: Any = None, number: int = 1) -> ModelRequest:
        """Return a request whose valid answer is `{"n": number}`."""
        return ModelRequest("metadata_extraction", "Report the number.", f"The number is {number}.", self.schema, media)

    def test_registry_builds_the_provider_of_the_name(self, provider: Provider) -> None:
        assert isinstance(provider, Provider)
        assert provider.name == self.model

    def test_access_is_sufficient_for_a_run(self, provider: Provider) -> None:
        provider.check_access()

    def test_provider_can_be_pickled_before_it_is_opened(self, provider: Provider) -> None:
        copy = pickle.loads(pickle.dumps(provider))
        assert (copy.name, copy.fingerprint()) == (provider.name, provider.fingerprint())

    def test_fingerprint_is_stable_json_without_secrets(self, provider: Provider, settings: RunSettings) -> None:
        for fingerprint in (provider.fingerprint(), provider.earlier_fingerprint()):
            assert json.loads(canonical_json(fingerprint)) == fingerprint
            assert not any(secret in canonical_json(fingerprint) for secret in self.environment.values())
        assert provider_of(settings).fingerprint() == provider.fingerprint()

    def test_budget_grows_with_the_factor_of_a_request(self, provider: Provider) -> None:
        budget = provider.output_budget(self.request_with())
        assert budget is None or budget > 0

    def test_close_is_allowed_without_open_and_repeatedly(self, provider: Provider) -> None:
        async def scenario() -> None:
            await provider.close()
            await provider.open()
            await provider.close()
            await provider.close()
            await provider.open()
            await provider.close()

        asyncio.run(scenario())

    @pytest.mark.parametrize("media_type", ["video", "audio", "image"])
    def test_answer_about_media_fits_the_schema(
        self, provider: Provider, tmp_path: Path, media_type: MediaType
    ) -> None:
        if media_type not in self.media_types:
            pytest.skip(f"the provider takes no {media_type}")
        request = self.request_with(sample_segment(tmp_path, media_type))
        (outcome,), _ = call_provider(provider, [request])
        assert isinstance(outcome, CheckedAnswer), outcome


class ServiceConformance(ProviderConformance):
    """What promptreel expects of a provider that calls a service over HTTP at the base URL of its settings.

    Attributes:
        path: appended to the address of the fault server to get the base URL.
        needs_environment: False if calls are possible without the variables of `environment`.
    """

    path: ClassVar[str] = ""
    needs_environment: ClassVar[bool] = True

    def completion_body(self, completion: Completion) -> Mapping[str, Any] | None:
        """Return the JSON body of a response with status 200; None if the service has no such ending."""
        raise NotImplementedError

    def error_body(self, status: int) -> Mapping[str, Any]:
        """Return the JSON body of a response with another status."""
        return {"error": {"code": status, "message": "scripted"}}

    @pytest.fixture(scope="class")
    @classmethod
    def service(cls) -> Iterator[FaultServer]:
        formats = cls()
        with FaultServer(formats.completion_body, formats.error_body) as server:
            yield server

    @pytest.fixture(autouse=True)
    def without_faults(self, service: FaultServer) -> None:
        service.script(Reply())

    @pytest.fixture
    def settings(self, service: FaultServer) -> RunSettings:
        return self.settings_with(service)

    def settings_with(self, service: FaultServer, **changes: Any) -> RunSettings:
        """Return the settings of a run against the service."""
        fields = {"model": self.model, "base_url": service.url + self.path, **self.model_settings, **changes}
        return RunSettings(model=ModelSettings(**fields))

    def test_missing_key_is_rejected_before_a_run(self, service: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
        if not self.needs_environment:
            pytest.skip("the provider needs no key")
        for name in self.environment:
            monkeypatch.delenv(name)
        assert self.environment, "set `environment`, or `needs_environment = False` if the provider needs no key"
        with pytest.raises(SettingsError, match=next(iter(self.environment))):
            provider_of(self.settings_with(service)).check_access()

    def test_fingerprint_depends_on_temperature(self, service: FaultServer) -> None:
        texts = {
            canonical_json(provider_of(self.settings_with(service, temperature=value)).fingerprint())
            for value in (0.0, 0.7)
        }
        assert len(texts) == 2

    @pytest.mark.parametrize("name", CASES)
    def test_fault_has_the_same_meaning_for_all_providers(
        self, provider: Provider, service: FaultServer, name: str
    ) -> None:
        case = CASES[name]
        if any(self.completion_body(reply.completion) is None for reply in case.replies):
            pytest.skip("the service has no such answer")
        service.script(*case.replies)
        hangs = any(reply.kind == "hang" for reply in case.replies)
        deadline_s = 0.3 if hangs else 20
        calls = CallSettings(max_attempts=3, max_calls_per_second=1000, deadline_s=deadline_s, max_outage_s=0)
        (outcome,), records = call_provider(provider, [self.request_with()], calls=calls)
        if case.code is None:
            assert isinstance(outcome, CheckedAnswer), outcome
            assert outcome.metadata == {"n": 1}
        else:
            assert isinstance(outcome, Exception)
            assert getattr(outcome, "code", None) == case.code, outcome
            assert not any(secret in str(outcome) for secret in self.environment.values())
        assert len(service.requests) == len(records) == case.sent
        counts = [getattr(record, token) for record in records for token in TOKENS]
        assert all(isinstance(count, int) and count >= 0 for count in counts), counts
        assert all(record.total_tokens >= record.input_tokens + record.output_tokens for record in records)
        assert sum(record.total_tokens > 0 for record in records) == case.paid
        assert all(record.model == self.model for record in records)

    @pytest.mark.parametrize("status", [200, 400, 429, 503])
    def test_response_of_the_wrong_shape_is_no_defect(
        self, provider: Provider, service: FaultServer, status: int
    ) -> None:
        """A response that violates the format is a failure, or an answer as far as it can be read."""
        body = self.error_body(status) if status != 200 else self.completion_body(Completion('{"n": 1}'))

        request = self.request_with()

        async def call_with(shape: Any, prepared: Any) -> None:
            service.script(Reply(status, "raw", body=shape))
            try:
                answer = await provider.call(request, prepared)
            except ModelError as error:
                if error.code not in FAILURE_CODES:
                    raise
                return
            texts = (answer.text, answer.finish_reason or "", answer.model_version or "")
            if status != 200 or not all(isinstance(text, str) for text in texts):
                raise TypeError(f"read as {answer}")

        async def scenario() -> list[str]:
            defects = []
            await provider.open()
            prepared = await provider.prepare(request)
            for change, shape in wrong_shapes(body):
                try:
                    await call_with(shape, prepared)
                except Exception as error:
                    defects.append(f"{change}: {type(error).__name__}: {str(error)[:100]}")
            await provider.close()
            return defects

        defects = asyncio.run(scenario())
        assert not defects, "\n".join(defects)

    def test_tokens_are_recorded_as_reported(self, provider: Provider) -> None:
        _, (record,) = call_provider(provider, [self.request_with()])
        assert (record.input_tokens, record.output_tokens, record.total_tokens) == (10, 4, 14)

    def test_concurrent_requests_get_their_own_answers(self, provider: Provider) -> None:
        requests = [self.request_with(number=number) for number in range(20)]
        outcomes, _ = call_provider(provider, requests)
        assert [getattr(outcome, "metadata", outcome) for outcome in outcomes] == [{"n": n} for n in range(20)]

    def test_prepared_media_serves_every_attempt(
        self, provider: Provider, service: FaultServer, tmp_path: Path
    ) -> None:
        service.script(Reply(503), Reply(503), Reply())
        request = self.request_with(sample_segment(tmp_path, self.media_types[0]))
        (outcome,), _ = call_provider(provider, [request])
        assert isinstance(outcome, CheckedAnswer), outcome
        assert len(set(service.requests)) == 1
        assert len(service.requests) == 3

    def test_call_makes_one_request_and_raises_the_error(self, provider: Provider, service: FaultServer) -> None:
        service.script(Reply(429))

        async def scenario() -> ModelAnswer:
            await provider.open()
            try:
                return await provider.call(self.request_with(), await provider.prepare(self.request_with()))
            finally:
                await provider.close()

        with pytest.raises(ModelError) as caught:
            asyncio.run(scenario())
        assert (caught.value.code, caught.value.retryable) == ("rate_limited", True)
        assert caught.value.retry_after_s is not None, "the Retry-After header was ignored"
        assert len(service.requests) == 1, "the client retries by itself; disable its retries"

    def test_provider_is_usable_after_a_cancelled_call(self, provider: Provider, service: FaultServer) -> None:
        service.script(Reply(kind="hang"), Reply())

        async def scenario() -> ModelAnswer:
            await provider.open()
            try:
                request = self.request_with()
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(provider.call(request, await provider.prepare(request)), 0.3)
                return await provider.call(request, await provider.prepare(request))
            finally:
                await provider.close()

        assert json.loads(asyncio.run(scenario()).text) == {"n": 1}
