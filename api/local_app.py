"""The pages for the user of this machine, without an API key: the service behind `promptreel open`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from fastapi import FastAPI
from sqlalchemy import delete, select

from promptreel.api.app import create_app
from promptreel.api.config import ApiConfig
from promptreel.api.db.clock import now
from promptreel.api.db.engine import Database
from promptreel.api.db.models import Account, ApiKey, RunRecord
from promptreel.api.jobs.local_runs import LocalRuns
from promptreel.api.runs.local_account import local_account
from promptreel.api.site import open_link
from promptreel.api.web.auth import create_account, create_key
from promptreel.api.web.loopback_hosts import LoopbackHosts
from promptreel.api.web.session import SESSION_COOKIE
from promptreel.schemas.errors import InvalidInput

_KEY_NAME: Final = "promptreel open"
_KEY_LIFETIME: Final = timedelta(days=1)  # if the process ends without deleting it; nobody knows its secret


def create_local_app(config: ApiConfig, port: int) -> FastAPI:
    """Create the application for a port of the loopback address. It executes no runs; `sign_in_link` must be set in its
    state.

    It may show any file that a run of the command line has read, because it serves only the user who could read it anyway.
    """
    app = create_app(config.model_copy(update={"supervise": False, "public_url": ""}))
    app.state.trusts_local_files = True
    app.state.session_cookie = f"{SESSION_COOKIE}_{port}"
    app.include_router(open_link.router)
    app.add_middleware(LoopbackHosts, port=port)
    return app


def owner_of_local_runs(database: Database, config: ApiConfig) -> str:
    """Return the account whose runs are shown; create one if none exists.

    Raises:
        SettingsError: several exist, and none is set.
    """
    with database.write() as session:
        found = local_account(session, config)
        account = session.get(Account, found) if found is not None else create_account(session, "default")
        assert account is not None
        return account.account_id


def find_local_run(database: Database, runs: LocalRuns, account_id: str, run_id: str) -> None:
    """Make sure that the account has a run, and that its row is up to date.

    Raises:
        InvalidInput: the run belongs to another account, or to a service with another database.
        ExpectedError: its folder does not exist or is not readable.
    """
    runs.adopt(run_id)
    with database.read() as session:
        owner = session.scalar(select(RunRecord.account_id).where(RunRecord.run_id == run_id))
    if owner != account_id:
        of = f"account {owner}" if owner is not None else "a service with another database"
        raise InvalidInput(f"run {run_id} belongs to {of}; sign in to promptreel serve with a key of its account")


@contextmanager
def temporary_key(database: Database, account_id: str) -> Iterator[str]:
    """Create a key that may read what the account owns, and delete it at the end. Yields the hash of its secret, which
    nobody gets."""
    with database.write() as session:
        is_left_over = (ApiKey.name == _KEY_NAME) & (ApiKey.expires_at < now())
        session.execute(delete(ApiKey).where(is_left_over))
        record, _ = create_key(session, account_id, _KEY_NAME, ["read"], now() + _KEY_LIFETIME)
        key_id, key_hash = record.key_id, record.key_hash
    try:
        yield key_hash
    finally:
        with database.write() as session:
            session.execute(delete(ApiKey).where(ApiKey.key_id == key_id))
