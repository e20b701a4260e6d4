"""The errors of the Gemini service: codes, attempts, waits and deadlines."""

import contextlib
import socket
import struct
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest
from google.genai import errors

from promptreel.providers.call_policy import Halted
from promptreel.providers.gemini_client import model_error_of
from promptreel.schemas.settings import CallSettings
from tests.fake_gemini import Fault
from tests.fake_gemini.faults import error_body
from tests.providers.gemini_calls import build_request, call_all, call_model, error_of

ERRORS = {
    "400": (Fault(status=400), "model_bad_request", 1),
    "400 for a bad key": (Fault(status=400, reason="API_KEY_INVALID"), "model_auth", 1),
    "401": (Fault(status=401), "model_auth", 1),
    "403": (Fault(status=403), "model_auth", 1),
    "404": (Fault(status=404), "model_not_found", 1),
    "408": (Fault(status=408), "model_timeout", 3),
    "500": (Fault(status=500), "model_unavailable", 3),
    "502 with HTML": (Fault(html=True), "model_unavailable", 3),
    "503": (Fault(status=503), "model_unavailable", 3),
    "504": (Fault(status=504), "model_timeout", 3),
    "200 with HTML": (Fault(html=True, status=200), "model_unavailable", 3),
    "incomplete response": (Fault(reset=True), "model_unavailable", 3),
    "429": (Fault(status=429, retry_delay=0.01), "rate_limited", 12),
    "429 for a day": (Fault(status=429, quota_id="GenerateRequestsPerDayPerProjectPerModel"), "quota_exhausted", 1),
    "429 for spending": (Fault(status=429, message="monthly spending cap exceeded"), "quota_exhausted", 1),
    "429 for credits": (Fault(status=429, message="Your prepayment credits are depleted."), "quota_exhausted", 1),
}


@pytest.mark.parametrize("name", ERRORS)
def test_each_error_has_its_code_and_attempts(service, name):
    fault, code, attempts = ERRORS[name]
    service.set_faults(fault)
    limits = CallSettings(max_attempts=3, max_calls_per_second=1000, deadline_s=20, max_outage_s=0)
    failure, calls = call_model(service, calls=limits)
    assert failure.code == code
    assert failure.retryable == (code != "model_bad_request")
    assert len(service.ledger.calls()) == len(calls) == attempts  # the client does not retry
    assert {call.code for call in calls} == {code}


def test_rate_limit_is_not_mistaken_for_an_exhausted_quota(service):
    message = (
        "You exceeded your current quota, please check your plan and billing details. For more information on this "
        "error, head to the documentation of rate limits. Please retry in 0.05s."
    )
    fault = Fault(
        first=1, status=429, message=message, quota_id="GenerateContentInputTokensPerModelPerMinute", retry_delay=0.05
    )
    service.set_faults(fault)
    answer, calls = call_model(service)
    assert answer.metadata == {"n": 1}
    assert [call.code for call in calls] == ["rate_limited", None]


@pytest.mark.parametrize(
    ("fault", "wait_s"),
    [
        (Fault(status=429, retry_delay=27.5), 27.5),
        (Fault(status=429, retry_after=7), 7.0),
        (Fault(status=429, retry_delay=2, retry_after=7), 2.0),
        (Fault(status=503, retry_after=3), 3.0),
        (Fault(status=503, retry_after="soon"), None),
        (Fault(status=503, retry_after="Sun, 06 Nov 1994 08:49:37 GMT"), 0.0),
        (Fault(status=503), None),
    ],
)
def test_requested_wait_is_parsed(service, fault, wait_s):
    assert error_of(service, fault).retry_after_s == wait_s


@pytest.mark.parametrize("status", [429, 503])
def test_wait_until_a_date_is_relative_to_the_response(service, status):
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    assert error_of(service, Fault(status=status, retry_after=until)).retry_after_s == pytest.approx(40, abs=5)


def test_local_clock_does_not_change_a_wait(monkeypatch):
    headers = {"Retry-After": "Sun, 06 Nov 1994 08:50:07 GMT", "Date": "Sun, 06 Nov 1994 08:49:37 GMT"}
    error = errors.APIError(503, error_body(503), httpx2.Response(503, headers=headers))
    assert model_error_of(error).retry_after_s == 30.0


def test_daily_quota_halts_all_calls(service):
    service.set_faults(Fault(after=5, status=429, quota_id="GenerateRequestsPerDayPerProjectPerModel", retry_delay=9))
    requests = [build_request(text=f"question {number}") for number in range(20)]
    outcomes, calls = call_all(service.base_url, requests, one_by_one=True)
    assert [type(outcome) for outcome in outcomes[6:]] == [Halted] * 14
    assert {outcome.code for outcome in outcomes[5:]} == {"quota_exhausted"}
    assert len(service.ledger.calls()) == len(calls) == 6


def test_unreachable_service_is_unavailable(service):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        (failure,), calls = call_all(address, [build_request()])
    assert (failure.code, failure.retryable) == ("model_unavailable", True)
    assert len(calls) == 3


def test_reset_connection_is_unavailable(service):
    accepted = []

    def reset_all(listener):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                accepted.append(connection.recv(100))
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=reset_all, args=(listener,), daemon=True)
        thread.start()
        (failure,), calls = call_all(f"http://127.0.0.1:{listener.getsockname()[1]}", [build_request()])
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    assert failure.code == "model_unavailable"
    assert len(calls) == len(accepted) == 3


def test_silent_service_times_out_at_the_deadline_of_each_call(service):
    service.set_faults(Fault(hang=True))
    failure, calls = call_model(service, calls=CallSettings(max_attempts=2, deadline_s=1, max_outage_s=0))
    assert (failure.code, failure.retryable) == ("model_timeout", True)
    assert [call.code for call in calls] == ["model_timeout"] * 2
    assert len(service.ledger.calls()) == 2


def test_late_answer_is_dropped_and_the_call_retried(service):
    service.set_faults(Fault(first=1, delay=60))
    answer, calls = call_model(service, calls=CallSettings(max_attempts=3, deadline_s=3))
    assert answer.metadata == {"n": 1}
    assert [call.code for call in calls] == ["model_timeout", None]
    assert len(service.ledger.calls()) == 2


def test_calls_stay_within_the_attempts_when_30_percent_fail(service):
    service.set_faults(Fault(probability=0.3, seed=5, status=500))
    requests = [build_request(text=f"question {number}") for number in range(150)]
    outcomes, calls = call_all(service.base_url, requests, calls=CallSettings(max_attempts=4, max_outage_s=0))
    tries = Counter(entry.content for entry in service.ledger.calls())
    assert len(tries) == 150
    assert max(tries.values()) <= 4
    assert sum(tries.values()) == len(calls)
    answered = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    assert len(answered) == len(service.ledger.answered()) > 140
    assert service.ledger.repeated() == 0
    assert sum(call.status == "success" for call in calls) == len(answered)


def test_rejected_key_halts_all_calls(service):
    service.set_faults(Fault(status=401))
    outcomes, _ = call_all(service.base_url, [build_request(text=str(number)) for number in range(5)], one_by_one=True)
    assert {outcome.code for outcome in outcomes} == {"model_auth"}
    assert len(service.ledger.calls()) == 1
