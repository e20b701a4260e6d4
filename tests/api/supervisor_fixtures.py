"""Fixtures of supervisor tests; a file loads them with `pytest_plugins`, after `tests.api_fixtures`."""

import pytest

from promptreel.api.jobs import supervisor as supervisor_module
from tests.api.supervisor_bench import Bench
from tests.api_server import ApiServer


@pytest.fixture(params=["sqlite", "postgresql"])
def bench(request, tmp_path):
    url = request.getfixturevalue("postgres").new_database() if request.param == "postgresql" else ""
    with ApiServer(tmp_path / "data", database_url=url, supervise=False) as server:
        yield Bench(server)


@pytest.fixture
def on_postgres(postgres, tmp_path):
    with ApiServer(tmp_path / "data", database_url=postgres.new_database(), supervise=False) as server:
        yield Bench(server)


@pytest.fixture
def on_sqlite(tmp_path):
    with ApiServer(tmp_path / "data", supervise=False) as server:
        yield Bench(server)


@pytest.fixture
def no_delays(monkeypatch):
    """Retries and restarts without delay."""
    monkeypatch.setattr(supervisor_module, "_delay_s", lambda failures: 0.0)
