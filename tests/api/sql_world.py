"""Helpers of SQL sandbox tests; their fixtures are in `tests/api/sql_fixtures.py`."""

import http.server
import json
import threading

import duckdb

from promptreel.api.sql.limits import SqlLimits
from promptreel.tables.analyst_views import analyst_views
from promptreel.tables.layout import run_folder
from promptreel.tables.reader import committed_run
from promptreel.tables.storage import open_storage
from tests.sql_runs import (
    FIRST_RUN,
    OTHER_RUN,
    SECOND,
    SECOND_RUN,
    SECRET,
    commit_run,
    second_fields,
    tree_hash,
)

LIMITS = SqlLimits(timeout_s=10)


class SqlWorld:
    """A data folder with runs of two accounts, a separate folder of secrets, and a web server that records requests."""

    def __init__(self, folder):
        self.data, self.secrets = folder / "data", folder / "secrets"
        commit_run(self.data, FIRST_RUN)
        commit_run(self.data, SECOND_RUN, SECOND, second_fields)
        commit_run(self.data, OTHER_RUN, word=SECRET)
        self.secrets.mkdir()
        for name, text in (
            ("secret.txt", SECRET),
            ("secret.csv", f"a,b\n{SECRET},1\n"),
            ("secret.json", json.dumps({"a": SECRET})),
        ):
            (self.secrets / name).write_text(text)
        with duckdb.connect(str(self.secrets / "secret.duckdb")) as connection:
            connection.execute(f"CREATE TABLE t AS SELECT '{SECRET}' AS a")
            connection.execute(f"COPY t TO '{self.secrets}/secret.parquet'")
        storage = open_storage(self.data)
        runs = [committed_run(storage, run_id) for run_id in (SECOND_RUN, FIRST_RUN)]
        self.tables = analyst_views(storage, runs)
        self.views = {view.name: view.sql for view in self.tables.views}
        self.files = self.tables.files
        self.part = self._part_of(storage, FIRST_RUN)
        self.other_part = self._part_of(storage, OTHER_RUN)
        self.visits = []
        visits = self.visits

        class Canary(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                visits.append(self.path)
                self.send_response(404)
                self.end_headers()

            do_HEAD = do_PUT = do_POST = do_GET

            def log_message(self, *words):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Canary)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _part_of(self, storage, run_id):
        part = committed_run(storage, run_id).manifest.parts_of("results")[0]
        return str(self.data / run_folder(run_id) / part.file)

    def filled(self, statement):
        """Fill the placeholders of a corpus statement."""
        values = {
            "part": self.part, "other_part": self.other_part, "folder": str(self.secrets), "run": FIRST_RUN,
            "other": OTHER_RUN, "url": f"http://127.0.0.1:{self.server.server_port}",
        }  # fmt: skip
        for name, value in values.items():
            statement = statement.replace("{" + name + "}", value)
        return statement.replace("{{", "{").replace("}}", "}")

    def request(self, statement, limits=LIMITS):
        return {
            "query": statement, "views": self.views, "files": list(self.files), "row_limit": 50, "check_only": False,
            "limits": limits.to_child(),
        }  # fmt: skip

    def state(self):
        return tree_hash(self.data), tree_hash(self.secrets)

    def leaks(self, text):
        """Return the secret words that an answer contains."""
        return [word for word in (SECRET, str(self.data), "root:x:0") if word in text]


def run(sandbox, sql_world, statement, **options):
    return sandbox.run(statement, sql_world.views, sql_world.files, **{"row_limit": 100, **options})
