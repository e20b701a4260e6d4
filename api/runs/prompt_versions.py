"""Version numbers of an account's prompts; for runs without a service see `promptreel.tables.prompt_versions`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from sqlalchemy import bindparam, func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from promptreel.api.db.clock import now
from promptreel.api.db.models import PromptVersionRecord
from promptreel.schemas.prompt import Prompt

_ATTEMPTS: Final = 10
_VERSION: Final = select(PromptVersionRecord.version).where(
    PromptVersionRecord.account_id == bindparam("account_id"),
    PromptVersionRecord.name == bindparam("name"),
    PromptVersionRecord.content_id == bindparam("content_id"),
)


def register_version(session: Session, account_id: str, prompt: Prompt, preferred: int | None = None) -> int:
    """Return the version number of a prompt's content; a new content of this name gets the next number.

    Args:
        preferred: the number of a new content, if no other has it.

    Raises:
        IntegrityError: other transactions took the next number ten times.
    """
    content = {"account_id": account_id, "name": prompt.name, "content_id": prompt.prompt_id}
    newest = select(func.max(PromptVersionRecord.version)).where(
        PromptVersionRecord.account_id == account_id, PromptVersionRecord.name == prompt.name
    )
    for attempt in range(_ATTEMPTS):
        if (known := session.scalar(_VERSION, content)) is not None:
            return int(known)
        version: int = (session.scalar(newest) or 0) + 1
        if preferred is not None and session.get(PromptVersionRecord, (account_id, prompt.name, preferred)) is None:
            version = preferred
        values = {**content, "version": version, "definition": prompt.to_dict(), "created_at": now()}
        try:
            with session.begin_nested():
                session.execute(insert(PromptVersionRecord), values)
            return version
        except IntegrityError:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def known_versions(session: Session, account_id: str, names: Iterable[str]) -> Mapping[tuple[str, str], int]:
    """Return version numbers by (name, content id) for these prompt names of an account."""
    rows = select(PromptVersionRecord.name, PromptVersionRecord.content_id, PromptVersionRecord.version).where(
        PromptVersionRecord.account_id == account_id, PromptVersionRecord.name.in_(list(names))
    )
    return {(name, content_id): version for name, content_id, version in session.execute(rows)}
