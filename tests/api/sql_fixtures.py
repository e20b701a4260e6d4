"""Fixtures of SQL API tests; a file loads them with `pytest_plugins`."""

import json

import pytest
from fastapi.testclient import TestClient

from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL
from tests.api.sql_service import DRAFTS, ELSEWHERE, SqlService
from tests.fake_gemini import FakeGemini
from tests.sql_runs import FIRST_RUN, OTHER_RUN, SECOND, SECOND_RUN, SECRET, commit_run, second_fields


@pytest.fixture(scope="module")
def sql_gemini():
    with FakeGemini(answer=lambda body, schema: json.dumps({"query": DRAFTS["next"].pop(0)})) as server:
        yield server


@pytest.fixture(scope="module")
def sql_service(tmp_path_factory, sql_gemini):
    data = tmp_path_factory.mktemp("sql-api") / "data"
    commit_run(data, FIRST_RUN)
    commit_run(data, SECOND_RUN, SECOND, second_fields)
    commit_run(data, ELSEWHERE)
    commit_run(data, OTHER_RUN, word=SECRET)
    sql_service = SqlService(data, default_model=DEFAULT_GEMINI_MODEL, model_base_url=sql_gemini.base_url)
    with pytest.MonkeyPatch.context() as patch, TestClient(sql_service.app) as client:
        patch.setenv("GEMINI_API_KEY", "any")
        sql_service.client = client
        yield sql_service
