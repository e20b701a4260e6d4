"""Helpers of SQL API tests; their fixtures are in `tests/api/sql_fixtures.py`."""

from datetime import UTC, datetime

from promptreel.api.app import PREFIX, create_app
from promptreel.api.config import ApiConfig
from promptreel.api.db.models import MediaIndex, RunRecord
from promptreel.api.routes import sql
from promptreel.api.web.auth import create_account, create_key
from promptreel.schemas.settings import RunSettings
from tests.prompts import NESTED
from tests.sql_runs import (
    FIRST_RUN,
    OTHER_RUN,
    SECOND,
    SECOND_RUN,
)

UNFINISHED = "run_20260104-100000-dddddd"


ELSEWHERE = "run_20251231-100000-eeeeee"


class SqlService:
    """The application over a data folder with runs of two accounts."""

    def __init__(self, data, **settings):
        self.data = data
        self.app = create_app(ApiConfig(data_dir=str(data), supervise=False, **settings))
        paths = {getattr(route, "path", "") for route in self.app.routes} | set(self.app.openapi()["paths"])
        if f"{PREFIX}/search/sql/{{index_id}}" not in paths:
            self.app.include_router(sql.router, prefix=PREFIX)
            self.app.openapi_schema = None
        self.keys = {}
        with self.app.state.database.write() as session:
            for name in ("mine", "other"):
                account = create_account(session, name).account_id
                self.keys[name] = create_key(session, account, "k", ["search"])[1]
                session.add(
                    MediaIndex(index_id=f"idx_{name}", account_id=account, name=name, created_at=day_of_january(1))
                )
                if name == "mine":
                    session.add(
                        MediaIndex(index_id="idx_two", account_id=account, name="two", created_at=day_of_january(1))
                    )
                session.flush()
                if name == "mine":
                    self._add(session, account, FIRST_RUN, "idx_mine", NESTED, 1)
                    self._add(session, account, SECOND_RUN, "idx_mine", SECOND, 2)
                    self._add(session, account, UNFINISHED, "idx_mine", NESTED, None)
                    self._add(session, account, ELSEWHERE, "idx_two", NESTED, 0)
                else:
                    self._add(session, account, OTHER_RUN, "idx_other", NESTED, 3)

    def _add(self, session, account, run_id, index_id, prompt, day):
        session.add(
            RunRecord(
                run_id=run_id, account_id=account, key_id=None, prompt_id=f"prompt_{prompt.name}", prompt_name=prompt.name,
                prompt=prompt.to_dict(), settings=RunSettings().to_dict(), target={}, index_id=index_id,
                status="completed" if day is not None else "processing", summary={},
                created_at=day_of_january((day or 0) + 1), manifest_number=1 if day is not None else None,
            )
        )  # fmt: skip

    def post(self, path, body=None, who="mine"):
        return self.client.post(f"{PREFIX}/search/sql/{path}", json=body or {}, headers={"X-API-Key": self.keys[who]})

    def rows(self, query, path="idx_mine", **body):
        answer = self.post(path, {"query": query, **body})
        assert answer.status_code == 200, answer.text
        return answer.json()


def day_of_january(day):
    return datetime(2026, 1, day, tzinfo=UTC)


DRAFTS = {"next": []}
