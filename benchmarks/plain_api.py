"""The peer of `api_requests`: a straightforward FastAPI and SQLite service without accounts or idempotency.

python -m benchmarks.plain_api DATABASE PORT
"""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
import uuid
from typing import Any

import uvicorn
from fastapi import FastAPI


def plain_api(database: str) -> FastAPI:
    """Create an app with two routes over one table: start a run and get a run.

    The handlers are plain functions, because sqlite3 blocks.
    """
    app = FastAPI()
    local = threading.local()

    def connection() -> sqlite3.Connection:
        if not hasattr(local, "connection"):
            local.connection = sqlite3.connect(database, timeout=30)
            local.connection.execute("PRAGMA journal_mode=WAL")
            local.connection.execute("PRAGMA synchronous=FULL")
            local.connection.execute("CREATE TABLE IF NOT EXISTS runs (run_id TEXT PRIMARY KEY, body TEXT)")
        return local.connection  # type: ignore[no-any-return]

    @app.post("/runs", status_code=202)
    def execute(body: dict[str, Any]) -> dict[str, Any]:
        run = {"run_id": f"run_{uuid.uuid4().hex}", "status": "pending", **body}
        with connection() as database:
            database.execute("INSERT INTO runs VALUES (?, ?)", (run["run_id"], json.dumps(run)))
        return run

    @app.get("/runs/{run_id}")
    def get(run_id: str) -> dict[str, Any]:
        (body,) = connection().execute("SELECT body FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        return json.loads(body)  # type: ignore[no-any-return]

    return app


if __name__ == "__main__":
    uvicorn.run(plain_api(sys.argv[1]), port=int(sys.argv[2]), log_level="critical", access_log=False)
