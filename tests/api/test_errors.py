"""Every way to fail has one shape, a fitting code, and says what to do."""

import base64
import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event

from promptreel.api.config import RateLimitSettings
from promptreel.api.web.errors import ApiError
from promptreel.api.web.rate_limit import RateLimiter
from tests.api_server import DESCRIBE, MEASURE, ApiServer, Caller, assert_error, ok_json

pytest_plugins = ["tests.api_fixtures"]

NOT_OURS = [
    ("GET", "/webhooks"),
    ("GET", "/webhooks/events"),
    ("GET", "/billing/balance"),
    ("GET", "/usage/summary"),
    ("GET", "/connectors"),
    ("POST", "/workflow/define"),
    ("GET", "/indexes/"),
    ("GET", "/prompt-runs/run_1/"),
]


@pytest.mark.parametrize(("method", "path"), NOT_OURS)
def test_what_is_not_part_of_the_api_is_not_found_and_nobody_is_sent_elsewhere(caller, method, path):
    assert_error(caller.request(method, path), 404, "endpoint_not_supported")


def test_a_method_that_a_path_does_not_take_is_answered_with_those_that_it_takes(caller):
    response = caller.request("PATCH", "/prompts/prompt_1")
    assert_error(response, 405, "method_not_allowed")
    assert response.headers["Allow"] == "DELETE, GET, PUT"
    assert caller.request("DELETE", "/rate-limit/status").headers["Allow"] == "GET"


@pytest.mark.parametrize("body", ['{"name": ', "{'name': 'x'}", "", "\x00", "[" * 100_000])
def test_a_body_that_is_no_json_is_malformed(caller, body):
    response = caller.post("/indexes", content=body.encode(), headers={"Content-Type": "application/json"})
    assert response.status_code in ((422,) if body == "" else (400,))
    assert_error(response, response.status_code, response.json()["error"]["code"])
    assert ok_json(caller.get("/indexes")) == []


def test_a_body_that_is_not_utf_8_is_malformed(caller):
    response = caller.post("/indexes", content=b'{"name": "\xff"}', headers={"Content-Type": "application/json"})
    assert_error(response, 400, "malformed_request")


def test_every_problem_of_a_body_is_named_with_its_place(caller):
    error = assert_error(caller.post("/prompts", {"name": "x", "json_schema": []}), 422, "validation_failed")
    places = {problem["path"] for problem in error["details"]["errors"]}
    assert places == {"body.name", "body.prompt_text", "body.json_schema"}
    assert all(problem["message"] for problem in error["details"]["errors"])


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array"},
        {"type": "object", "properties": {"a.b": {"type": "string"}}},
        {"type": "object", "properties": {"transcription": {"type": "string"}}},
        {"type": "object", "properties": {"a": {"type": "wish"}}},
        {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:1/schema.json"}}},
        {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}},
        {"type": "object", "allOf": [{"$ref": "http://127.0.0.1:1/schema.json"}]},
        {"type": "object", "allOf": [{"$ref": "#"}]},
        {"type": "object", "not": {"$ref": "#/nope"}},
        {"type": "object", "properties": {"a": {"anyOf": 5}}},
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}},
    ],
)
def test_a_schema_that_cannot_be_a_prompts_is_refused(caller, schema):
    error = assert_error(caller.post("/prompts", {**MEASURE, "json_schema": schema}), 422, "validation_failed")
    assert "json_schema" in error["message"]
    verdict = ok_json(caller.post("/prompts/test-schema", {"json_schema": schema, "sample_data": {}}))
    assert verdict["valid"] is False
    assert verdict["error"]


def test_a_sample_that_cannot_be_held_against_a_schema_in_time_is_refused(caller):
    body = {"json_schema": {"type": "object"}, "sample_data": {"a": "x" * 100_000}}
    verdict = ok_json(caller.post("/prompts/test-schema", body))
    assert verdict["valid"] is False
    assert "sample_data" in verdict["error"]


UNSTORABLE = [
    '"\\u0000"',
    '"half \\ud83d of a pair"',
    "NaN",
    "-Infinity",
    str(2**63),
    "1" * 400,
    "[" * 80 + "]" * 80,
    '{"\\udc00": 1}',
]


@pytest.mark.parametrize("value", UNSTORABLE)
def test_a_value_that_cannot_be_stored_everywhere_is_refused(caller, value):
    prompt = {**MEASURE, "json_schema": {"type": "object", "properties": {"a": {"default": "VALUE"}}}}
    body = json.dumps(prompt).replace('"VALUE"', value)
    response = caller.post("/prompts", content=body, headers={"Content-Type": "application/json"})
    assert_error(response, 422, "validation_failed")
    assert ok_json(caller.get("/prompts"))["total_count"] == 0


def test_text_with_a_nul_is_refused_in_a_form_too(caller, api_media):
    assert_error(caller.upload(api_media / "c.png", title="a\0b"), 422, "validation_failed")


def test_the_request_id_is_in_header_and_body_and_a_plain_one_of_the_caller_is_kept(caller):
    ours = assert_error(caller.get("/nowhere"), 404, "endpoint_not_supported")["request_id"]
    assert ours.startswith("req_")
    theirs = caller.get("/nowhere", headers={"X-Request-ID": "trace-7"})
    assert assert_error(theirs, 404, "endpoint_not_supported")["request_id"] == "trace-7"
    odd = caller.get("/nowhere", headers={"X-Request-ID": "a b\tc"})
    assert assert_error(odd, 404, "endpoint_not_supported")["request_id"].startswith("req_")


def test_a_defect_answers_in_the_same_shape_and_says_nothing_of_the_inside(tmp_path):
    with ApiServer(tmp_path / "data", supervise=False) as server:

        def broken():
            raise RuntimeError("the password is swordfish")

        server.app.add_api_route("/api/v2/broken", broken)
        response = server.stranger().get("/broken")
        error = assert_error(response, 500, "internal_error")
        assert "swordfish" not in json.dumps(error)


# ------------------------------------------------------------------------------------------------ who may do what


def test_without_a_valid_key_nothing_is_answered(service):
    assert_error(service.stranger().get("/prompts"), 401, "authentication_required")
    for key in ("sk_live_" + "0" * 48, "sk_live_" + "A" * 48, "nonsense", "", "sk_live_" + "0" * 47):
        assert_error(Caller(service.base_url, None).get("/prompts", headers={"X-API-Key": key}), 401, "invalid_api_key")


def test_a_key_has_the_form_that_clients_check(caller):
    key = ok_json(caller.post("/api-keys", {"name": "second", "scopes": ["admin"]}), 201)["key"]
    prefix, _, digits = key.rpartition("_")
    assert prefix == "sk_live"
    assert len(digits) == 48
    assert set(digits) <= set("0123456789abcdef")


def test_a_key_is_taken_as_a_bearer_token_and_the_header_of_its_own_wins(caller, service):
    stranger = service.stranger()
    assert stranger.get("/auth/validate", headers={"Authorization": f"Bearer {caller.key}"}).status_code == 204
    both = {"Authorization": f"Bearer {caller.key}", "X-API-Key": "sk_live_" + "0" * 48}
    assert_error(stranger.get("/auth/validate", headers=both), 401, "invalid_api_key")
    both = {"Authorization": "Bearer nonsense", "X-API-Key": caller.key}
    assert stranger.get("/auth/validate", headers=both).status_code == 204


def test_revoked_deleted_rotated_and_expired_keys_are_refused(caller, service):
    def made():
        answer = ok_json(caller.post("/api-keys", {"name": "second", "scopes": ["read"]}), 201)
        return answer["key_id"], Caller(service.base_url, answer["key"])

    revoked_id, revoked = made()
    deleted_id, deleted = made()
    rotated_id, rotated = made()
    ok_json(revoked.get("/prompts"))
    ok_json(caller.post(f"/api-keys/{revoked_id}/revoke"))
    ok_json(caller.delete(f"/api-keys/{deleted_id}"))
    new = ok_json(caller.post(f"/api-keys/{rotated_id}/rotate"))["new_key"]
    for gone in (revoked, deleted, rotated):
        assert_error(gone.get("/prompts"), 401, "invalid_api_key")
    assert new["scopes"] == ["read"]
    ok_json(Caller(service.base_url, new["key"]).get("/prompts"))
    assert_error(caller.post(f"/api-keys/{rotated_id}/rotate"), 409, "key_revoked")
    assert_error(caller.get(f"/api-keys/{deleted_id}"), 404, "resource_key_not_found")
    expired = service.caller("admin", account_id=caller.account_id, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert_error(expired.get("/prompts"), 401, "invalid_api_key")
    listed = {key["key_id"]: key for key in ok_json(caller.get("/api-keys"))}
    assert listed[revoked_id]["is_active"] is False
    assert "key" not in listed[revoked_id]
    assert not any(revoked.key in json.dumps(key) for key in listed.values())


SCOPE_OF = {
    "search": ["GET /indexes", "GET /indexes/{index_id}"],
    "write": [
        "POST /prompts",
        "PUT /prompts/{prompt_id}",
        "POST /prompts/test-schema",
        "POST /indexes",
        "POST /videos",
        "POST /videos/upload",
        "POST /prompt-runs/execute",
        "POST /prompt-runs/{run_id}/cancel",
        "POST /exports/index/{index_id}",
        "POST /exports/prompt-run/{run_id}",
        "POST /prompt-runs/{run_id}/retry-failures",
        "POST /prompt-runs/{run_id}/videos/{video_id}/segments/{segment_id}/retry",
    ],
    "admin": [
        "DELETE /indexes/{index_id}",
        "DELETE /videos/{video_id}",
        "DELETE /prompts/{prompt_id}",
        *(f"{method} /api-keys" for method in ("GET", "POST")),
        *(f"{method} /api-keys/{{key_id}}" for method in ("GET", "DELETE")),
        *(f"POST /api-keys/{{key_id}}/{verb}" for verb in ("revoke", "rotate")),
    ],
    "any": [
        "GET /auth/validate",
        "POST /auth/processing-activity",
        "GET /rate-limit/status",
        "POST /rate-limit/refresh",
    ],
    "public": ["GET /videos/{video_id}/content"],
}
SCOPES = ("search", "read", "write", "admin")


def needed_scope(operation):
    """The scope that the contract names for an operation; what it does not list is read."""
    if "search" in operation:
        return "search"
    return next((scope for scope, operations in SCOPE_OF.items() if operation in operations), "read")


def operations(caller):
    """(method, path) of every operation that the API describes."""
    paths = ok_json(caller.get("/openapi.json"))["paths"]
    return [(method.upper(), path.removeprefix("/api/v2")) for path, verbs in paths.items() for method in verbs]


def test_every_route_asks_for_the_scope_that_the_contract_names(service, caller):
    holders = {scope: service.caller(scope, account_id=caller.account_id) for scope in SCOPES}
    stranger = service.stranger()
    checked = operations(caller)
    assert len(checked) > 45
    for (method, template), scope in itertools.product(checked, SCOPES):
        needed = needed_scope(f"{method} {template}")
        path = template.replace("{", "").replace("}", "")
        if template.endswith("/stream") and scope != "search":
            continue  # it would stream; the events' own tests read it
        response = holders[scope].request(method, path)
        allowed = needed in ("any", "public") or SCOPES.index(scope) >= SCOPES.index(needed)
        assert (response.status_code != 403 or needed == "public") == allowed, f"{method} {template} with {scope}"
        if not allowed:
            error = assert_error(response, 403, "authorization_insufficient_scope")
            assert error["details"] == {"required_scope": needed}
        if needed != "public":
            assert_error(stranger.request(method, path), 401, "authentication_required")


def test_a_key_without_admin_makes_no_keys(service, caller):
    writer = service.caller("write", account_id=caller.account_id)
    assert_error(
        writer.post("/api-keys", {"name": "more", "scopes": ["admin"]}), 403, "authorization_insufficient_scope"
    )


# ------------------------------------------------------------------------------------------------ rate limits


def test_too_many_requests_are_told_when_to_come_back_and_others_are_not_held_up(tmp_path):
    limits = RateLimitSettings(read=5, write=2)
    with ApiServer(tmp_path / "data", rate_limits=limits, supervise=False) as server:
        greedy, other = server.caller(), server.caller()
        answers = [greedy.post("/prompts/test-schema", {"json_schema": {}, "sample_data": {}}) for _ in range(5)]
        statuses = [answer.status_code for answer in answers]
        assert statuses.count(429) >= 1  # a minute may begin in between
        late = answers[statuses.index(429)]
        assert_error(late, 429, "rate_limit_exceeded")
        assert 1 <= int(late.headers["Retry-After"]) <= 61
        ok_json(other.post("/prompts", DESCRIBE), 201)


def test_the_limiter_counts_by_account_and_category_and_begins_again_with_the_minute():
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


def test_the_hour_has_a_limit_of_its_own():
    clock = [3600.0 * 1000]
    limiter = RateLimiter(RateLimitSettings(read=1), lambda: clock[0])
    for minute in range(RateLimitSettings.HOUR_FACTOR):
        clock[0] = 3600.0 * 1000 + 60 * minute
        limiter.take("a", "read")
    clock[0] += 60
    with pytest.raises(ApiError) as error:
        limiter.take("a", "read")
    assert clock[0] + error.value.retry_after_s >= 3600 * 1001


def test_rate_limit_status_counts_what_was_asked(caller):
    before = ok_json(caller.get("/rate-limit/status"))["categories"]["read"]["hour_used"]
    for _ in range(3):
        ok_json(caller.get("/prompts"))
    after = ok_json(caller.post("/rate-limit/refresh"))
    assert after["user_id"] == caller.account_id
    assert after["categories"]["read"]["hour_used"] == before + 4
    assert set(after["categories"]) == {"search", "read", "write", "upload"}


# ------------------------------------------------------------------------------------------------ pages


def test_pages_show_every_row_once_and_no_cursor_twice(caller, api_media):
    index_id = caller.index()
    videos = [caller.video(api_media / "c.png", index_id) for _ in range(5)]
    for limit in (1, 2, 5):
        shown, cursors, cursor = [], [], None
        while True:
            page = ok_json(
                caller.get(
                    f"/indexes/{index_id}/videos", params={"limit": limit, **({"cursor": cursor} if cursor else {})}
                )
            )
            shown += [video["video_id"] for video in page["data"]]
            cursor = page["pagination"]["next_cursor"]
            assert page["pagination"]["has_more"] is (cursor is not None)
            assert page["pagination"]["limit"] == limit
            if cursor is None:
                break
            cursors.append(cursor)
        assert shown == videos[::-1]
        assert len(set(cursors)) == len(cursors)


def test_results_are_paged_in_order_of_time(world):
    path = f"/prompt-runs/{world.run_id}/results"
    first = ok_json(world.caller.get(path, params={"video_id": world.video_id, "limit": 2}))
    cursor = first["pagination"]["next_cursor"]
    last = ok_json(world.caller.get(path, params={"video_id": world.video_id, "limit": 2, "cursor": cursor}))
    assert [row["start_time"] for row in first["data"] + last["data"]] == [0, 1, 2]
    assert last["pagination"] == {"limit": 2, "has_more": False, "next_cursor": None}
    # A cursor is bound to its list.
    other = {"video_id": world.audio_id, "cursor": cursor}
    assert_error(world.caller.get(path, params=other), 422, "validation_failed")
    assert_error(world.caller.get(f"/indexes/{world.index_id}/videos?cursor={cursor}"), 422, "validation_failed")


def test_a_cursor_that_was_changed_or_made_up_is_refused(world):
    path = f"/prompt-runs/{world.run_id}/results"
    given = {"video_id": world.video_id, "limit": 1}
    cursor = ok_json(world.caller.get(path, params=given))["pagination"]["next_cursor"]
    signature, place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))

    def made(*values):
        return base64.urlsafe_b64encode(json.dumps([signature, list(values)]).encode()).decode().rstrip("=")

    assert ok_json(world.caller.get(path, params={**given, "cursor": made(*place)}))["data"]
    bad = [
        "x",
        "%%%",
        cursor[:-3],
        "A" * 3000,
        made("1", 0, "seg"),
        made(99, 0, "seg"),
        made(-1, 0, "s"),
        made(1, 2**70, "s"),
    ]
    for value in (*bad, made(1, 0), made(1, 0, None), made(True, 0, "s"), made({}, [], "s")):
        assert_error(world.caller.get(path, params={**given, "cursor": value}), 422, "validation_failed")


@pytest.mark.parametrize("text", ["\ud800", "a\0b"])
def test_a_cursor_of_text_that_cannot_be_stored_is_refused(world, text):
    path = f"/indexes/{world.index_id}/videos"
    cursor = ok_json(world.caller.get(path, params={"limit": 1}))["pagination"]["next_cursor"]
    signature, (moment, _) = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    forged = base64.urlsafe_b64encode(json.dumps([signature, [moment, text]]).encode()).decode().rstrip("=")
    assert_error(world.caller.get(path, params={"cursor": forged}), 422, "validation_failed")


@pytest.mark.parametrize("limit", ["0", "101", "-1", "many", "1.5"])
def test_a_limit_is_from_1_to_100(world, limit):
    for path in (
        f"/indexes/{world.index_id}/videos",
        f"/indexes/{world.index_id}/prompt-runs",
        f"/videos/{world.video_id}/segments",
        f"/prompt-runs/{world.run_id}/results?video_id={world.video_id}",
        "/playground/videos",
    ):
        joint = "&" if "?" in path else "?"
        assert_error(world.caller.get(f"{path}{joint}limit={limit}"), 422, "validation_failed")


def test_lists_of_runs_take_up_to_200_and_no_cursor(world):
    assert len(ok_json(world.caller.get("/prompt-runs?limit=200"))) == 3
    assert len(ok_json(world.caller.get("/prompt-runs?limit=1"))) == 1
    assert_error(world.caller.get("/prompt-runs?limit=201"), 422, "validation_failed")
    newest_first = [run["executed_at"] for run in ok_json(world.caller.get("/prompt-runs"))]
    assert newest_first == sorted(newest_first, reverse=True)


# ------------------------------------------------------------------------------------------------ the service itself


def test_health_readiness_and_metrics_need_no_key(service, world):
    stranger = service.stranger().http
    assert stranger.get(service.base_url + "/healthz").json() == {"status": "ok"}
    assert stranger.get(service.base_url + "/readyz").json() == {"status": "ready"}
    text = stranger.get(service.base_url + "/metrics").text
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(samples['promptreel_runs_ended_total{status="completed"}']) >= 1
    assert float(samples['promptreel_runs_ended_total{status="failed"}']) >= 1
    posted = [
        value
        for name, value in samples.items()
        if name.startswith("promptreel_requests_total") and 'status="202"' in name
    ]
    assert sum(map(float, posted)) >= 3


def test_it_is_not_ready_without_its_database(tmp_path):
    with ApiServer(tmp_path / "data", supervise=False) as server:
        (tmp_path / "data" / "promptreel.db").unlink()
        server.app.state.database.close()
        (tmp_path / "data" / "promptreel.db").mkdir()
        stranger = server.stranger().http
        response = stranger.get(server.base_url + "/readyz")
        assert_error(response, 503, "not_ready")
        assert response.headers["Retry-After"]
        assert stranger.get(server.base_url + "/healthz").status_code == 200
        (tmp_path / "data" / "promptreel.db").rmdir()


def test_a_database_that_is_away_is_told_with_the_time_to_come_back(tmp_path, api_media):
    with ApiServer(tmp_path / "data", supervise=False) as server:
        caller = server.caller()
        (tmp_path / "data" / "promptreel.db").unlink()
        server.app.state.database.close()
        (tmp_path / "data" / "promptreel.db").mkdir()
        for answer in (
            caller.get("/prompts"),
            caller.post("/indexes", {"name": "one"}),
            caller.upload(api_media / "c.png"),
        ):
            assert_error(answer, 503, "database_unavailable")
            assert int(answer.headers["Retry-After"]) >= 1
        (tmp_path / "data" / "promptreel.db").rmdir()


def test_who_only_reads_is_answered_by_a_database_that_cannot_be_written(tmp_path, caplog):
    with ApiServer(tmp_path / "data", supervise=False) as server:
        caller = server.caller("write")
        server.app.state.database.close()
        event.listen(server.app.state.database.engine, "connect", _forbid_writing)
        assert ok_json(caller.get("/prompts"))["prompts"] == []
        assert "cannot update the last use of key" in caplog.text
        assert_error(caller.post("/indexes", {"name": "one"}), 503, "database_unavailable")


def _forbid_writing(connection, record):
    connection.execute("PRAGMA query_only=ON")
