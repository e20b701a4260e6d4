"""Fixtures of filter search tests; a file loads them with `pytest_plugins`."""

import pytest

from tests.api_server import ApiServer
from tests.synthetic_runs import Catalogue


@pytest.fixture(scope="module")
def filter_service(tmp_path_factory):
    with ApiServer(tmp_path_factory.mktemp("filter"), supervise=False) as server:
        yield server


@pytest.fixture
def filter_caller(filter_service):
    return filter_service.caller()


@pytest.fixture
def filter_catalogue(filter_service, filter_caller):
    return Catalogue(filter_service, filter_caller.account_id)
