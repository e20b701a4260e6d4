"""The settings of a service and errors of its database, shared by `serve`, `keys` and `open`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from promptreel.schemas.errors import SettingsError


def service_config(data_dir: str, media_roots: tuple[str, ...] = ()) -> Any:
    """Return the settings of the environment for a data folder, with further media folders."""
    from pathlib import Path

    from promptreel.api.config import config_from_environment

    config = config_from_environment()
    roots = tuple(Path(root).expanduser().resolve() for root in media_roots)
    return config.model_copy(update={"data_dir": data_dir, "media_roots": (*config.media_roots, *roots)})


@contextmanager
def database_errors(url: str) -> Iterator[None]:
    """Report a database that cannot be opened, without its password.

    Raises:
        SettingsError: the database cannot be opened; the message gives the reason and what to check.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    try:
        yield
    except (OSError, ImportError, SQLAlchemyError) as error:
        try:
            shown = make_url(url).render_as_string(hide_password=True)
        except ArgumentError:
            shown = "of DATABASE_URL, which is not a valid database URL,"
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise SettingsError(
            f"the database {shown} cannot be opened: {reason}; check DATABASE_URL or --data-dir"
        ) from error
