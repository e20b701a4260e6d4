"""Database migration with Alembic; safe when several processes start at the same time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import text

from promptreel.api.db.engine import MIGRATION_LOCK, Database
from promptreel.tables.storage import PRIVATE_MODE

_FOLDER = Path(__file__).parent / "migrations"
_LOCK_NUMBER = 7_230_117  # arbitrary, but unique within the database


def migrate(database: Database, revision: str = "head") -> None:
    """Upgrade to a revision; do nothing if the database already has it."""
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    with _lock(database), database.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()


@contextmanager
def _lock(database: Database) -> Iterator[None]:
    """Hold an advisory lock (PostgreSQL) or a lock file next to the database (SQLite)."""
    if database.is_sqlite:
        name = database.engine.url.database
        if not name or name == ":memory:":
            yield
            return
        path = Path(name)
        lock = path.with_name(path.name + MIGRATION_LOCK)
        with open(lock, "ab", opener=lambda name, flags: os.open(name, flags, PRIVATE_MODE)) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        return
    with database.engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": _LOCK_NUMBER})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:number)"), {"number": _LOCK_NUMBER})
