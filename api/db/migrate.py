"""Brings a database up to date with Alembic's migrations, once for several processes that start together."""

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
_LOCK_NUMBER = 7_230_117  # any number that is ours alone


def migrate(database: Database, revision: str = "head") -> None:
    """Migrates upwards to a revision; does nothing where the database is there already."""
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    with _alone(database), database.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()


@contextmanager
def _alone(database: Database) -> Iterator[None]:
    """Holds a lock of the database (PostgreSQL) or beside its file (SQLite) for the block."""
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
