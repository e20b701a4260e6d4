"""The account that owns the runs of the command line in the data folder."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from promptreel.api.config import ApiConfig, variables
from promptreel.api.db.models import Account
from promptreel.schemas.errors import SettingsError


def local_account(session: Session, config: ApiConfig) -> str | None:
    """Return the id of the account: the one that is set, otherwise the only one; None if no account exists.

    Raises:
        SettingsError: the account that is set does not exist, or several exist and none is set.
    """
    variable = variables()["local_account"]
    if config.local_account is not None:
        if session.get(Account, config.local_account) is None:
            raise SettingsError(
                f"{variable} is {config.local_account!r}; no account has this id (promptreel keys list shows accounts)"
            )
        return config.local_account
    found = session.scalars(select(Account.account_id).limit(2)).all()
    if len(found) > 1:
        raise SettingsError(
            f"several accounts exist, so none gets the runs of the command line; set {variable} to the id of one "
            "(promptreel keys list shows accounts)"
        )
    return found[0] if found else None
