"""Rate limits: per account and category, by minute and hour."""

import pytest

from promptreel.api.config import RateLimitSettings
from promptreel.api.web.errors import ApiError
from promptreel.api.web.rate_limit import RateLimiter
from tests.api_server import DESCRIBE, ApiServer, assert_error, ok_json

pytest_plugins = ["tests.api_fixtures"]


def test_an_exceeded_limit_is_429_and_affects_no_other_account(tmp_path):
    limits = RateLimitSettings(read=5, write=2)
    with ApiServer(tmp_path / "data", rate_limits=limits, supervise=False) as server:
        greedy, other = server.caller(), server.caller()
        responses = [greedy.post("/prompts/test-schema", {"json_schema": {}, "sample_data": {}}) for _ in range(5)]
        statuses = [response.status_code for response in responses]
        assert statuses.count(429) >= 1  # the five requests may span two minutes
        limited = responses[statuses.index(429)]
        assert_error(limited, 429, "rate_limit_exceeded")
        assert 1 <= int(limited.headers["Retry-After"]) <= 61
        ok_json(other.post("/prompts", DESCRIBE), 201)


def test_the_minute_limit_is_per_account_and_category():
    clock = [1_000_000_020.0]
    limiter = RateLimiter(RateLimitSettings(read=3, write=1), lambda: clock[0])
    for _ in range(3):
        limiter.take("a", "read")
    limiter.take("a", "write")
    limiter.take("b", "read")
    with pytest.raises(ApiError) as error:
        limiter.take("a", "read")
    window_ends = 1_000_000_080 - 1_000_000_080 % 60
    assert clock[0] + error.value.retry_after_s >= window_ends
    status = limiter.status("a")["read"]
    assert (status["minute_used"], status["minute_remaining"], status["hour_used"]) == (3, 0, 3)
    assert status["reset_at"] == window_ends
    clock[0] = window_ends
    limiter.take("a", "read")
    assert limiter.status("a")["read"]["minute_used"] == 1
    assert limiter.status("a")["read"]["hour_used"] == 4


def test_the_hour_has_a_separate_limit():
    clock = [3600.0 * 1000]
    limiter = RateLimiter(RateLimitSettings(read=1), lambda: clock[0])
    for minute in range(RateLimitSettings.HOUR_FACTOR):
        clock[0] = 3600.0 * 1000 + 60 * minute
        limiter.take("a", "read")
    clock[0] += 60
    with pytest.raises(ApiError) as error:
        limiter.take("a", "read")
    assert clock[0] + error.value.retry_after_s >= 3600 * 1001


def test_rate_limit_status_counts_requests(caller):
    before = ok_json(caller.get("/rate-limit/status"))["categories"]["read"]["hour_used"]
    for _ in range(3):
        ok_json(caller.get("/prompts"))
    after = ok_json(caller.post("/rate-limit/refresh"))
    assert after["user_id"] == caller.account_id
    assert after["categories"]["read"]["hour_used"] == before + 4
    assert set(after["categories"]) == {"search", "read", "write", "upload"}
