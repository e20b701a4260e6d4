"""Fixtures of SQL sandbox tests; a file loads them with `pytest_plugins`."""

import pytest

from promptreel.api.sql.sandbox import Sandbox
from tests.api.sql_world import LIMITS, SqlWorld


@pytest.fixture(scope="module")
def sql_world(tmp_path_factory):
    sql_world = SqlWorld(tmp_path_factory.mktemp("sql"))
    yield sql_world
    sql_world.server.shutdown()
    sql_world.server.server_close()


@pytest.fixture(scope="module")
def sandbox():
    sandbox = Sandbox(LIMITS)
    sandbox.warm()
    yield sandbox
    sandbox.close()
