"""Health, readiness and metrics, and responses while the database is unavailable."""

from sqlalchemy import event

from tests.api_server import ApiServer, assert_error, ok_json

pytest_plugins = ["tests.api_fixtures"]


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


def test_an_unavailable_database_is_503_with_retry_after(tmp_path, api_media):
    with ApiServer(tmp_path / "data", supervise=False) as server:
        caller = server.caller()
        (tmp_path / "data" / "promptreel.db").unlink()
        server.app.state.database.close()
        (tmp_path / "data" / "promptreel.db").mkdir()
        for response in (
            caller.get("/prompts"),
            caller.post("/indexes", {"name": "one"}),
            caller.upload(api_media / "c.png"),
        ):
            assert_error(response, 503, "database_unavailable")
            assert int(response.headers["Retry-After"]) >= 1
        (tmp_path / "data" / "promptreel.db").rmdir()


def test_a_read_only_database_still_serves_reads(tmp_path, caplog):
    with ApiServer(tmp_path / "data", supervise=False) as server:
        caller = server.caller("write")
        server.app.state.database.close()
        event.listen(server.app.state.database.engine, "connect", _forbid_writing)
        assert ok_json(caller.get("/prompts"))["prompts"] == []
        assert "cannot update the last use of key" in caplog.text
        assert_error(caller.post("/indexes", {"name": "one"}), 503, "database_unavailable")


def _forbid_writing(connection, record):
    connection.execute("PRAGMA query_only=ON")
